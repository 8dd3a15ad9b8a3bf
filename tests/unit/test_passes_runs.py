"""What the passes leave out of runs, how each is switched off, and what is never touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lmgraph.cli.common import read_settings
from lmgraph.cli.compile import compile_command
from lmgraph.errors import ConfigError
from lmgraph.graph.graph import Graph
from lmgraph.passes import PASSES, late_inputs, optimized, steps
from lmgraph.program import Program, artifact
from lmgraph.runtime import RunOptions, Runtime, Trace
from lmgraph.testing import ScriptedEngine
from support.scripted import program_from

TEXT = """
module Ask(q: str) -> (a: str) {}
fn clean(text: str) -> str = py "steps:clean"
flow F(q: str) -> (a: str) {
  unread = Ask(q="unread")
  var a = ""
  repeat max 3 {
    tidy = clean(text=q)
    a := a + Ask(q=tidy + a).a
    stop if len(a) > 1
  }
  return (a=a + clean(text=q))
}
"""
PYTHON = """
def clean(text):
    if text == "bad":
        raise ValueError("cannot be cleaned")
    return text.strip()
"""

app = typer.Typer()
app.command()(compile_command)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "steps.py").write_text(PYTHON, encoding="utf-8")
    return program_from(tmp_path, TEXT)


def engine() -> ScriptedEngine:
    return ScriptedEngine({"": "x"})


async def run(program: Program, q: str = " word ", off: tuple[str, ...] = (), **options: Any) -> Trace:
    async with Runtime(everything=engine(), passes_off=off) as runtime:
        return await runtime.run(program, {"q": q}, options=RunOptions(**options))


def keys(trace: Trace) -> tuple[list[str], list[str]]:
    return [call.call_key for call in trace.calls], [step.call_key for step in trace.steps]


async def test_a_run_leaves_out_what_passes_remove(program: Program) -> None:
    trace = await run(program)
    assert trace.outputs == {"a": "xxword"}
    assert keys(trace) == (["F/repeat[0]/a#2.Ask", "F/repeat[1]/a#2.Ask"], ["F/repeat[0]/tidy"])
    written = await run(program, off=tuple(one.name for one in PASSES))
    assert written.outputs == trace.outputs
    assert keys(written) == (
        ["F/repeat[0]/a#2.Ask", "F/repeat[1]/a#2.Ask", "F/unread"],
        ["F/repeat[0]/tidy", "F/repeat[1]/tidy", "F/return.clean"],
    )
    seeds = {call.call_key: call.seed for call in written.calls}
    assert all(seeds[call.call_key] == call.seed for call in trace.calls)


@pytest.mark.parametrize(
    ("off", "calls", "python"), [("dead", 3, 1), ("hoist", 2, 3), ("share", 2, 1), ("fold", 2, 1), ("schedule", 2, 1)]
)
async def test_each_can_be_switched_off(program: Program, off: str, calls: int, python: int) -> None:
    made, steps_made = keys(await run(program, off=(off,)))
    assert (len(made), len(steps_made)) == (calls, python + (off == "share"))


async def test_what_fails_fails_as_before(program: Program) -> None:
    failed, written = await run(program, "bad"), await run(program, "bad", off=tuple(one.name for one in PASSES))
    assert failed.failure is not None
    assert failed.failure == written.failure
    assert failed.failure.call_key == "F/repeat[0]/tidy"


async def test_stubs_are_asked_as_often_as_it_is_written(program: Program) -> None:
    asked: list[str] = []

    def clean(inputs: Any) -> str:
        asked.append(inputs["text"])
        return "x"

    trace = await run(program, stubs={"clean": clean})
    assert len(asked) == 3
    assert "F/unread" in keys(trace)[0]


async def test_replays_run_what_was_run(program: Program) -> None:
    off = tuple(one.name for one in PASSES)
    async with Runtime(everything=engine()) as runtime, Runtime(everything=engine(), passes_off=off) as plain:
        recorded = await runtime.run(program, {"q": "word"})
        again = await runtime.replay(program, recorded)
        assert (again.outputs, keys(again)) == (recorded.outputs, keys(recorded))
        longer = await plain.run(program, {"q": "word"})  # as versions without passes recorded it
        again = await runtime.replay(program, longer)
        assert (again.outputs, keys(again)) == (recorded.outputs, keys(recorded))


def test_artifacts_and_fingerprints_are_of_the_program_as_it_is_written(program: Program, tmp_path: Path) -> None:
    folder = artifact.save(program, tmp_path / "saved")
    stored = artifact.load(folder)
    assert stored.graph == program.graph != optimized(program.graph)
    assert stored.hash == program.hash


def test_names_that_there_are_not(program: Program) -> None:
    with pytest.raises(ConfigError, match="no pass `hoisting`") as found:
        optimized(program.graph, ["hoisting"])
    assert "fold, hoist, share" in str(found.value.hint)
    with pytest.raises(ConfigError, match="no pass `x`"):
        steps(program.graph, ["x"])
    with pytest.raises(ConfigError, match="no pass `x`"):
        Runtime(passes_off=["x"])


def test_a_graph_without_flows_is_left_alone() -> None:
    assert optimized(Graph("empty")) == Graph("empty")


# -- command line ----------------------------------------------------------------------------------------------------


def told(program: Program, *arguments: str) -> str:
    result = CliRunner().invoke(app, [str(program.root / "program.lmg"), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_explain_says_what_each_saved(program: Program) -> None:
    text = told(program, "--explain")
    assert "  hoist: 1 node moved\n    F/repeat/tidy\n" in text
    assert "  dead: 3 nodes fewer, 1 call fewer\n" in text
    assert "a run of F: 3 calls of models" in text
    assert "  hoist: off\n" in told(program, "--explain", "--no-pass", "hoist")
    assert "a run of F: 4 calls of models" in told(program, "--explain", "--no-pass", "dead")


def test_explain_says_what_a_call_needs(program: Program) -> None:
    (line,) = [line for line in told(program, "--explain").splitlines() if line.startswith("  Ask: ")]
    assert "a context for" in line
    assert "128 tokens written; decoded freely" in line


def test_the_graph_is_printed_as_written_or_as_it_runs(program: Program) -> None:
    assert "F/unread = " in told(program, "--emit", "text")
    assert "F/unread = " not in told(program, "--emit", "text", "--optimized")
    assert "F/unread = " in told(program, "--emit", "text", "--optimized", "--no-pass", "dead")


def test_settings_switch_passes_off(program: Program) -> None:
    settings = program.root / "lmgraph.toml"
    settings.write_text('[passes]\nhoist = "off"\nfold = "on"\n', encoding="utf-8")
    assert read_settings(program.root).passes_off == ("hoist",)
    assert "  hoist: off\n" in told(program, "--explain")
    settings.write_text('[passes]\nhoist = "never"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match='the pass `hoist` is "never"'):
        read_settings(program.root)
    settings.write_text("passes = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="`passes` is not a table"):
        read_settings(program.root)


# -- prompts ---------------------------------------------------------------------------------------------------------


def test_inputs_that_would_be_shared_are_told(tmp_path: Path) -> None:
    text = """
module Ask(q: str, page: str) -> (a: str) {}
module Told(page: str, q: str) -> (a: str) {}
flow F(page: str, qs: list[str]) -> (a: list[str], b: list[str], c: str) {
  a = [Ask(q=one, page).a for one in qs]
  b = [Told(page, q=one).a for one in qs]
  return (a, b, c=Ask(q="once", page).a)
}
"""
    graph = program_from(tmp_path, text).graph
    assert [(late.call, late.differs, late.same) for late in late_inputs(graph)] == [("F/a/Ask", "q", ("page",))]
