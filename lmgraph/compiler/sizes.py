"""How large types are when they are written out, as a JSON Schema for a model, and the bounds on it."""

from __future__ import annotations

from dataclasses import dataclass

from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.types import ListType, MapType, OptionalType, RecordType, Type, UnionType
from lmgraph.source.text import Span

MOST_LEVELS = 16
MOST_FIELDS = 1_000
"""A type is written out wherever it is used: these bound its size."""


@dataclass(frozen=True, slots=True)
class _Extent:
    levels: int
    fields: int


class Sizes:
    """The sizes of the records seen so far, and reports of those that are too large."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._extents: dict[str, _Extent] = {}

    def too_deep(self, open_records: int, span: Span) -> bool:
        """Reports a type that is reached through too many others, before reading it."""
        if open_records <= MOST_LEVELS:
            return False
        self._report(span)
        return True

    def fits(self, record: RecordType, span: Span) -> bool:
        """Notes how large the record is, its fields' own fields included; reports one that is too large."""
        inside = [self._extent(field.type) for field in record.fields]
        levels = 1 + max((one.levels for one in inside), default=0)
        fields = len(inside) + sum(one.fields for one in inside)
        self._extents[record.name] = _Extent(levels, fields)
        if levels <= MOST_LEVELS and fields <= MOST_FIELDS:
            return True
        self._report(span)
        return False

    def _extent(self, type: Type) -> _Extent:
        match type:
            case ListType(element=inner) | OptionalType(inner=inner) | MapType(value=inner):
                found = self._extent(inner)
                return _Extent(found.levels + 1, found.fields)
            case UnionType(options=options):
                parts = [self._extent(option) for option in options]
                return _Extent(1 + max(part.levels for part in parts), sum(part.fields for part in parts))
            case RecordType(name=name):
                return self._extents.get(name, _Extent(0, 0))
            case _:
                return _Extent(0, 0)

    def _report(self, span: Span) -> None:
        self._reporter.error(
            "E0206",
            span,
            f"this type holds others more than {MOST_LEVELS} levels deep, or more than {MOST_FIELDS:,} fields",
            help="flatten it: hold what a step needs, not everything that is known",
        )
