"""Replay: the same results without a model, and after a change only what the change reaches is asked again."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError, DataError
from lmgraph.program import Program
from lmgraph.runtime import Binding, RunIdentity, RunOptions, Runtime, Trace, TraceStore
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import Reply, ScriptedEngine, last_user_turn
from support.scripted import program_from

SOURCE = """
edition 1

module Plan(topic: str) -> (steps: list[str]) {
  max_tokens: 100
  temperature: 1.0
}

module Draft(step: str) -> (text: str) {
  max_tokens: 64
  temperature: 1.0
}

module Grade(text: str) -> (grade: "good" | "bad") {
  max_tokens: 16
  temperature: 1.0
}

module Title(topic: str) -> (title: str) {
  max_tokens: 32
  temperature: 0.5
}

fn shout(text: str) -> str = py "tools:shout"

retriever find(text: str) -> list[str] = py "tools:find"

flow Write(topic: str) -> (title: str, texts: list[str], grades: list[str], pages: list[str]) {
  title = Title(topic=topic)
  plan = Plan(topic=topic)
  drafts = [Draft(step=step).text for step in plan.steps]
  loud = [shout(text=draft) for draft in drafts]
  grades = [Grade(text=one).grade for one in loud]
  pages = find(text=title.title)
  return (title=title.title, texts=loud, grades=grades, pages=pages)
}
"""

TOOLS = """
calls = []


def shout(text):
    calls.append(text)
    return text.upper()


def find(text):
    calls.append(text)
    return [text, "page"]
"""


def program_in(folder: Path, source: str = SOURCE, tools: str = TOOLS) -> Program:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.py").write_text(tools, encoding="utf-8")
    return program_from(folder, source)


def engine_of() -> ScriptedEngine:
    """Says something else at each seed and each prompt."""

    def answer(prompt: str, request: GenerateRequest) -> str:
        rng = random.Random(f"{prompt}:{request.sampling.seed}")
        asked = last_user_turn(prompt)
        if asked.startswith("topic: ") and "title:" not in asked:
            return json.dumps({"steps": [str(rng.randrange(9)), str(rng.randrange(9))]})
        if asked.startswith("text: "):
            return rng.choice(["good", "bad"])
        return f"t{rng.randrange(1000)}"

    return ScriptedEngine(answer)


def asked(engine: ScriptedEngine) -> list[str]:
    return sorted(request.request_id for request in engine.requests)


async def record(folder: Path, program: Program, options: RunOptions | None = None) -> Trace:
    """Run it, and read the run back from a store."""
    store = TraceStore(folder / "traces.db")
    async with Runtime(everything=engine_of(), store=store) as runtime:
        trace = await runtime.run(program, {"topic": "tea"}, options=options)
    found = store.find(trace.run_id)
    store.close()
    return found


async def replay(
    program: Program, recorded: Trace, engine: ScriptedEngine | None = None, again: Sequence[str] = ()
) -> Trace:
    async with Runtime(everything=engine or Binding("there-is-no-such-engine")) as runtime:
        return await runtime.replay(program, recorded, again=again)


def told(trace: Trace) -> Any:
    """All but what differs from run to run."""
    calls = [replace(call, started=0, seconds=0, source="engine") for call in trace.calls]
    steps = [replace(step, started=0, seconds=0) for step in trace.steps]
    return trace.program, trace.flow, trace.inputs, trace.outputs, trace.failure, calls, steps, trace.checks


async def test_an_unchanged_program_needs_no_engine_and_no_python(tmp_path: Path) -> None:
    recorded = await record(tmp_path, program_in(tmp_path / "program"))
    program = program_in(tmp_path / "other" / "program", tools=TOOLS.replace("calls.append(text)", "raise SystemError"))
    again = await replay(program, recorded)
    assert told(again) == told(recorded)
    assert {call.source for call in again.calls} == {"record"}
    assert again.run_id != recorded.run_id


async def test_what_replay_gives_is_a_copy(tmp_path: Path) -> None:
    program = program_in(tmp_path / "program")
    recorded = await record(tmp_path, program)
    first = await replay(program, recorded)
    assert first.outputs is not None
    first.outputs["pages"].append("changed")
    assert (await replay(program, recorded)).outputs == recorded.outputs


async def test_a_replay_is_not_kept(tmp_path: Path) -> None:
    program = program_in(tmp_path / "program")
    recorded = await record(tmp_path, program)
    async with Runtime(store=tmp_path / "traces.db") as runtime:
        await runtime.replay(program, recorded)
        assert runtime.store is not None
        assert len(runtime.store.list_runs()) == 1


@pytest.mark.parametrize(
    ("module", "reached"),
    [
        ("Title", {"Write/title"}),
        ("Plan", {"Write/plan", "Write/drafts", "Write/grades"}),
        ("Draft", {"Write/drafts", "Write/grades"}),
        ("Grade", {"Write/grades"}),
    ],
)
async def test_only_a_changed_module_and_what_it_reaches_run_again(
    tmp_path: Path, module: str, reached: set[str]
) -> None:
    options = RunOptions(seed=11, identity=RunIdentity("s", "eval", 2, "rows:7", 3))
    program = program_in(tmp_path / "program")
    recorded = await record(tmp_path, program, options)
    changed = program.with_params(program.params.with_module(module, instruction="Do it another way."))
    engine = engine_of()
    partial = await replay(changed, recorded, engine)
    async with Runtime(everything=engine_of()) as runtime:
        whole = await runtime.run(changed, {"topic": "tea"}, options=options)
    assert told(partial) == told(whole), "it equals a whole run under the same seeds"
    ran = {key.partition("[")[0].partition("/")[0] + "/" + key.split("/")[1].partition("[")[0] for key in asked(engine)}
    recorded_keys = {call.call_key for call in recorded.calls}
    made = {call.call_key for call in partial.calls if call.source == "engine"}
    assert made == set(asked(engine))
    assert {one.removesuffix("/text").removesuffix("/grade") for one in ran} <= reached | {"Write/" + module}
    assert made & recorded_keys or module == "Plan"
    assert {call.source for call in partial.calls if call.call_key not in made} <= {"record"}


async def test_a_changed_program_text_is_a_change_too(tmp_path: Path) -> None:
    recorded = await record(tmp_path, program_in(tmp_path / "program"))
    changed = program_in(tmp_path / "program", SOURCE.replace("max_tokens: 16", "max_tokens: 16\n  retries: 1"))
    engine = engine_of()
    again = await replay(changed, recorded, engine)
    assert again.outputs == recorded.outputs
    assert asked(engine) == [], "every request is still the same"


async def test_an_answer_that_was_cut_is_asked_for_again_where_it_may_be_longer(tmp_path: Path) -> None:
    source = SOURCE.replace("max_tokens: 32", "max_tokens: 2")
    recorded = await record(tmp_path, program_in(tmp_path / "program", source))
    engine = engine_of()
    again = await replay(program_in(tmp_path / "program", SOURCE), recorded, engine)
    assert len(asked(engine)) == 1
    assert again.outputs is not None
    assert recorded.outputs is not None
    assert again.outputs["title"] != recorded.outputs["title"]


async def test_names_can_be_run_again(tmp_path: Path) -> None:
    program = program_in(tmp_path / "program")
    recorded = await record(tmp_path, program)
    engine = engine_of()
    assert (await replay(program, recorded, engine, ["Title"])).outputs == recorded.outputs
    assert len(asked(engine)) == 1
    other = program_in(tmp_path / "other", tools=TOOLS.replace('"page"', '"another page"'))
    assert (await replay(other, recorded, engine)).outputs == recorded.outputs
    again = await replay(other, recorded, engine, ["find"])
    assert again.outputs is not None
    assert again.outputs["pages"][1] == "another page"
    with pytest.raises(ConfigError, match="no module or extern `Titel`"):
        await replay(program, recorded, engine, ["Titel"])


async def test_another_seed_is_another_run(tmp_path: Path) -> None:
    program = program_in(tmp_path / "program")
    recorded = await record(tmp_path, program, RunOptions(seed=5))
    assert recorded.settings is not None
    engine = engine_of()
    await replay(program, replace(recorded, settings=replace(recorded.settings, seed=6)), engine, ["shout"])
    assert len(asked(engine)) == len(recorded.calls)


ACTS = """
edition 1

module Ask(x: str) -> (y: str) {
  max_tokens: 32
}

module Weak(x: str) -> (y: str) {
  max_tokens: 32
  retries: 2
  assert len(y) > 2 else "too short"
}

tool send(text: str) -> str = py "tools:send"

flow Go(x: str) -> (z: str, told: str) {
  first = Ask(x=x).y catch "nothing"
  second = Weak(x=first)
  sent = send(text=second.y)
  return (z=sent, told=first)
}
"""
SENDS = """
from pathlib import Path


def send(text):
    with (Path(__file__).parent / "sent.txt").open("a") as file:
        file.write(text + "\\n")
    return "sent " + text
"""


def flaky() -> ScriptedEngine:
    def answer(prompt: str, request: GenerateRequest) -> Reply:
        if "Ask" in request.request_id:
            return Reply("", finish_reason="abort")
        return Reply("long enough" if "/retry[1]" in request.request_id else "no")

    return ScriptedEngine(answer)


async def acting(folder: Path) -> tuple[Program, Trace]:
    program = program_in(folder / "program", ACTS, SENDS)
    async with Runtime(everything=flaky(), store=folder / "traces.db") as runtime:
        trace = await runtime.run(program, {"x": "hi"})
        assert runtime.store is not None
        return program, runtime.store.find(trace.run_id)


async def test_failures_retries_and_tools_come_from_the_record(tmp_path: Path) -> None:
    program, recorded = await acting(tmp_path)
    assert recorded.outputs == {"z": "sent long enough", "told": "nothing"}
    assert [step.kind for step in recorded.steps] == ["lm", "tool"]
    again = await replay(program, recorded)
    assert told(again) == told(recorded)
    assert (tmp_path / "program" / "sent.txt").read_text() == "long enough\n", "nothing was sent a second time"


async def test_a_tool_acts_anew_only_where_allowed(tmp_path: Path) -> None:
    program, recorded = await acting(tmp_path)
    changed = program.with_params(program.params.with_module("Weak", instruction="Say more."))
    same = await replay(changed, recorded, flaky())
    assert same.outputs == recorded.outputs, "the tool's inputs are the same, so its answer is"

    def other(prompt: str, request: GenerateRequest) -> str:
        return "something else"

    with pytest.raises(ConfigError, match="would have to call the tool `send`"):
        await replay(changed, recorded, ScriptedEngine(other))
    assert (tmp_path / "program" / "sent.txt").read_text() == "long enough\n"
    async with Runtime(everything=ScriptedEngine(other)) as runtime:
        trace = await runtime.replay(changed, recorded, effects="allow")
    assert trace.outputs is not None
    assert trace.outputs["z"] == "sent something else"


async def test_a_failed_run_fails_again(tmp_path: Path) -> None:
    program = program_in(tmp_path / "program")
    async with Runtime(everything=ScriptedEngine({"": Reply("", finish_reason="abort")})) as runtime:
        recorded = await runtime.run(program, {"topic": "tea"})
    assert recorded.failure is not None
    assert told(await replay(program, recorded)) == told(recorded)


async def test_stubs_are_answered_from_the_record(tmp_path: Path) -> None:
    program = program_in(tmp_path / "program")
    options = RunOptions(stubs={"Title": lambda inputs: {"title": "stubbed"}})
    recorded = await record(tmp_path, program, options)
    assert told(await replay(program, recorded)) == told(recorded)
    changed = program.with_params(program.params.with_module("Grade", instruction="Be kind."))
    again = await replay(changed, recorded, engine_of())
    assert again.outputs is not None
    assert again.outputs["title"] == "stubbed"


async def test_a_record_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    program = program_in(tmp_path / "program")
    recorded = await record(tmp_path, program)
    with pytest.raises(ConfigError, match="has no record of the call Write/"):
        await replay(program, replace(recorded, calls=[]))
    with pytest.raises(DataError):
        await replay(program, replace(recorded, inputs={"topic": 3}))
    with pytest.raises(ConfigError, match="no flow"):
        await replay(program_in(tmp_path / "other", SOURCE.replace("flow Write", "flow Other")), recorded)
