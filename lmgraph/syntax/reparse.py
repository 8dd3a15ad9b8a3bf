"""Parses a file again after a change: declarations whose text stayed keep their trees, which only move.

Moving changes the spans of trees in place, so that what is known of a tree by its identity stays known. Nobody else may
hold the trees of an earlier text: their spans are those of the last one.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from lmgraph.source.text import Source, Span
from lmgraph.syntax import tree
from lmgraph.syntax.parser import (
    ParseResult,
    Range,
    declaration_ranges,
    parse,
    parse_part,
    refusal,
    without_mark,
)
from lmgraph.syntax.tree_expressions import NOWHERE


class Reparser:
    """The texts of one file, one after another."""

    def __init__(self) -> None:
        self._parts: dict[str, list[_Part]] = {}
        """By their text: equal declarations are different trees."""

    def parse(self, source: Source) -> ParseResult:
        """The same as `parser.parse` gives."""
        if refusal(source) is not None:
            return parse(source)
        text = without_mark(source.text)
        before, self._parts = self._parts, {}
        known: dict[Range, tree.File] = {}
        ranges = list(declaration_ranges(text))
        for start, end in ranges:
            written = text[start:end]
            same = before.get(written)
            part = same.pop() if same else _Part.of(source, text, start, end)
            if part is not None:
                part.move(start)
                self._parts.setdefault(written, []).append(part)
                known[start, end] = part.file
        declarations = tuple(one for part in known.values() for one in part.declarations)
        if len(known) < len(ranges) or not declarations:
            return parse(source, known)
        edition = known[ranges[0]].edition
        return ParseResult(tree.File(edition, declarations, Span(source.name, 0, len(text))), ())


class _Part:
    """The declarations of a part of the text, most often one."""

    def __init__(self, file: tree.File, start: int) -> None:
        self.file = file
        self._start = start
        self._nodes: list[Any] | None = None

    @classmethod
    def of(cls, source: Source, text: str, start: int, end: int) -> _Part | None:
        """None where something is wrong there."""
        file = parse_part(source, text, start, end)
        return cls(file, start) if file is not None else None

    def move(self, start: int) -> None:
        """To where its text starts now."""
        by = start - self._start
        if by == 0:
            return
        if self._nodes is None:
            self._nodes = _with_places(self.file)
        for node in self._nodes:
            span: Span = node.span
            object.__setattr__(node, "span", Span(span.file, span.start + by, span.end + by))
        self._start = start


_FIELDS: dict[type, tuple[str, ...]] = {
    one: tuple(field.name for field in fields(one) if field.name != "span")
    for one in vars(tree).values()
    if isinstance(one, type) and is_dataclass(one) and one is not Span
}


def _with_places(file: tree.File) -> list[Any]:
    """Every node that has a place, names included, each once."""
    found: dict[int, Any] = {}
    waiting: list[Any] = [file.declarations]
    while waiting:
        one = waiting.pop()
        if type(one) is tuple:
            waiting.extend(one)
        elif type(one) in _FIELDS and id(one) not in found:
            found[id(one)] = one
            waiting.extend(getattr(one, name) for name in _FIELDS[type(one)])
    return [one for one in found.values() if one.span is not NOWHERE]
