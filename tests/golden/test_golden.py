"""Golden tests: every `*.md` of this folder holds programs and exactly what comes of them.

A file says `mode: parse`, `check`, `compile`, `text`, `explain`, `learned` or `fmt` near its top. A section is
`## title`, an `lmg` fence with the program and a second fence with the expected output. Files that lie beside the
program stand before it, each in a fence `file name`; in mode `learned` the file `learned.lmg` is the program that
parameters come from. `pytest --update-golden` writes the present output instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import pytest

from lmgraph.cli.explained import explained
from lmgraph.compiler.compile import compile_source
from lmgraph.compiler.learned import learned_diagnostics
from lmgraph.errors import CompileError
from lmgraph.graph.draw import to_text
from lmgraph.graph.dump import dump
from lmgraph.graph.graph import Graph, TestSpec
from lmgraph.passes import PASSES, steps
from lmgraph.program.rebind import rebind
from lmgraph.source import Source
from lmgraph.source.codes import CODES
from lmgraph.source.render import render
from lmgraph.syntax.format import format_source
from lmgraph.syntax.parser import parse
from support.learned import learned_on

FOLDER = Path(__file__).parent
SAMPLES = FOLDER.parent / "data" / "samples"
NAME = "program.lmg"

_MODE = re.compile(r"^mode: (\w+)$", re.MULTILINE)
_SECTION = re.compile(
    r"^## (?P<title>[^\n]+)\n(?P<before>(?:(?!## )[^\n]*\n)*?)"
    r"(?P<fence>`{3,})lmg\n(?P<program>.*?)^(?P=fence)\n\n"
    r"(?P<fence2>`{3,})(?P<kind>\w+)\n(?P<expected>.*?)^(?P=fence2)$",
    re.MULTILINE | re.DOTALL,
)


_FILE = re.compile(r"^(?P<fence>`{3,})file (?P<name>\S+)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Program:
    text: str
    root: Path
    """The folder of its files."""
    path: Path | None = None

    @property
    def source(self) -> Source:
        return Source(NAME, self.text, self.path)


@dataclass(frozen=True)
class Case:
    file: Path
    mode: str
    title: str
    program: str
    files: tuple[tuple[str, str], ...]
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
            files = tuple((one["name"], one["text"]) for one in _FILE.finditer(match["before"]))
            yield Case(file, mode[1], match["title"], match["program"], files, match["expected"], start, end)


CASES = list(cases())


def run_parse(program: Program) -> str:
    """Syntax errors, or the number of declarations."""
    result = parse(program.source)
    if result.diagnostics:
        return render(result.diagnostics, {NAME: program.source})
    assert result.tree is not None
    return f"{len(result.tree.declarations)} declarations\n"


def run_format(program: Program) -> str:
    try:
        return format_source(program.source)
    except CompileError as error:
        return str(error)


def run_check(program: Program) -> str:
    """Every diagnostic of compiling, warnings too, or `ok`."""
    compiled = compile_source(program.source, root=program.root)
    return render(compiled.diagnostics, compiled.sources) or "ok\n"


def run_compile(program: Program) -> str:
    """The graph as JSON, or the diagnostics where there is none."""
    compiled = compile_source(program.source, root=program.root)
    if compiled.graph is None:
        return render(compiled.diagnostics, compiled.sources)
    return dump(compiled.graph, indent=2) + "\n"


def run_text(program: Program) -> str:
    """The graph as `--emit text` prints it, with its tests behind it, or the diagnostics where there is none."""
    compiled = compile_source(program.source, root=program.root)
    if compiled.graph is None:
        return render(compiled.diagnostics, compiled.sources)
    return "\n".join([to_text(compiled.graph), *(_test_text(compiled.graph, test) for test in compiled.tests)])


def _test_text(graph: Graph, test: TestSpec) -> str:
    """A test as the flow that it is, and its stubs."""
    alone = replace(graph, flows=(*graph.flows, test.flow), datasets=(), metrics=(), objectives=(), moved=())
    shown = to_text(alone)
    stubs = [f"  stub {stub.target}: {len(stub.answers)} answers\n" for stub in test.stubs]
    return f'test "{test.title}"\n{"".join(stubs)}{shown[shown.index(f"flow {test.flow.name}") :]}'


def run_explain(program: Program) -> str:
    """What `--explain` prints, or the diagnostics where there is no graph."""
    compiled = compile_source(program.source, root=program.root)
    return explained(compiled) if compiled.graph is not None else render(compiled.diagnostics, compiled.sources)


def run_learned(program: Program) -> str:
    """What is said where parameters that were learned on `learned.lmg` are put onto the program."""
    compiled = compile_source(program.source, root=program.root)
    rebound = rebind(learned_on((program.root / "learned.lmg").read_text("utf-8")), compiled.require())
    notes = "".join(f"note: {note}\n" for note in rebound.notes) if rebound.params is not None else ""
    return render(learned_diagnostics(rebound, compiled), compiled.sources) + notes or "ok\n"


def run_pass(program: Program, name: str) -> str:
    """The flows before and after one pass, and what it changed."""
    compiled = compile_source(program.source, root=program.root)
    if compiled.graph is None:
        return render(compiled.diagnostics, compiled.sources)
    (step,) = steps(compiled.graph, [one.name for one in PASSES if one.name != name])
    changed = [f"{field.name}: {', '.join(getattr(step.changes, field.name)) or '-'}" for field in fields(step.changes)]
    before, after = (to_text(graph)[to_text(graph).index("\nflow ") :] for graph in (compiled.graph, step.graph))
    return "\n".join([f"before{before}", f"after {name}{after}", *changed, ""])


MODES: dict[str, Callable[[Program], str]] = {
    "parse": run_parse,
    "fmt": run_format,
    "check": run_check,
    "compile": run_compile,
    "text": run_text,
    "explain": run_explain,
    **{f"pass_{one.name}": partial(run_pass, name=one.name) for one in PASSES},
    "learned": run_learned,
}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.file.stem}: {case.title}" for case in CASES])
def test_golden(case: Case, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # Without files of its own a program lies among the samples.
    program = Program(case.program, SAMPLES)
    if case.files:
        folder = tmp_path / "golden"
        for name, text in case.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        program = Program(case.program, folder, folder / NAME)
        (folder / NAME).write_text(case.program, encoding="utf-8")
    got = MODES[case.mode](program)
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
