"""Datasets: where rows are, what record they have, and how they are split. Reads no rows."""

from __future__ import annotations

from lmgraph.compiler.blocks import Settings, number_of
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.relations import UNKNOWN, described, fits
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.graph.graph import DatasetSpec, SplitSpec
from lmgraph.graph.types import RecordType
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

DATASET_SETTINGS = ("split", "seed")
FORMATS = ("jsonl", "csv")
MOST_ROWS = 1_000_000_000
_ROUNDING = 1e-9
"""Shares such as 0.8, 0.1 and 0.1 sum to a little more than 1 in floats."""


def read_dataset(
    declaration: tree.Dataset, declarations: Declarations, files: ProgramFiles, reporter: Reporter
) -> DatasetSpec | None:
    """The dataset's spec, or None where its row type or format is wrong."""
    name = declaration.name.text
    settings = Settings(
        f"dataset `{name}`", declaration.block.entries if declaration.block else (), DATASET_SETTINGS, reporter
    )
    seed = settings.integer("seed", 0, 2**31 - 1)
    splits = _splits(settings, files, reporter)
    row = declarations.type(declaration.type)
    format = declaration.source.format
    if format.text not in FORMATS:
        reporter.unknown(
            "E0203",
            format.span,
            f"data is not read from `{format.text}`",
            format.text,
            FORMATS,
            otherwise=f"the formats are {listed(FORMATS)}",
        )
    path = _data_path(declaration.source.path, files, reporter)
    if row is UNKNOWN:
        return None
    if not isinstance(row, RecordType) or "." in row.name:
        reporter.error(
            "E0301",
            declaration.type.span,
            f"rows are of a record; this is `{described(row)}`",
            help="declare `record Row { … }` with a field for each column",
        )
        return None
    if path is None or format.text not in FORMATS:
        return None
    return DatasetSpec(name, row, "csv" if format.text == "csv" else "jsonl", path, splits, seed or 0)


def _data_path(path: tree.Constant, files: ProgramFiles, reporter: Reporter) -> str | None:
    relative = files.relative(path)
    if relative is not None and not files.exists(relative):
        reporter.warning(
            "W0005",
            path.span,
            f"there is no file `{relative}` in the program's folder yet",
            help="running the program does not need it; `eval` and `optimize` do, unless `--data` names another file",
        )
    return relative


def _splits(settings: Settings, files: ProgramFiles, reporter: Reporter) -> tuple[SplitSpec, ...]:
    block = settings.value("split")
    if block is None:
        return ()
    if not isinstance(block, tree.Block):
        reporter.error(
            "E0312",
            block.span,
            "`split` must be a block of named splits",
            help="write `split: { train: 0.8, dev: 0.2 }`",
        )
        return ()
    splits: dict[str, SplitSpec] = {}
    total = 0.0
    for entry in block.entries:
        name, value = entry.key.text, entry.value
        if name in splits:
            reporter.error("E0202", entry.key.span, f"there are two splits `{name}`", help="rename one of them")
            continue
        number = number_of(value)
        if isinstance(value, tree.Constant) and isinstance(value.value, str):
            splits[name] = SplitSpec(name, path=_data_path(value, files, reporter))
        elif isinstance(number, float) and 0 < number <= 1:
            splits[name] = SplitSpec(name, share=number)
            total += number
        elif isinstance(number, int) and 1 <= number <= MOST_ROWS:
            splits[name] = SplitSpec(name, count=number)
        else:
            reporter.error(
                "E0312",
                value.span,
                f"split `{name}` must be a share, a number of rows or a file",
                help=f'write `{name}: 0.8` for a share, `{name}: 300` for rows, `{name}: "{name}.jsonl"` for a file',
            )
    if total > 1 + _ROUNDING:
        reporter.error(
            "E0319",
            block.span,
            f"the shares of these splits sum to {total:g}, which is more than all rows",
            help="make them sum to 1 or less; splits never share a row",
        )
    return tuple(splits.values())


def check_rows_feed(
    flow: tree.Flow | tree.Module, dataset: tree.Dataset, place: Span, declarations: Declarations, reporter: Reporter
) -> None:
    """Reports inputs of the flow that the dataset's rows cannot give."""
    row = declarations.type(dataset.type)
    if not isinstance(row, RecordType) or row is UNKNOWN:
        return
    declared = [
        Label(flow.name.span, f"`{flow.name.text}` is declared here"),
        Label(dataset.name.span, f"its rows are of `{row}`"),
    ]
    for parameter in declarations.signature(flow).inputs:
        field = row.field(parameter.name)
        if field is None and not parameter.has_default:
            reporter.error(
                "E0318",
                place,
                f"rows of `{dataset.name.text}` have no `{parameter.name}`, which `{flow.name.text}` needs",
                secondary=declared,
                help=f"give the record `{row}` a field `{parameter.name}: {described(parameter.type)}`",
            )
        elif field is not None and not fits(field.type, parameter.type):
            reporter.error(
                "E0318",
                place,
                f"`{parameter.name}` is `{described(field.type)}` in rows of `{dataset.name.text}`; "
                f"`{flow.name.text}` needs `{described(parameter.type)}`",
                secondary=declared,
            )
