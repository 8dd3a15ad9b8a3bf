"""Rows of a dataset, checked against its record when loaded, and its splits.

A row that does not fit stops the load with file, row and field. Fields the record does not have are left out.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic_core import SchemaValidator, ValidationError

from lmgraph.errors import ConfigError, DataError
from lmgraph.graph.graph import DatasetSpec, SplitSpec
from lmgraph.graph.types import RecordType, ScalarType
from lmgraph.program.values import fields_schema, misfit

DEFAULT_SPLITS = (SplitSpec("train", share=0.6), SplitSpec("dev", share=0.2), SplitSpec("test", share=0.2))
"""Of a dataset that declares none."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row. ``id`` names file and line, so that it stays the same whatever split or limit it is read through."""

    id: str
    values: Mapping[str, Any]


def load_splits(spec: DatasetSpec, root: Path, data: Path | None = None) -> dict[str, list[Example]]:
    """Every split of the dataset. ``data`` replaces its files: all its rows become each declared split's source.

    Raises: DataError for a file that is missing, unreadable or empty, and for a row that does not fit.
    """
    declared = spec.splits or DEFAULT_SPLITS
    if data is not None:
        kind: Literal["jsonl", "csv"] = "csv" if data.suffix.lower() == ".csv" else "jsonl"
        rows = _load(data, kind, spec.record, data.name)
        return {split.name: rows for split in declared} | {"all": rows}
    splits: dict[str, list[Example]] = {}
    cut = [split for split in declared if split.path is None]
    if cut:
        rows = _load(root / spec.path, spec.format, spec.record, spec.path)
        splits |= _cut(rows, cut, spec)
    for split in declared:
        if split.path is not None:
            splits[split.name] = _load(root / split.path, spec.format, spec.record, split.path)
    return splits


def _cut(rows: list[Example], splits: list[SplitSpec], spec: DatasetSpec) -> dict[str, list[Example]]:
    shuffled = list(rows)
    random.Random(spec.seed).shuffle(shuffled)
    result: dict[str, list[Example]] = {}
    start = 0
    for split in splits:
        size = split.count if split.count is not None else round((split.share or 0.0) * len(rows))
        result[split.name] = shuffled[start : start + size]
        if len(result[split.name]) < (split.count or 0) or not result[split.name]:
            raise DataError(
                f"Dataset `{spec.name}` has {len(rows)} rows, too few for its split `{split.name}`"
                f" ({size} rows after row {start}).",
                hint="make the splits smaller, or give more rows",
            )
        start += size
    return result


def _load(path: Path, kind: Literal["jsonl", "csv"], record: RecordType, name: str) -> list[Example]:
    validator = SchemaValidator(fields_schema(record.fields, extra="ignore"))
    examples = []
    try:
        for number, row in _rows(path, kind, record, name):
            try:
                examples.append(Example(f"{name}:{number}", validator.validate_python(row)))
            except ValidationError as error:
                raise DataError(
                    f"{path}, row {number}: {misfit(error).message}.",
                    hint=f"a row of record {record.name} has {_shape(record)}",
                ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).", hint="save it as UTF-8") from None
    except OSError as error:
        raise DataError(
            f"The data file {path} cannot be read: {error.strerror or error}.",
            hint="check the dataset's path, or give other rows with --data",
        ) from None
    if not examples:
        raise DataError(
            f"The data file {path} has no rows.", hint=f"a row of record {record.name} has {_shape(record)}"
        )
    return examples


def _rows(path: Path, kind: str, record: RecordType, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """One-based line (jsonl) or data row (csv) numbers and raw rows."""
    if kind == "csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            try:
                for number, row in enumerate(csv.DictReader(file, strict=True), 1):
                    yield number, _typed(row, record)
            except csv.Error as error:
                raise DataError(f"{path} is not CSV: {error}.", hint="check its quotes and commas") from None
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, row {number}: not JSON ({error}).", hint="one JSON object a line") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, row {number}: expected a JSON object, got {type(row).__name__}.")
            yield number, row


def _typed(row: Mapping[str | None, Any], record: RecordType) -> dict[str, Any]:
    """CSV cells as values: texts stay, everything else is read as JSON where that works, else left for the check."""
    typed: dict[str, Any] = {}
    for field in record.fields:
        cell = row.get(field.name)
        if cell is None or (cell == "" and field.has_default):
            continue
        if isinstance(field.type, ScalarType) and field.type.name == "str":
            typed[field.name] = cell
            continue
        try:
            typed[field.name] = json.loads(cell)
        except ValueError:
            typed[field.name] = cell
    return typed


def pick_split(splits: Mapping[str, list[Example]], name: str) -> list[Example]:
    """Raises: ConfigError naming the splits there are."""
    if name not in splits:
        raise ConfigError(f"The dataset has no split `{name}`.", hint=f"it has: {', '.join(splits)}")
    return splits[name]


def _shape(record: RecordType) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in record.fields)
