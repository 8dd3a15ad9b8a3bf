"""Compiling a program again after edits gives what a fresh compilation gives: diagnostics, graph and places."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from random import Random

import pytest

from lmgraph.compiler.compile import Compilation, compile_source
from lmgraph.compiler.kept import Kept
from lmgraph.compiler.workspace import Workspace
from lmgraph.graph.dump import dump
from lmgraph.source import Source
from support.large_program import many_parts, one_flow
from support.mutate import Mutator
from support.programs import PRELUDE, PYTHON, random_program
from support.real_programs import Program, real_programs

SESSIONS = 24
EDITS = 12


@cache
def mutator() -> Mutator:
    return Mutator()


def assert_same(kept: Compilation, fresh: Compilation) -> None:
    assert kept.diagnostics == fresh.diagnostics
    assert kept.sources == fresh.sources
    assert kept.tests == fresh.tests
    assert repr(kept.tests) == repr(fresh.tests)
    assert (kept.graph and dump(kept.graph)) == (fresh.graph and dump(fresh.graph))
    assert repr(kept.graph) == repr(fresh.graph), "1 and 1.0 are equal and not the same"
    assert kept.spans == fresh.spans


def starting_program(session: int, chance: Random) -> Program:
    match session % 4:
        case 0:
            return Program("generated", random_program(session), None)
        case 1:
            return Program("large", many_parts(100) if chance.random() < 0.7 else one_flow(60), None)
        case _:
            return chance.choice(real_programs())


@pytest.mark.parametrize("session", range(SESSIONS))
def test_edits(session: int) -> None:
    chance = Random(f"workspace:{session}")
    program = starting_program(session, chance)
    kept, text = Kept(), program.text
    compiled = [text]
    for number in range(EDITS):
        source = Source("program.lmg", text)
        fresh = compile_source(source, root=program.root)
        try:
            assert_same(compile_source(source, root=program.root, steps=kept), fresh)
        except BaseException as error:
            error.add_note(f"session {session}, edit {number}:\n{text}")
            raise
        if fresh.graph is not None:
            compiled.append(text)
        elif chance.random() < 0.6:
            text = chance.choice(compiled)
        text = edited(text, chance)


@pytest.mark.parametrize("session", range(8))
def test_edits_of_several_files(session: int, tmp_path: Path) -> None:
    """Flows in one file, what they call in another one; either is edited."""
    chance = Random(f"two files:{session}")
    names = re.findall(r"^(?:enum|record|module|fn|retriever|tool) (\w+)", PRELUDE, re.MULTILINE)
    flows = random_program(session).removeprefix(PRELUDE)
    texts = {"parts.lmg": PRELUDE, "main.lmg": f'edition 1\nfrom "parts.lmg" import {", ".join(names)}\n{flows}'}
    compiling = dict(texts)
    (tmp_path / "steps.py").write_text(PYTHON, encoding="utf-8")
    main, workspace = tmp_path / "main.lmg", Workspace()
    for number in range(EDITS):
        for name, text in texts.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
            workspace.change(tmp_path / name, text)
        fresh = compile_source(Source(str(main), texts["main.lmg"], main), root=tmp_path)
        assert number or fresh.graph is not None
        try:
            assert_same(workspace.compile(main), fresh)
        except BaseException as error:
            error.add_note(f"session {session}, edit {number}:\n{texts}")
            raise
        if fresh.graph is not None:
            compiling = dict(texts)
        elif chance.random() < 0.6:
            texts = dict(compiling)
        name = chance.choice(sorted(texts))
        texts[name] = edited(texts[name], chance)


def edited(text: str, chance: Random) -> str:
    """One edit; half of them leave a program that compiles as one that does."""
    starts = [0, *(match.start() for match in re.finditer(r"^\w", text, re.MULTILINE)), len(text)]
    match chance.randrange(6):
        case 0:
            at = chance.choice(starts)
            return f"{text[:at]}# a note, about Ask and Row\n{text[at:]}"
        case 1 if len(starts) > 4:
            one, other, end = sorted(chance.sample(starts[1:], 3))
            return text[:one] + text[other:end] + text[one:other] + text[end:]
        case 2:
            return re.sub(r"\b[1-9]\b", lambda found: str(chance.randint(1, 9)), text, count=chance.randint(1, 4))
        case 3:
            names = re.findall(r"^(?:flow|module|record|enum) (\w+)", text, re.MULTILINE) or ["x"]
            return re.sub(rf"\b{chance.choice(names)}\b", f"Renamed{chance.randrange(99)}", text)
        case _:
            return mutator().changed(text, chance, rough=chance.random() < 0.1)[0]


_TYPES = "enum Kind { some  none }\nrecord Row { text: str  kind: Kind = Kind.some }\n"
_MAIN = (
    'from "types.lmg" import Kind, Row\n'
    'module Ask(row: Row) -> (kind: Kind, n: int) { """Which?""" }\n'
    "flow First(row: Row) -> (kind: Kind) {\n  found = Ask(row)\n  return (kind=found.kind)\n}\n"
    "flow Second(row: Row) -> (kind: Kind) {\n  found = First(row)\n  return (kind=found.kind)\n}\n"
    "flow Third(text: str) -> (kind: Kind) {\n  return (kind=First(row=Row(text, kind=Kind.none)).kind)\n}\n"
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param([("types.lmg", "none }", "none  more }")], id="an enum that is imported"),
        pytest.param([("types.lmg", "Kind.some", "Kind.none")], id="a default"),
        pytest.param([("types.lmg", "text: str", "text: str  score: float = 1")], id="a new field"),
        pytest.param(
            [
                ("types.lmg", "text: str", "text: str  score: float = 1"),
                ("types.lmg", "= 1", "= 1.0"),
                ("types.lmg", "float = 1.0", "int = 1"),
            ],
            id="a default of another kind",
        ),
        pytest.param([("types.lmg", "record Row", "record Line")], id="an import that fails"),
        pytest.param([("types.lmg", "record", "recrd"), ("types.lmg", "recrd", "record")], id="broken and mended"),
        pytest.param([("main.lmg", "n: int", "n: int, kinds: list[Kind]")], id="a signature"),
        pytest.param([("main.lmg", '"""Which?"""', '"""Which one?""" strategy: best_of samples: 2')], id="a strategy"),
        pytest.param([("main.lmg", "found.kind", "Kind.some")], id="the body of a flow that is called"),
        pytest.param([("main.lmg", "module", "lm found { }\nmodule")], id="a name that a local has"),
        pytest.param([("main.lmg", "module", "record found { a: str }\nmodule")], id="a name that is taken"),
        pytest.param([("main.lmg", "import Kind, Row", "import Kind, Row as Line")], id="an alias"),
        pytest.param([("main.lmg", "Kind, Row\n", "Kind, Row\n\n# Ask\n")], id="a comment before everything"),
    ],
)
def test_edits_of_what_others_see(edits: list[tuple[str, str, str]], tmp_path: Path) -> None:
    (tmp_path / "types.lmg").write_text(_TYPES, encoding="utf-8")
    (tmp_path / "main.lmg").write_text(_MAIN, encoding="utf-8")
    main = tmp_path / "main.lmg"
    workspace = Workspace()
    assert workspace.open(main).graph is not None
    texts = {"types.lmg": _TYPES, "main.lmg": _MAIN}
    for name, old, new in edits:
        assert old in texts[name]
        texts[name] = texts[name].replace(old, new, 1)
        workspace.change(tmp_path / name, texts[name])
        seen = workspace.compile(main)
        for one, text in texts.items():
            (tmp_path / one).write_text(text, encoding="utf-8")
        assert_same(seen, compile_source(Source(str(main), texts["main.lmg"], main), root=tmp_path))


def test_the_same_names_for_other_declarations(tmp_path: Path) -> None:
    """Two imports trade names: what each flow calls changes although no declaration did."""
    (tmp_path / "two.lmg").write_text(
        "module A(text: str) -> (out: str) {}\nmodule B(text: str) -> (out: str) {}\n", encoding="utf-8"
    )
    main = tmp_path / "main.lmg"
    text = (
        'from "two.lmg" import A as X, B as Y\n'
        "flow F(text: str) -> (out: str) {\n  first = X(text)\n  return (out=Y(text=first.out).out)\n}\n"
    )
    main.write_text(text, encoding="utf-8")
    workspace = Workspace()
    first = workspace.open(main).require()
    second = workspace.change(main, text.replace("A as X, B as Y", "A as Y, B as X")).require()
    assert dump(first) != dump(second)


def test_files_that_a_program_reads_are_read_again(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n", encoding="utf-8")
    main = tmp_path / "main.lmg"
    main.write_text(
        'enum Label = lines "labels.txt"\nflow F(label: Label) -> (same: bool) {\n'
        "  return (same=label == Label.two)\n}\n",
        encoding="utf-8",
    )
    workspace = Workspace()
    assert workspace.open(main).graph is not None
    labels.write_text("one\nthree\n", encoding="utf-8")
    assert [one.code for one in workspace.compile(main).diagnostics] == ["E0307"]


def test_a_closed_file_is_read_from_disk(tmp_path: Path) -> None:
    main = tmp_path / "main.lmg"
    main.write_text("module Ask(q: str) -> (a: str) {}\n", encoding="utf-8")
    workspace = Workspace()
    workspace.open(main)
    assert workspace.change(main, "module Ask(").graph is None
    workspace.close(main)
    assert workspace.compile(main).graph is not None
