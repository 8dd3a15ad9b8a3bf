"""Golden tests: every `*.md` of this folder holds programs and exactly what comes of them.

A file says `mode: parse`, `check`, `compile`, `text` or `fmt` near its top. A section is `## title`, an `lmg` fence
with the program and a second fence with the expected output. `pytest --update-golden` writes the present output
instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import CompileError
from lmgraph.source import Source
from lmgraph.source.codes import CODES
from lmgraph.source.render import render
from lmgraph.syntax.format import format_source
from lmgraph.syntax.parser import parse

FOLDER = Path(__file__).parent
SAMPLES = FOLDER.parent / "data" / "samples"
NAME = "program.lmg"

_MODE = re.compile(r"^mode: (\w+)$", re.MULTILINE)
_SECTION = re.compile(
    r"^## (?P<title>[^\n]+)\n(?:(?!## )[^\n]*\n)*?"
    r"(?P<fence>`{3,})lmg\n(?P<program>.*?)^(?P=fence)\n\n"
    r"(?P<fence2>`{3,})(?P<kind>\w+)\n(?P<expected>.*?)^(?P=fence2)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Case:
    file: Path
    mode: str
    title: str
    program: str
    expected: str
    start: int
    """Where the expected output stands in the file."""
    end: int


def cases() -> Iterator[Case]:
    for file in sorted(FOLDER.glob("*.md")):
        text = file.read_text(encoding="utf-8")
        mode = _MODE.search(text)
        assert mode, f"{file.name} needs a line such as `mode: parse`"
        found = list(_SECTION.finditer(text))
        assert len(found) == len(re.findall(r"^## ", text, re.MULTILINE)), f"{file.name}: a section is incomplete"
        for match in found:
            start, end = match.span("expected")
            yield Case(file, mode[1], match["title"], match["program"], match["expected"], start, end)


CASES = list(cases())


def run_parse(program: str) -> str:
    """Syntax errors, or the number of declarations."""
    source = Source(NAME, program)
    result = parse(source)
    if result.diagnostics:
        return render(result.diagnostics, {NAME: source})
    assert result.tree is not None
    return f"{len(result.tree.declarations)} declarations\n"


def run_format(program: str) -> str:
    try:
        return format_source(Source(NAME, program))
    except CompileError as error:
        return str(error)


def run_check(program: str) -> str:
    """Every diagnostic of compiling, warnings too, or `ok`."""
    compiled = _compiled(program)
    return render(compiled.diagnostics, compiled.sources) or "ok\n"


def run_compile(program: str) -> str:
    """The graph as JSON, or the diagnostics where there is none."""
    from lmgraph.graph.dump import dump

    compiled = _compiled(program)
    if compiled.graph is None:
        return render(compiled.diagnostics, compiled.sources)
    return dump(compiled.graph, indent=2) + "\n"


def run_text(program: str) -> str:
    """The graph as `--emit text` prints it, or the diagnostics where there is none."""
    from lmgraph.graph.draw import to_text

    compiled = _compiled(program)
    return render(compiled.diagnostics, compiled.sources) if compiled.graph is None else to_text(compiled.graph)


def _compiled(program: str) -> Any:
    from lmgraph.compiler.compile import compile_source

    # Among the samples, so that a program can name their files.
    return compile_source(Source(NAME, program), root=SAMPLES)


MODES: dict[str, Callable[[str], str]] = {
    "parse": run_parse,
    "fmt": run_format,
    "check": run_check,
    "compile": run_compile,
    "text": run_text,
}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.file.stem}: {case.title}" for case in CASES])
def test_golden(case: Case, request: pytest.FixtureRequest) -> None:
    got = MODES[case.mode](case.program)
    if got == case.expected:
        return
    if request.config.getoption("--update-golden"):
        _update(case, got)
        return
    assert got == case.expected, "if the new output is right, run pytest --update-golden"


def _update(case: Case, got: str) -> None:
    """Put ``got`` in place. Earlier updates may have moved the section, so it is found anew by its title."""
    text = case.file.read_text(encoding="utf-8")
    for match in _SECTION.finditer(text):
        if match["title"] == case.title and match["program"] == case.program:
            start, end = match.span("expected")
            case.file.write_text(text[:start] + got + text[end:], encoding="utf-8")
            return
    raise AssertionError(f"{case.file.name}: no section {case.title!r}")


def test_titles_differ() -> None:
    titles = [(case.file, case.title) for case in CASES]
    assert len(set(titles)) == len(titles)


def test_every_syntax_code_has_a_golden() -> None:
    # E0109 and E0110 are about text that a Markdown file cannot hold; tests/unit/test_syntax_limits.py has them.
    elsewhere = {"E0109", "E0110"}
    shown = {code for case in CASES for code in re.findall(r"\[(E01\d\d)\]", case.expected)}
    assert {code for code in CODES if code.startswith("E01")} - elsewhere == shown
