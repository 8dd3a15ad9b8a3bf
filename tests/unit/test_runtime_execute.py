"""The executor: what runs at once, and what does not depend on timing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from lmgraph.errors import (
    BudgetExhausted,
    ConfigError,
    DataError,
    EngineError,
    EngineUnavailable,
    OutputError,
    RunError,
)
from lmgraph.program import Program
from lmgraph.runtime import Budget, Meter, RunOptions, Runtime, Trace
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from support.scripted import program_from

WORKFLOW = """
edition 1

module Split(text: str) -> (parts: list[str]) { max_tokens: 64 }
module Judge(part: str) -> (good: bool) { max_tokens: 8 }
module Title(text: str) -> (title: str) { max_tokens: 32 }
module Join(title: str, kept: list[bool]) -> (summary: str) { max_tokens: 64 }

flow Work(text: str) -> (summary: str, kept: list[bool]) {
  split = Split(text=text)
  kept = [Judge(part=p).good for p in split.parts]
  title = Title(text=text)
  joined = Join(title=title.title, kept=kept)
  return (summary=joined.summary, kept=kept)
}
"""


def script(prompt: str, request: GenerateRequest) -> str:
    turn = last_user_turn(prompt)
    if "parts" in prompt.partition("user\n")[0] and turn.startswith("text:"):
        return '{"parts": ["one", "two", "three", "four"]}'
    if turn.startswith("part:"):
        return "true" if "o" in turn.partition("part: ")[2].partition("\n")[0] else "false"
    if turn.startswith("text:"):
        return "A title"
    return "The end"


@pytest.fixture
def workflow(tmp_path: Path) -> Program:
    return program_from(tmp_path, WORKFLOW)


async def run(program: Program, engine: ScriptedEngine, **options: object) -> Trace:
    async with Runtime(everything=engine) as runtime:
        return await runtime.run(program, {"text": "hello"}, options=RunOptions(**options))  # type: ignore[arg-type]


async def test_results_keys_and_seeds_are_the_same_under_every_schedule(workflow: Program) -> None:
    def signature(trace: Trace) -> list[tuple[object, ...]]:
        return [(call.call_key, call.seed, tuple(call.prompt_ids), tuple(call.logprobs)) for call in trace.calls]

    plain = await run(workflow, ScriptedEngine(script), seed=5)
    assert plain.outputs == {"summary": "The end", "kept": [True, True, False, True]}
    assert [call.call_key for call in plain.calls] == sorted(call.call_key for call in plain.calls)
    for attempt in range(5):
        rng = random.Random(attempt)
        slow = ScriptedEngine(script, latency=lambda request, rng=rng: rng.random() / 100)  # type: ignore[misc]
        trace = await run(workflow, slow, seed=5)
        assert trace.outputs == plain.outputs
        assert signature(trace) == signature(plain)
    other = await run(workflow, ScriptedEngine(script), seed=6)
    assert {call.seed for call in other.calls}.isdisjoint(call.seed for call in plain.calls)


async def test_call_keys_are_paths_with_indices(workflow: Program) -> None:
    keys = [call.call_key for call in (await run(workflow, ScriptedEngine(script))).calls]
    assert len(keys) == len(set(keys)) == 7
    assert all(key.startswith("Work/") for key in keys)
    assert [index for index in range(4) if any(f"[{index}]" in key for key in keys)] == [0, 1, 2, 3]


async def test_what_can_run_at_once_does(workflow: Program) -> None:
    engine = ScriptedEngine(script, latency=0.05)
    await run(workflow, engine)
    assert engine.most_at_once >= 4


async def test_a_failed_call_poisons_what_reads_it_and_nothing_else(workflow: Program) -> None:
    def failing(prompt: str, request: GenerateRequest) -> str | Exception:
        return EngineError("the server is on fire") if "part: two" in prompt else script(prompt, request)

    engine = ScriptedEngine(failing)
    trace = await run(workflow, engine)
    assert trace.outputs is None
    assert trace.failure is not None
    assert trace.failure.kind == "engine"
    assert "[1]" in trace.failure.call_key
    assert "on fire" in trace.failure.message
    assert any("text: hello" in prompt and "title" in prompt for prompt in engine.prompts), "Title ran all the same"
    assert not any("kept:" in last_user_turn(prompt) for prompt in engine.prompts), "Join never ran"
    with pytest.raises(RunError, match="on fire") as caught:
        trace.require()
    assert caught.value.call_key == trace.failure.call_key


async def test_the_first_failure_in_source_order_is_reported(workflow: Program) -> None:
    def failing(prompt: str, request: GenerateRequest) -> str | Exception:
        turn = last_user_turn(prompt)
        return EngineError("no " + turn.split()[1]) if turn.startswith("part:") else script(prompt, request)

    for attempt in range(4):
        rng = random.Random(attempt)
        engine = ScriptedEngine(failing, latency=lambda request, rng=rng: rng.random() / 200)  # type: ignore[misc]
        trace = await run(workflow, engine)
        assert trace.failure is not None
        assert "no one" in trace.failure.message


async def test_an_output_that_does_not_parse_is_a_value_with_its_text(workflow: Program) -> None:
    def rambling(prompt: str, request: GenerateRequest) -> str:
        return "perhaps?" if "part: two" in prompt else script(prompt, request)

    trace = await run(workflow, ScriptedEngine(rambling), decoding="strict")
    assert trace.failure is not None
    assert (trace.failure.kind, trace.failure.raw_text) == ("parse", "perhaps?")
    call = next(call for call in trace.calls if call.failure is not None)
    assert call.outputs is None
    assert len(call.completion_ids) == len(call.logprobs) > 0
    with pytest.raises(OutputError) as caught:
        trace.require()
    assert caught.value.raw_text == "perhaps?"


async def test_a_retry_shows_the_problem_and_is_a_call_of_its_own(tmp_path: Path) -> None:
    program = program_from(
        tmp_path, "edition 1\nmodule Judge(part: str) -> (good: bool) { max_tokens: 16\n retries: 2 }\n"
    )

    def second_time(prompt: str, request: GenerateRequest) -> str:
        return "true" if "does not fit" in prompt else "hmm"

    engine = ScriptedEngine(second_time)
    async with Runtime(everything=engine) as runtime:
        trace = await runtime.run(program, {"part": "x"}, options=RunOptions("strict"))
    assert trace.outputs == {"good": True}
    first, second = trace.calls
    assert second.call_key == f"{first.call_key}/retry[1]"
    assert first.seed != second.seed
    assert "hmm" in engine.prompts[1]


async def test_an_engine_that_cannot_constrain_gets_one_retry(tmp_path: Path) -> None:
    program = program_from(tmp_path, "edition 1\nmodule Judge(part: str) -> (good: bool) { max_tokens: 16 }\n")
    engine = ScriptedEngine({"does not fit": "true", "": "hmm"}, constrains=False)
    async with Runtime(everything=engine) as runtime:
        trace = await runtime.run(program, {"part": "x"})
    assert trace.outputs == {"good": True}
    assert len(trace.calls) == 2


async def test_cancelling_a_run_cancels_its_calls(workflow: Program) -> None:
    reached = asyncio.Event()

    def stuck(request: GenerateRequest) -> float:
        if engine.under_way >= 4:
            reached.set()
        return 0.0 if len(engine.requests) < 3 else 60.0

    engine = ScriptedEngine(script, latency=stuck)
    async with Runtime(everything=engine) as runtime:
        task = asyncio.create_task(runtime.run(workflow, {"text": "hello"}))
        await asyncio.wait_for(reached.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.under_way == 0
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1


async def test_an_engine_that_is_gone_ends_everything(workflow: Program) -> None:
    engine = ScriptedEngine(lambda prompt, request: EngineUnavailable("gone"))
    with pytest.raises(EngineUnavailable):
        await run(workflow, engine)
    assert engine.under_way == 0


async def test_inputs_are_checked_before_any_call(workflow: Program) -> None:
    engine = ScriptedEngine(script)
    async with Runtime(everything=engine) as runtime:
        for inputs in ({}, {"text": 3}, {"text": "x", "more": 1}):
            with pytest.raises(DataError, match="Work"):
                await runtime.run(workflow, inputs)
        with pytest.raises(ConfigError, match="no flow"):
            await runtime.run(workflow, {"text": "x"}, flow="Nope")
    assert engine.requests == []


async def test_the_budget_is_a_hard_stop(workflow: Program) -> None:
    engine = ScriptedEngine(script, latency=0.001)
    meter = Meter(Budget(calls=3))
    async with Runtime(everything=engine, meter=meter) as runtime:
        with pytest.raises(BudgetExhausted, match="3 calls"):
            await runtime.run(workflow, {"text": "hello"})
    assert len(engine.requests) <= 3
    assert engine.under_way == 0


async def test_many_runs_share_one_runtime(workflow: Program) -> None:
    engine = ScriptedEngine(script, latency=0.002)
    async with Runtime(everything=engine) as runtime:
        traces = await asyncio.gather(*(runtime.run(workflow, {"text": f"t{n}"}) for n in range(40)))
    assert all(trace.outputs == traces[0].outputs for trace in traces)
    assert len({trace.run_id for trace in traces}) == 40


def test_run_sync_needs_no_loop(workflow: Program) -> None:
    runtime = Runtime(everything=ScriptedEngine(script))
    assert runtime.run_sync(workflow, {"text": "hello"}).outputs is not None
    assert runtime.run_sync(workflow, {"text": "again"}).outputs is not None
