"""From a completion's text to typed outputs, and from types to the decode constraint that makes parsing trivial.

Two forms. `bare`: one scalar output stands alone (`PlayMusic`). `json`: one JSON object holds the fields in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from lmgraph.graph.graph import ModuleSpec
from lmgraph.graph.types import INT, STR, EnumType, Field, LiteralType, RecordType, ScalarType, Type
from lmgraph.program.constraints import bounds_of
from lmgraph.program.json_schema import field_json_schema, object_schema
from lmgraph.program.values import Misfit, check_field, validate, validate_json
from lmgraph.runtime.engine import Choices, Constraint, JsonSchema, Regex

Decoding: TypeAlias = Literal["constrained", "strict", "tolerant"]
"""constrained: the decoder can only write what fits. strict: free sampling, and the text must fit as it stands.
tolerant: free sampling, and what plainly was meant is accepted (other case, quotes, text around a JSON object)."""

REASONING = Field("reasoning", STR, "think step by step, briefly")
"""The field that a module writes first where it thinks first (`ModuleSpec.reasons`)."""

INT_PATTERN = r"-?(0|[1-9][0-9]{0,17})"
FLOAT_PATTERN = r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,12})?"
MOST_NUMBERS = 200
"""Bare whole numbers in a range of no more than these are choices."""


class ParseProblem(Exception):
    """The text does not fit; the message says what was expected."""


@dataclass(frozen=True)
class OutputForm:
    """How one module's outputs are written and read."""

    fields: tuple[Field, ...]
    """What the model writes: the module's outputs, with reasoning first where it thinks first."""

    @staticmethod
    def of(module: ModuleSpec) -> OutputForm:
        return OutputForm((REASONING, *module.outputs) if module.reasons else module.outputs)

    @cached_property
    def bare(self) -> Field | None:
        """The one field of the bare form, or None for the JSON form."""
        if len(self.fields) == 1 and isinstance(self.fields[0].type, ScalarType | EnumType | LiteralType):
            return self.fields[0]
        return None

    @cached_property
    def record(self) -> RecordType:
        return RecordType("outputs", self.fields)

    @cached_property
    def constraint(self) -> Constraint | None:
        """None where any text fits."""
        if self.bare is None:
            return JsonSchema(json.dumps(object_schema(self.fields)))
        return _bare_constraint(self.bare)

    def write(self, outputs: Mapping[str, Any]) -> str:
        """The text a model should have written for ``outputs``."""
        if self.bare is None:
            return json.dumps({field.name: outputs[field.name] for field in self.fields}, ensure_ascii=False)
        value = outputs[self.bare.name]
        return value if isinstance(value, str) else json.dumps(value)

    def read(self, text: str, *, tolerant: bool = False) -> dict[str, Any]:
        """Outputs by name. Raises: ParseProblem."""
        if self.bare is None:
            return self._read_object(text, tolerant)
        value = _read_bare(text, self.bare.type, tolerant)
        try:
            check_field(value, self.bare)
        except Misfit as problem:
            raise ParseProblem(problem.message) from None
        return {self.bare.name: value}

    def _read_object(self, text: str, tolerant: bool) -> dict[str, Any]:
        stripped = text.strip()
        if tolerant:
            stripped = _first_object(stripped)
        try:
            value: dict[str, Any] = validate_json(stripped, self.record)
        except Misfit as problem:
            raise ParseProblem(f"not the JSON object that was asked for: {problem.message}") from None
        return value


def _bare_constraint(field: Field) -> Constraint | None:
    match field.type:
        case EnumType(labels=labels):
            return Choices(labels)
        case LiteralType(values=values):
            return Choices(tuple(str(value) for value in values))
        case ScalarType(name="bool"):
            return Choices(("true", "false"))
        case ScalarType(name="int" | "float" as name):
            if set(field_json_schema(field)) != {"type"}:
                return _bounded_number(field)
            return Regex(INT_PATTERN if name == "int" else FLOAT_PATTERN)
        case ScalarType(name="str"):
            return _bounded_text(field)
        case _:
            return None


def _bounded_number(field: Field) -> Constraint:
    schema = field_json_schema(field)
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(low, int) and isinstance(high, int) and low <= high < low + MOST_NUMBERS and field.type == INT:
        return Choices(tuple(str(number) for number in range(low, high + 1)))
    return JsonSchema(json.dumps(schema))


def _bounded_text(field: Field) -> Constraint | None:
    """A text of so many characters that does not begin with white space, which is not read."""
    if field.constraint is None:
        return None
    least, most = bounds_of(field.constraint).length.whole()
    least = max(least or 0, 0)
    if most is None and least == 0:
        return None
    rest = f"(?s:.{{{max(least - 1, 0)},{'' if most is None else max(most - 1, 0)}}})"
    return Regex(rf"\S{rest}" if least else rf"(\S{rest})?")


def _read_bare(text: str, type_: Type, tolerant: bool) -> Any:
    stripped = text.strip()
    match type_:
        case ScalarType(name="str"):
            return stripped
        case EnumType() | LiteralType():
            values = (
                {label: label for label in type_.labels}
                if isinstance(type_, EnumType)
                else {str(value): value for value in type_.values}
            )
            if stripped in values:
                return values[stripped]
            meant = _meant(stripped, tuple(values)) if tolerant else None
            if meant is not None:
                return values[meant]
            raise ParseProblem(f"expected one of {_some(tuple(values))}, got {_quote(stripped)}")
        case _:
            candidate = stripped.lower().strip("`'\"., ") if tolerant else stripped
            try:
                return validate(json.loads(candidate), type_)
            except (ValueError, RecursionError, Misfit):
                raise ParseProblem(f"expected {type_}, got {_quote(stripped)}") from None


def _meant(text: str, labels: tuple[str, ...]) -> str | None:
    """The one label that the text's first line names, ignoring case and punctuation around it."""
    line = text.splitlines()[0].casefold() if text else ""
    line = line.rpartition(":")[2].strip(" \t`'\"*.,!") or line
    exact = [label for label in labels if label.casefold() == line]
    if exact:
        return exact[0]
    named = [label for label in labels if re.search(rf"(?<!\w){re.escape(label.casefold())}(?!\w)", line)]
    return named[0] if len(named) == 1 else None


def _first_object(text: str) -> str:
    start = text.find("{")
    if start < 0:
        return text
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return text
    return text[start:end]


def _some(labels: tuple[str, ...], limit: int = 8) -> str:
    shown = ", ".join(labels[:limit])
    return shown if len(labels) <= limit else f"{shown} and {len(labels) - limit} more"


def _quote(text: str, limit: int = 80) -> str:
    return json.dumps(text if len(text) <= limit else text[: limit - 1] + "…", ensure_ascii=False)
