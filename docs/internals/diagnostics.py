"""Writes docs/reference/diagnostics.md anew from the catalogue of codes.

    python docs/internals/diagnostics.py

A test fails where the page says something else than the catalogue and the compiler do.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from lmgraph.compiler.compile import compile_source
from lmgraph.source import Source
from lmgraph.source.code_info import CodeInfo
from lmgraph.source.codes import CODES
from lmgraph.source.render import render

PAGE = Path(__file__).parents[1] / "reference" / "diagnostics.md"
NAME = "program.lmg"
SERIES = {
    "E01": "syntax",
    "E02": "names",
    "E03": "types",
    "E04": "flows",
    "E05": "Python and data files",
    "E07": "information flow",
    "W": "lints",
}

HEAD = """\
# Diagnostics

Every problem that the compiler reports has a code. `lmgraph explain E0201` prints what is here about one of them,
`lmgraph check program.lmg` reports every problem of a program at once, and `lmgraph check --format json` does so for
other programs: code, severity, places in lines, columns and offsets, notes, and the edit that would mend it.

An error (E) keeps a program from compiling. A lint (W) is a warning: the program compiles, and something in it is odd.

This page is written by `python docs/internals/diagnostics.py`.

| series | about |
|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [f"| [{series}](#{_anchor(series)}) | {about} |\n" for series, about in SERIES.items()]
    return HEAD + "".join(rows) + "".join(_section(series) for series in SERIES)


def _anchor(series: str) -> str:
    return f"{series} {SERIES[series]}".lower().replace(" ", "-")


def _section(series: str) -> str:
    codes = [info for code, info in CODES.items() if code.startswith(series)]
    return f"\n## {series} {SERIES[series]}\n" + "".join(part for info in codes for part in _code(info))


def _code(info: CodeInfo) -> Iterator[str]:
    explanation = textwrap.fill(info.explanation, 120, break_long_words=False, break_on_hyphens=False)
    yield f"\n### {info.code}: {info.title}\n\n{explanation}\n"
    yield f"\n```lmg\n{info.example.strip()}\n```\n"
    for name, text in info.files:
        if text.strip():
            yield f"\nand in `{name}`\n\n```{'python' if name.endswith('.py') else 'lmg'}\n{text.strip()}\n```\n"
    rendered = reported(info)
    if rendered:
        yield f"\n```text\n{rendered.strip()}\n```\n"


def reported(info: CodeInfo) -> str:
    """What the compiler says of the example; nothing where it stands for a text that a page cannot hold."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in info.files:
            (root / name).write_text(text, encoding="utf-8")
        compiled = compile_source(Source(NAME, info.example), root=root)
    if info.code not in [one.code for one in compiled.diagnostics]:
        return ""
    return render(compiled.diagnostics, compiled.sources)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
