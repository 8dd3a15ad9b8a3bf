"""Runtime.map: any number of inputs in constant memory, each answered once, and nothing left when the reader leaves."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import BudgetExhausted, ConfigError
from lmgraph.program import Program
from lmgraph.runtime import Budget, Meter, RunIdentity, RunOptions, Runtime, Trace, TraceStore
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.runtime.mapping import AHEAD, map_bounded
from lmgraph.testing import Reply, ScriptedEngine, last_user_turn
from support.scripted import program_from

ECHO = """
edition 1

module Echo(word: str) -> (said: str) {
  max_tokens: 64
}

flow Say(word: str) -> (said: str) {
  out = Echo(word=word)
  return (said=out.said)
}
"""


def program(folder: Path) -> Program:
    return program_from(folder, ECHO)


def word_of(prompt: str) -> str:
    return last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]


def echo(latency: Callable[[str], float] = lambda word: 0.0) -> ScriptedEngine:
    def answer(prompt: str, request: GenerateRequest) -> Reply:
        word = word_of(prompt)
        return Reply(f"say {word}", latency=latency(word))

    return ScriptedEngine(answer)


def words(count: int, taken: list[int] | None = None) -> Iterator[dict[str, str]]:
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield {"word": f"w{number}"}


async def said(traces: AsyncIterator[Trace]) -> list[Any]:
    return [(trace.outputs or {}).get("said") async for trace in traces]


async def collect(traces: AsyncIterator[Trace], places: list[str]) -> None:
    async for trace in traces:
        places.append(trace.identity.example)


async def test_results_come_in_the_order_of_the_inputs(tmp_path: Path) -> None:
    engine = echo(lambda word: 0.02 if int(word[1:]) % 3 == 0 else 0.0)
    async with Runtime(everything=engine) as runtime:
        found = await said(runtime.map(program(tmp_path), words(40), concurrency=8))
    assert found == [f"say w{number}" for number in range(40)]
    assert 1 < engine.most_at_once <= 8
    assert len(engine.requests) == 40


async def test_results_come_as_they_are_done_where_asked(tmp_path: Path) -> None:
    engine = echo(lambda word: 0.2 if word == "w0" else 0.0)
    async with Runtime(everything=engine) as runtime:
        places = [
            trace.identity.example
            async for trace in runtime.map(program(tmp_path), words(20), concurrency=4, ordered=False)
        ]
    assert places[-1] == "0"
    assert sorted(map(int, places)) == list(range(20))


async def test_a_slow_input_holds_no_others_back(tmp_path: Path) -> None:
    engine = echo(lambda word: 0.2 if word == "w0" else 0.0)
    async with Runtime(everything=engine) as runtime:
        results = runtime.map(program(tmp_path), words(100), concurrency=2)
        await anext(results)
        assert len(engine.requests) == 2 * AHEAD
        await results.aclose()


async def test_inputs_may_come_from_async_code(tmp_path: Path) -> None:
    async def source() -> AsyncIterator[dict[str, str]]:
        for one in words(10):
            await asyncio.sleep(0)
            yield one

    async with Runtime(everything=echo()) as runtime:
        assert await said(runtime.map(program(tmp_path), source())) == [f"say w{number}" for number in range(10)]


async def test_a_result_does_not_wait_for_the_next_input(tmp_path: Path) -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[dict[str, str]]:
        yield {"word": "first"}
        await more.wait()
        yield {"word": "second"}

    async with Runtime(everything=echo()) as runtime:
        results = runtime.map(program(tmp_path), source())
        first = await asyncio.wait_for(anext(results), 5)
        assert first.outputs == {"said": "say first"}
        more.set()
        assert await said(results) == ["say second"]


async def test_no_inputs_are_no_results(tmp_path: Path) -> None:
    async with Runtime(everything=echo()) as runtime:
        assert await said(runtime.map(program(tmp_path), [])) == []


async def test_inputs_are_taken_only_as_results_are(tmp_path: Path) -> None:
    taken: list[int] = []
    async with Runtime(everything=echo()) as runtime:
        results = runtime.map(program(tmp_path), words(10_000, taken), concurrency=4)
        await anext(results)
        await asyncio.sleep(0.05)
        assert len(taken) <= 4 * AHEAD + 1
        await results.aclose()


async def test_memory_does_not_grow_with_the_inputs(tmp_path: Path) -> None:
    def alive() -> int:
        gc.collect()
        return sum(isinstance(one, Trace) for one in gc.get_objects())

    engine = echo()
    most = 0
    before = alive()  # what other tests left
    async with Runtime(everything=engine) as runtime:
        count = 0
        async for _ in runtime.map(program(tmp_path), words(1500), concurrency=4):
            engine.requests.clear()
            count += 1
            if count % 500 == 0:
                most = max(most, alive())
    assert count == 1500
    assert most - before <= 4 * AHEAD + 2


async def test_failures_are_values(tmp_path: Path) -> None:
    engine = ScriptedEngine({"bad": Reply("", finish_reason="abort"), "": "fine"})
    rows: list[Any] = [{"word": "good"}, {"word": "bad"}, {"word": 3}, {}, "no mapping", {"word": "good"}]
    async with Runtime(everything=engine, store=tmp_path / "t.db") as runtime:
        traces = [trace async for trace in runtime.map(program(tmp_path), rows)]
        assert runtime.store is not None
        assert len(runtime.store.list_runs()) == 3, "what was not begun is not kept"
    kinds = [trace.failure and trace.failure.kind for trace in traces]
    assert kinds == [None, "engine", "value", "value", "value", None]
    assert "string" in str(traces[2].failure)
    assert [trace.identity.example for trace in traces] == ["0", "1", "2", "3", "4", "5"]


async def test_each_input_has_seeds_of_its_own(tmp_path: Path) -> None:
    engine = echo()
    options = RunOptions(temperature=1.0, seed=4)
    async with Runtime(everything=engine) as runtime:
        first = [t.calls[0].seed async for t in runtime.map(program(tmp_path), words(5), options=options)]
        again = [
            t.calls[0].seed
            async for t in runtime.map(program(tmp_path), words(5), options=options, concurrency=1, ordered=False)
        ]
        named = RunOptions(temperature=1.0, seed=4, identity=RunIdentity(example="row"))
        alike = {t.calls[0].seed async for t in runtime.map(program(tmp_path), words(5), options=named)}
    assert first == again
    assert len(set(first)) == 5
    assert len(alike) == 1


async def test_nothing_is_left_when_the_reader_leaves(tmp_path: Path) -> None:
    engine = echo(lambda word: 0.0 if word == "w0" else 30.0)
    async with Runtime(everything=engine) as runtime:
        async with aclosing(runtime.map(program(tmp_path), words(100), concurrency=16)) as results:
            async for trace in results:
                assert trace.outputs == {"said": "say w0"}
                await asyncio.sleep(0.01)
                assert engine.under_way == 16
                break
        assert engine.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nothing_is_left_when_the_reader_is_cancelled(tmp_path: Path) -> None:
    engine = echo(lambda word: 30.0)
    async with Runtime(everything=engine) as runtime:
        reader = asyncio.create_task(said(runtime.map(program(tmp_path), words(100))))
        async with asyncio.timeout(60):
            while engine.under_way < 64:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert engine.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_budget_is_a_hard_stop_after_the_results_that_are_there(tmp_path: Path) -> None:
    engine = echo()
    got: list[str] = []
    async with Runtime(everything=engine, meter=Meter(Budget(calls=10))) as runtime:
        results = runtime.map(program(tmp_path), words(100), concurrency=3)
        with pytest.raises(BudgetExhausted):
            await collect(results, got)
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(engine.requests) == 10
    assert got == [str(number) for number in range(10)]


async def test_what_the_source_raises_is_raised(tmp_path: Path) -> None:
    def source() -> Iterator[dict[str, str]]:
        yield from words(3)
        raise OSError("the disk is gone")

    async with Runtime(everything=echo()) as runtime:
        got: list[str] = []
        with pytest.raises(OSError, match="the disk is gone"):
            await collect(runtime.map(program(tmp_path), source(), concurrency=1), got)
    assert got == ["0", "1", "2"]


async def test_concurrency_below_one_is_refused(tmp_path: Path) -> None:
    async with Runtime(everything=echo()) as runtime:
        with pytest.raises(ConfigError, match="expected 1 or more"):
            runtime.map(program(tmp_path), [], concurrency=0)


async def test_work_that_others_cancel_does_not_hang_the_reader() -> None:
    async def work(position: int, item: int) -> int:
        raise asyncio.CancelledError

    with pytest.raises(Exception, match="cancelled from outside"):
        await asyncio.wait_for(anext(map_bounded([1], work, at_once=2, ordered=True)), 5)


async def test_runs_are_kept_once_each(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    async with Runtime(everything=echo(), store=store) as runtime:
        async for _ in runtime.map(program(tmp_path), words(50)):
            pass
    assert sorted(int(run["example"]) for run in store.list_runs(limit=1000)) == list(range(50))
    store.close()


async def test_a_map_goes_on_where_another_one_was_left(tmp_path: Path) -> None:
    made, words = program(tmp_path), [{"word": word} for word in ("a", "b", "a", "c")]
    serving = ScriptedEngine({"": "said"})
    async with Runtime(everything=serving, store=tmp_path / "t.db") as runtime:
        async with aclosing(runtime.map(made, words, concurrency=1)) as traces:
            first = [await anext(traces), await anext(traces)]
        assert runtime.store is not None
        done = len(runtime.store.list_runs())
        assert 2 <= done < 4
        asked = len(serving.requests)
        again = [trace async for trace in runtime.map(made, words, resume=True)]
        assert [trace.run_id for trace in again[:2]] == [trace.run_id for trace in first]
        assert [trace.identity.example for trace in again] == ["0", "1", "2", "3"]
        assert len(serving.requests) == asked + 4 - done
        assert len(runtime.store.list_runs()) == 4, "the same input at another position is another one"
        for changed, options in ((words[::-1], RunOptions()), (words, RunOptions(seed=1))):
            before = len(serving.requests)
            _ = [trace async for trace in runtime.map(made, changed, options=options, resume=True)]
            assert len(serving.requests) > before
        tuned = made.with_params(made.params.with_module("Echo", instruction="Louder."))
        before = len(serving.requests)
        _ = [trace async for trace in runtime.map(tuned, words, resume=True)]
        assert len(serving.requests) == before + 4


async def test_a_map_is_resumed_from_a_store_and_without_stubs(tmp_path: Path) -> None:
    made = program(tmp_path)
    async with Runtime(everything=ScriptedEngine({"": "x"})) as runtime:
        with pytest.raises(ConfigError, match="no trace store to resume from"):
            runtime.map(made, [{"word": "a"}], resume=True)
    async with Runtime(everything=ScriptedEngine({"": "x"}), store=tmp_path / "t.db") as runtime:
        options = RunOptions(stubs={"Echo": lambda given: {"said": "x"}})
        with pytest.raises(ConfigError, match="stubs cannot be resumed"):
            _ = [trace async for trace in runtime.map(made, [{"word": "a"}], options=options, resume=True)]
        _ = [trace async for trace in runtime.map(made, [{"word": "a"}], options=options)]
