"""Diagnostics for people (a terminal) and for programs (JSON). Knows nothing of what the diagnostics are about."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraph.errors import CompileError
from lmgraph.source.diagnostic import Diagnostic, Label
from lmgraph.source.text import Source, Span

TAB_WIDTH = 4
EXCERPT_COLUMNS = 140
"""A longer source line is cut to a window around the marked place."""

_RED, _YELLOW, _BLUE, _GREEN, _BOLD, _RESET = "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[32m", "\x1b[1m", "\x1b[0m"


def compile_error(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> CompileError:
    """The error to raise for ``diagnostics``: in source order, with the text that a terminal shows."""
    ordered = in_source_order(diagnostics)
    return CompileError(ordered, render(ordered, sources))


def in_source_order(diagnostics: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Files in the order in which they are first met, places from top to bottom within a file."""
    files = {diagnostic.primary.span.file: None for diagnostic in diagnostics}
    rank = {name: index for index, name in enumerate(files)}
    return sorted(diagnostics, key=lambda one: (rank[one.primary.span.file], one.primary.span.start, one.code))


def render(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source], *, color: bool = False) -> str:
    """All diagnostics, in the order given, with source excerpts and a last line that counts them.

    ``sources`` is keyed by `Span.file`; a place in an unknown file is shown without its text.
    """
    if not diagnostics:
        return ""
    paint = _Paint(color)
    parts = [_render_one(diagnostic, sources, paint) for diagnostic in diagnostics]
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    warnings = len(diagnostics) - errors
    counts = [_count(errors, "error")] if errors else []
    counts += [_count(warnings, "warning")] if warnings else []
    return "\n\n".join([*parts, ", ".join(counts)]) + "\n"


def to_json(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> list[dict[str, Any]]:
    """Plain data, one object a diagnostic. Lines and columns are one-based; offsets count characters from zero."""
    return [_diagnostic_json(diagnostic, sources) for diagnostic in diagnostics]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# -- JSON ------------------------------------------------------------------------------------------------------------


def _diagnostic_json(diagnostic: Diagnostic, sources: Mapping[str, Source]) -> dict[str, Any]:
    fix = diagnostic.fix
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "title": diagnostic.title,
        "primary": _label_json(diagnostic.primary, sources),
        "secondary": [_label_json(label, sources) for label in diagnostic.secondary],
        "notes": list(diagnostic.notes),
        "help": diagnostic.help,
        "fix": fix
        and {
            "title": fix.title,
            "replacement": fix.replacement,
            "range": _range_json(fix.span, sources),
            "safe": fix.safe,
        },
    }


def _label_json(label: Label, sources: Mapping[str, Source]) -> dict[str, Any]:
    return {"message": label.message, "range": _range_json(label.span, sources)}


def _range_json(span: Span, sources: Mapping[str, Source]) -> dict[str, Any]:
    source = sources.get(span.file)
    return {
        "file": span.file,
        "start": _place_json(source, span.start),
        "end": _place_json(source, span.end),
    }


def _place_json(source: Source | None, offset: int) -> dict[str, int]:
    if source is None:
        return {"offset": offset}
    line, column = source.line_column(_clamp(offset, source))
    return {"offset": offset, "line": line, "column": column}


# -- terminal --------------------------------------------------------------------------------------------------------


class _Paint:
    """ANSI colours, or none at all."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, *styles: str) -> str:
        return "".join(styles) + text + _RESET if self.on and text else text


def _render_one(diagnostic: Diagnostic, sources: Mapping[str, Source], paint: _Paint) -> str:
    accent = _RED if diagnostic.severity == "error" else _YELLOW
    headline = paint(f"{diagnostic.severity}[{diagnostic.code}]", accent, _BOLD)
    lines = [f"{headline}{paint(f': {printable(diagnostic.title)}', _BOLD)}"]

    labels = [(diagnostic.primary, True), *((label, False) for label in diagnostic.secondary)]
    files = list({label.span.file: None for label, _ in labels})
    gutter = max(len(str(_last_line(label.span, sources))) for label, _ in labels)
    edge = " " * gutter + " " + paint("|", _BLUE)
    for index, file in enumerate(files):
        here = [(label, primary) for label, primary in labels if label.span.file == file]
        arrow = paint(" " * gutter + ("-->" if index == 0 else ":::"), _BLUE)
        source = sources.get(file)
        if source is None:
            lines.append(f"{arrow} {printable(file)}")
            lines.extend(f"{edge} {printable(label.message)}" for label, _ in here)
            continue
        line, column = source.line_column(_clamp(here[0][0].span.start, source))
        lines.append(f"{arrow} {printable(file)}:{line}:{column}")
        lines.append(edge)
        lines.extend(_excerpt(here, source, gutter, accent, paint))
    lines.append(edge)

    for note in diagnostic.notes:
        lines.extend(_remark("note", note, gutter, paint))
    if diagnostic.fix is not None:
        lines.extend(_remark("fix", _fix_text(diagnostic, sources), gutter, paint))
    next_step = diagnostic.help
    if next_step is None and diagnostic.fix is None:
        next_step = f"`lmgraph explain {diagnostic.code}` tells more"
    if next_step is not None:
        lines.extend(_remark("help", next_step, gutter, paint))
    return "\n".join(line.rstrip() for line in lines)


def _excerpt(labels: list[tuple[Label, bool]], source: Source, gutter: int, accent: str, paint: _Paint) -> list[str]:
    by_line: dict[int, list[tuple[Label, bool]]] = {}
    for label, primary in labels:
        number, _ = source.line_column(_clamp(label.span.start, source))
        by_line.setdefault(number, []).append((label, primary))
    edge = " " * gutter + " " + paint("|", _BLUE)
    lines: list[str] = []
    previous: int | None = None
    for number in sorted(by_line):
        if previous is not None and number > previous + 1:
            lines.append(paint("." * max(gutter, 3), _BLUE))
        previous = number
        text = source.line(number)
        line_start = _clamp(by_line[number][0][0].span.start, source)
        line_start -= source.line_column(line_start)[1] - 1
        window = _window(text, by_line[number][0][0], line_start, source)
        lines.append(f"{paint(f'{number:>{gutter}} |', _BLUE)} {window.text}")
        for label, primary in sorted(by_line[number], key=lambda one: (not one[1], -one[0].span.start)):
            start = _clamp(label.span.start, source) - line_start
            end = min(_clamp(label.span.end, source) - line_start, len(text))
            indent, width = window.columns(start, end)
            mark = ("^" if primary else "-") * width
            if label.span.end - line_start > len(text) + 1:
                mark += "..."
            style = accent if primary else _BLUE
            lines.append(f"{edge} {' ' * indent}{paint(f'{mark} {printable(label.message)}', style)}")
    return lines


class _Window:
    """The shown part of one source line, and where a character of the line stands in it."""

    def __init__(self, line: str, first: int, last: int) -> None:
        self._offset = first
        self._stops = [2 if first else 0]
        shown = ["… "] if first else []
        for char in line[first:last]:
            column = self._stops[-1]
            if char == "\t":
                piece, width = " " * (TAB_WIDTH - column % TAB_WIDTH), TAB_WIDTH - column % TAB_WIDTH
            else:
                piece = printable(char)
                width = sum(_char_width(one) for one in piece)
            shown.append(piece)
            self._stops.append(column + width)
        if last < len(line):
            shown.append(" …")
        self.text = "".join(shown)

    def columns(self, start: int, end: int) -> tuple[int, int]:
        """Indentation and width, in terminal columns, of the characters from ``start`` to ``end`` of the line."""
        last = len(self._stops) - 1
        indent = self._stops[min(max(start - self._offset, 0), last)]
        until = self._stops[min(max(end - self._offset, 0), last)]
        return indent, max(1, until - indent)


def _window(line: str, label: Label, line_start: int, source: Source) -> _Window:
    if len(line) <= EXCERPT_COLUMNS:
        return _Window(line, 0, len(line))
    start = _clamp(label.span.start, source) - line_start
    first = max(0, min(start - EXCERPT_COLUMNS // 3, len(line) - EXCERPT_COLUMNS))
    return _Window(line, first, first + EXCERPT_COLUMNS)


def _remark(kind: str, text: str, gutter: int, paint: _Paint) -> list[str]:
    first, *rest = printable(text, keep_lines=True).split("\n")
    lead = " " * gutter + " " + paint("=", _BLUE) + " "
    style = _GREEN if kind in ("help", "fix") else _BLUE
    return [f"{lead}{paint(f'{kind}:', style)} {first}", *(" " * (gutter + 5 + len(kind)) + line for line in rest)]


def _fix_text(diagnostic: Diagnostic, sources: Mapping[str, Source]) -> str:
    fix = diagnostic.fix
    assert fix is not None
    source = sources.get(fix.span.file)
    if source is None or "\n" in fix.replacement:
        return fix.title
    start, end = _clamp(fix.span.start, source), _clamp(fix.span.end, source)
    line, column = source.line_column(start)
    if source.line_column(end)[0] != line or len(source.line(line)) > EXCERPT_COLUMNS:
        return fix.title
    text = source.line(line)
    edited = (text[: column - 1] + fix.replacement + text[column - 1 + end - start :]).strip().expandtabs(TAB_WIDTH)
    return f"{fix.title}\n{edited}" if edited else fix.title


def _last_line(span: Span, sources: Mapping[str, Source]) -> int:
    source = sources.get(span.file)
    return source.line_column(_clamp(span.start, source))[0] if source else 1


def _clamp(offset: int, source: Source) -> int:
    return min(max(offset, 0), len(source.text))


def printable(text: str, *, keep_lines: bool = False) -> str:
    """``text`` as any terminal may show it: control characters and lone surrogates become a replacement sign."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or (keep_lines and char == "\n") or char in "\u200d\u00a0" else "\ufffd"
        for char in text
    )


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or char == "\u200d" or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
