"""Runtime.stream: what a run does, told while it does it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from lmgraph.errors import DataError
from lmgraph.program import Program
from lmgraph.runtime import NodeFinished, NodeStarted, RunFinished, RunOptions, Runtime, TextSampled, service
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import Reply, ScriptedEngine, last_user_turn
from support.scripted import program_from

CHAIN = """
edition 1

module Draft(word: str) -> (text: str) {
  max_tokens: 32
}

module Grade(text: str) -> (grade: "good" | "bad") {
  max_tokens: 8
}

fn shout(text: str) -> str = py "tools:shout"

flow Write(words: list[str]) -> (grades: list[str]) {
  drafts = [Draft(word=word).text for word in words]
  loud = [shout(text=draft) for draft in drafts]
  grades = [Grade(text=one).grade for one in loud]
  return (grades=grades)
}
"""


def program(folder: Path) -> Program:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.py").write_text("def shout(text):\n    return text.upper()\n", encoding="utf-8")
    return program_from(folder, CHAIN)


def engine(latency: float = 0.0) -> ScriptedEngine:
    def answer(prompt: str, request: GenerateRequest) -> Reply:
        asked = last_user_turn(prompt)
        return Reply("a draft" if asked.startswith("word: ") else "good", latency=latency)

    return ScriptedEngine(answer)


async def test_each_call_starts_and_ends_and_the_run_comes_last(tmp_path: Path) -> None:
    async with Runtime(everything=engine()) as runtime:
        events = [event async for event in runtime.stream(program(tmp_path), {"words": ["a", "b"]})]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.trace.outputs == {"grades": ["good", "good"]}
    started = [event for event in events if isinstance(event, NodeStarted)]
    finished = {event.call_key: event for event in events if isinstance(event, NodeFinished)}
    assert {event.call_key for event in started} == set(finished)
    calls = {call.call_key: call for call in last.trace.calls}
    steps = {step.call_key: step for step in last.trace.steps}
    assert set(calls) | set(steps) == set(finished)
    for key, call in calls.items():
        assert (finished[key].value, finished[key].kind, finished[key].name) == (call.outputs, "module", call.module)
    for key, step in steps.items():
        assert (finished[key].value, finished[key].kind) == (step.output, "extern")
    assert {event.call_key: event.inputs for event in started} == {
        one.call_key: one.inputs for one in (*calls.values(), *steps.values())
    }
    for event in started:
        assert events.index(event) < events.index(finished[event.call_key])


async def test_events_come_while_the_run_goes_on(tmp_path: Path) -> None:
    source = engine(latency=0.05)
    runtime = Runtime(everything=source)
    async with runtime, aclosing(runtime.stream(program(tmp_path), {"words": ["a"]})) as events:
        assert isinstance(await anext(events), NodeStarted)
        second = await anext(events)
        while isinstance(second, TextSampled):
            second = await anext(events)
        assert isinstance(second, NodeFinished)
        assert source.under_way == 1, "the second module has not answered yet"


async def test_a_failure_is_told_and_is_no_exception(tmp_path: Path) -> None:
    broken = ScriptedEngine({"": Reply("", finish_reason="abort")})
    async with Runtime(everything=broken) as runtime:
        events = [event async for event in runtime.stream(program(tmp_path), {"words": ["a"]})]
    ended = [event for event in events if isinstance(event, NodeFinished)]
    assert ended[0].failure is not None
    assert ended[0].value is None
    assert isinstance(events[-1], RunFinished)
    assert events[-1].trace.failure == ended[0].failure


async def test_it_ends_with_the_reader(tmp_path: Path) -> None:
    source = engine(latency=30.0)
    async with Runtime(everything=source) as runtime:
        async with aclosing(runtime.stream(program(tmp_path), {"words": ["a", "b", "c"]})) as events:
            await anext(events)
            await asyncio.sleep(0.02)
            assert source.under_way == 3
        assert source.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_slow_reader_holds_the_run_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "EVENTS_WAITING", 2)
    source = engine()
    async with Runtime(everything=source) as runtime:
        events = runtime.stream(program(tmp_path), {"words": ["a"] * 20})
        first = [await anext(events)]
        await asyncio.sleep(0.05)
        assert len(source.requests) < 20
        rest = [event async for event in events]
    assert len([event for event in first + rest if not isinstance(event, TextSampled)]) == 20 * 3 * 2 + 1


async def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    async with Runtime(everything=engine()) as runtime:
        with pytest.raises(DataError):
            await anext(runtime.stream(program(tmp_path), {"words": 1}))


async def test_stubs_are_told_of_too(tmp_path: Path) -> None:
    options = RunOptions(stubs={"Draft": lambda inputs: {"text": "x"}, "Grade": lambda inputs: {"grade": "bad"}})
    async with Runtime() as runtime:
        events = [event async for event in runtime.stream(program(tmp_path), {"words": ["a"]}, options=options)]
    values = [event.value for event in events if isinstance(event, NodeFinished)]
    assert values == [{"text": "x"}, "X", {"grade": "bad"}]


async def test_text_comes_piece_by_piece_between_a_call_s_start_and_its_end(tmp_path: Path) -> None:
    async with Runtime(everything=engine()) as runtime:
        events = [event async for event in runtime.stream(program(tmp_path), {"words": ["a", "b"]})]
        trace = await runtime.run(program(tmp_path), {"words": ["a", "b"]})
    for call in trace.calls:
        mine = [event for event in events if not isinstance(event, RunFinished) and event.call_key == call.call_key]
        assert isinstance(mine[0], NodeStarted)
        assert isinstance(mine[-1], NodeFinished)
        pieces = [event.text for event in mine[1:-1] if isinstance(event, TextSampled)]
        assert "".join(pieces) == call.text
        assert len(pieces) == len(mine) - 2
    assert max(len(event.text) for event in events if isinstance(event, TextSampled)) <= 4


async def test_an_engine_that_does_not_stream_tells_no_text(tmp_path: Path) -> None:
    class Plain:
        """The protocol's members, and no more."""

        def __init__(self, inner: ScriptedEngine) -> None:
            for name in ("name", "model_id", "tokenizer", "stop_token_ids", "context_length", "token_exact"):
                setattr(self, name, getattr(inner, name))
            self.honours_seed = self.constrains = True
            self.generate = inner.generate
            self.aclose = inner.aclose

    async with Runtime(everything=Plain(engine())) as runtime:  # type: ignore[arg-type]
        events = [event async for event in runtime.stream(program(tmp_path), {"words": ["a"]})]
    assert not any(isinstance(event, TextSampled) for event in events)
    assert isinstance(events[-1], RunFinished)


async def test_a_retry_tells_its_text_under_its_own_key(tmp_path: Path) -> None:
    answers = ["better", "good"]
    source = ScriptedEngine(
        lambda prompt, request: "a" if last_user_turn(prompt).startswith("word: ") else answers.pop(0), constrains=False
    )
    async with Runtime(everything=source) as runtime:
        events = [event async for event in runtime.stream(program(tmp_path), {"words": ["a"]})]
    told: dict[str, str] = {}
    for event in events:
        if isinstance(event, TextSampled):
            told[event.call_key] = told.get(event.call_key, "") + event.text
    assert told == {
        "Write/drafts[0]/Draft": "a", "Write/grades[0]/Grade": "better", "Write/grades[0]/Grade/retry[1]": "good",
    }  # fmt: skip
