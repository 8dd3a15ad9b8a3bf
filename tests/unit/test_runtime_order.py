"""Which calls go first: of earlier runs, then those that the most tokens wait for; and one ahead of those like it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from lmgraph.engines.http.limiter import Limiter
from lmgraph.errors import EngineError
from lmgraph.graph.nodes import MakeList
from lmgraph.graph.types import STR
from lmgraph.program import Program
from lmgraph.runtime import ResponseCache, RunOptions, Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.runtime.planner import Planner
from lmgraph.testing import Reply, ScriptedEngine
from support.graphs import TEXTS, apply, call, each, either, expression, flow, lm, out, program, ref, region, repeat


def ranks(engine: ScriptedEngine) -> dict[str, tuple[int, int]]:
    return {request.request_id: request.rank for request in engine.requests}


async def ran(made: Program, times: int = 1) -> ScriptedEngine:
    engine = ScriptedEngine({"": "x"})
    async with Runtime(everything=engine) as runtime:
        for _ in range(times):
            (await runtime.run(made, {})).require()
    return engine


TOKENS = 128
"""That each of the calls here may write."""


async def test_a_call_says_how_much_waits_for_it_and_of_which_run_it_is() -> None:
    chain = [lm("F/a"), lm("F/b", out("F/a")), lm("F/c", out("F/b"))]
    made = program(flow("F", [lm("F/alone"), *chain], {"one": out("F/alone"), "other": out("F/c")}))
    engine = await ran(made, times=2)
    assert ranks(engine) == {"F/alone": (1, 0), "F/a": (1, -2 * TOKENS), "F/b": (1, -TOKENS), "F/c": (1, 0)}
    assert {request.rank[0] for request in engine.requests} == {0, 1}


async def test_what_waits_outside_a_map_a_loop_a_branch_or_a_flow_counts_too() -> None:
    items = MakeList((expression("1"), expression("2")))
    inner = flow("G", [lm("G/g"), lm("G/h", out("G/g"))], {"out": out("G/h")})
    nodes = [
        call("F/sub", "G"),
        each("F/map", items, region([lm("F/map/m", ref("F/map/e"))], out("F/map/m")), "F/map/e"),
        repeat("F/loop", 1, {"v": out("F/sub")}, region([lm("F/loop/l", ref("F/loop/v"))], v=out("F/loop/l"))),
        either(
            "F/if",
            apply("==", out("F/sub"), "x"),
            region([lm("F/if.then/t", ref("F/loop:v"))], out=out("F/if.then/t")),
            region([lm("F/if.else/u"), lm("F/if.else/w", out("F/if.else/u"))], out=out("F/if.else/w")),
            "out",
        ),
        lm("F/end", ref("F/if:out")),
    ]
    made = program(flow("F", nodes, {"out": out("F/end"), "all": ref("F/map")}, outputs={"all": TEXTS}), inner)
    found = {key: -behind / TOKENS for key, (_, behind) in ranks(await ran(made)).items()}
    assert found == {
        "F/sub/g": 5, "F/sub/h": 4, "F/map[0]/m": 0, "F/map[1]/m": 0, "F/loop[0]/l": 3, "F/if.then/t": 1, "F/end": 0,
    }  # fmt: skip


async def test_flows_that_call_others_twice_are_planned_at_any_depth() -> None:
    flows = [flow("F0", [lm("F0/a", ref("F0/q"))], {"out": out("F0/a")}, {"q": STR})]
    for level in range(1, 31):
        one, other = f"F{level}/b", f"F{level}/c"
        nodes = [call(one, f"F{level - 1}", q=ref(f"F{level}/q")), call(other, f"F{level - 1}", q=out(one))]
        flows.append(flow(f"F{level}", nodes, {"out": out(other)}, {"q": STR}))
    plan = Planner(program(*flows).graph).flow("F30")
    assert [node.id for node in plan.body.nodes] == ["F30/b", "F30/c"]


async def test_a_busy_server_takes_the_lowest_rank_first_and_equal_ones_as_they_came() -> None:
    limiter = Limiter(1)
    order: list[str] = []

    async def work(name: str, rank: tuple[int, int]) -> None:
        await limiter.enter(rank)
        order.append(name)
        await asyncio.sleep(0)
        limiter.leave()

    calls = [("first", (9, 0)), ("b", (1, 0)), ("c", (1, -2)), ("a", (0, 0)), ("d", (1, 0)), ("e", (2, -5))]
    await asyncio.gather(*(work(name, rank) for name, rank in calls))
    assert order == ["first", "a", "c", "b", "d", "e"]
    assert limiter.load == 0


class Caching(ScriptedEngine):
    """Keeps the beginnings of prompts."""

    caches_prefixes = True


def many(count: int, instruction: str) -> Program:
    items = MakeList(tuple(expression(str(number)) for number in range(count)))
    body = region([lm("F/map/m", ref("F/map/e"))], out("F/map/m"))
    nodes = [each("F/map", items, body, "F/map/e")]
    made = program(flow("F", nodes, {"out": ref("F/map")}, outputs={"out": TEXTS}))
    return made.with_params(made.params.with_module("M", instruction=instruction))


LONG = "Say it in other words. " * 20


async def test_one_call_of_those_that_begin_alike_goes_ahead() -> None:
    asked: list[str] = []
    go = asyncio.Event()

    class Slow(Caching):
        async def generate(self, request: GenerateRequest) -> Any:
            asked.append(request.request_id)
            await go.wait()
            return await super().generate(request)

    async def seen(engine: ScriptedEngine, made: Program) -> int:
        """Calls that were made before the first answer came."""
        asked.clear()
        go.clear()
        async with Runtime(everything=engine) as runtime:
            running = asyncio.create_task(runtime.run(made, {}))
            for _ in range(100):
                await asyncio.sleep(0)
            before = len(asked)
            go.set()
            (await running).require()
            assert len(asked) == 8
            asked.clear()
            await runtime.run(made, {})
            assert len(asked) == 8
        return before

    assert await seen(Slow({"": "x"}), many(8, LONG)) == 1
    assert await seen(Slow({"": "x"}), many(8, "Short.")) == 8, "a short beginning is computed as fast as waited for"
    plain = Slow({"": "x"})
    plain.caches_prefixes = False
    assert await seen(plain, many(8, LONG)) == 8


async def test_where_the_first_one_fails_or_is_slow_the_others_go_on() -> None:
    failing = Caching(lambda prompt, request: EngineError("down") if request.request_id == "F/map[0]/m" else "x")
    async with Runtime(everything=failing) as runtime:
        trace = await runtime.run(many(4, LONG), {})
    assert len(failing.requests) == 4
    assert len(trace.calls) == 3
    slow = Caching(lambda prompt, request: Reply("x", latency=3.0 if request.request_id == "F/map[0]/m" else 0.0))
    async with Runtime(everything=slow) as runtime:
        running = asyncio.create_task(runtime.run(many(4, LONG), {}))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while len(slow.requests) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not running.done()
        await running


async def test_equal_calls_under_way_share_an_answer_where_it_is_kept(tmp_path: Path) -> None:
    items = MakeList(tuple(expression("the same") for _ in range(6)))
    body = region([lm("F/map/m", ref("F/map/e"))], out("F/map/m"))
    nodes = [each("F/map", items, body, "F/map/e")]
    made = program(flow("F", nodes, {"out": ref("F/map")}, outputs={"out": TEXTS}))

    def engine() -> ScriptedEngine:
        return ScriptedEngine({"": "x"}, latency=0.05)

    for cache, asked in ((ResponseCache(tmp_path), 1), (None, 6)):
        serving = engine()
        async with Runtime(everything=serving, cache=cache) as runtime:
            trace = await runtime.run(made, {})
        assert len(serving.requests) == asked
        assert [call.source for call in trace.calls].count("engine") == asked
        assert {call.text for call in trace.calls} == {"x"}
    serving = engine()
    async with Runtime(everything=serving, cache=ResponseCache(tmp_path / "other")) as runtime:
        await runtime.run(made, {}, options=RunOptions(cache="off"))
    assert len(serving.requests) == 6


async def test_where_the_one_that_asks_fails_or_is_cancelled_the_others_ask(tmp_path: Path) -> None:
    made = program(flow("F", [lm("F/a")], {"out": out("F/a")}))
    answers: list[Any] = [EngineError("down"), "x", "x", "x"]
    serving = ScriptedEngine(lambda prompt, request: answers.pop(0), latency=0.05)
    async with Runtime(everything=serving, cache=ResponseCache(tmp_path)) as runtime:
        traces = await asyncio.gather(*(runtime.run(made, {}) for _ in range(3)))
    assert [trace.failure is None for trace in traces] == [False, True, True]
    serving = ScriptedEngine({"": "x"}, latency=0.05)
    async with Runtime(everything=serving, cache=ResponseCache(tmp_path / "other")) as runtime:
        running = [asyncio.create_task(runtime.run(made, {})) for _ in range(3)]
        while not serving.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)
        running[0].cancel()
        done = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(not isinstance(one, BaseException) and one.failure is None for one in done[1:])
