"""Regions, exits and failures: what docs/decisions/0005 says, on graphs written by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmgraph.graph.nodes import MakeList, Node
from lmgraph.graph.types import BOOL
from lmgraph.runtime import RunOptions, Runtime
from support.graphs import (
    PASS_NAMES,
    TEXTS,
    apply,
    call,
    catch,
    each,
    echo,
    either,
    expr,
    failing,
    flow,
    keys,
    leave,
    lm,
    out,
    program,
    ref,
    region,
    repeat,
    run,
    scripted,
    stop,
    when,
)

# -- ids, keys, values -----------------------------------------------------------------------------------------------


async def test_if_and_catch_add_to_ids_and_only_maps_and_loops_to_indices() -> None:
    inner = [
        either("F/hop/if", ref("F/go"), region([lm("F/hop/if.then/a")], out("F/hop/if.then/a")), region([], "")),
        each(
            "F/hop/read",
            ref("F/xs"),
            region(
                [catch("F/hop/read/c", region([lm("F/hop/read/c.try/b")], "b"), region([], ""))], ref("F/hop/read/c")
            ),
            "F/hop/read/x",
        ),
    ]
    nodes = [repeat("F/hop", 2, {}, region(inner))]
    done = await run(program(flow("F", nodes, {"out": "x"}, {"go": BOOL, "xs": TEXTS})), go=True, xs=["p", "q"])
    assert keys(done) == [
        "F/hop[0]/if.then/a",
        "F/hop[0]/read[0]/c.try/b",
        "F/hop[0]/read[1]/c.try/b",
        "F/hop[1]/if.then/a",
        "F/hop[1]/read[0]/c.try/b",
        "F/hop[1]/read[1]/c.try/b",
    ]
    assert {one.node for one in done.calls} == {"F/hop/if.then/a", "F/hop/read/c.try/b"}


async def test_a_flow_call_puts_its_key_before_those_of_the_called_flow() -> None:
    sub = flow(
        "Sub",
        [
            each(
                "Sub/read",
                ref("Sub/xs"),
                region([lm("Sub/read/D", ref("Sub/read/x"))], out("Sub/read/D")),
                "Sub/read/x",
            )
        ],
        {"out": ref("Sub/read")},
        {"xs": TEXTS},
        {"out": TEXTS},
    )
    main = flow(
        "Main", [call("Main/sub", "Sub", xs=ref("Main/xs"))], {"out": out("Main/sub")}, {"xs": TEXTS}, {"out": TEXTS}
    )
    done = await run(program(main, sub), xs=["a", "b"])
    assert done.outputs == {"out": ["[a]", "[b]"]}
    assert keys(done) == ["Main/sub/read[0]/D", "Main/sub/read[1]/D"]
    assert done.calls[0].node == "Sub/read/D"


async def test_calls_are_in_the_order_of_their_indices() -> None:
    body = region([lm("F/hop/D", apply("text", ref("F/hop/i")))])
    done = await run(program(flow("F", [repeat("F/hop", 12, {}, body, index="i")], {"out": "x"})))
    assert keys(done) == [f"F/hop[{index}]/D" for index in range(12)]


# -- loops -----------------------------------------------------------------------------------------------------------


def hops(limit: int, *nodes: Node, exit_on: Any = False) -> Any:
    """notes := notes + [M(hop)], until ``exit_on``, which reads `F/hop/D`."""
    longer = apply("+", ref("F/hop/notes"), MakeList((out("F/hop/D"),)))
    body = [
        lm("F/hop/D", apply("text", ref("F/hop/i"))),
        expr("F/hop/longer", longer),
        stop("F/hop/stop", exit_on, "F/hop", notes=ref("F/hop/longer"), last=out("F/hop/D")),
        *nodes,
    ]
    results = region(body, notes=ref("F/hop/longer"), last="went on")
    loop = repeat("F/hop", limit, {"notes": MakeList(()), "last": "none"}, results, index="i")
    return flow("F", [loop], {"notes": ref("F/hop:notes"), "last": ref("F/hop:last")}, {}, {"notes": TEXTS})


async def test_a_loop_carries_its_variables_and_ends_at_its_limit() -> None:
    done = await run(program(hops(3)))
    assert done.outputs == {"notes": ["[0]", "[1]", "[2]"], "last": "went on"}
    assert (await run(program(hops(0)))).outputs == {"notes": [], "last": "none"}


async def test_an_exit_ends_the_loop_with_its_own_values() -> None:
    after = lm("F/hop/After")
    done = await run(program(hops(5, after, exit_on=apply("==", out("F/hop/D"), "[1]"))))
    assert done.outputs == {"notes": ["[0]", "[1]"], "last": "[1]"}
    assert keys(done) == ["F/hop[0]/After", "F/hop[0]/D", "F/hop[1]/D"], "what comes after an exit waits for it"


async def test_an_exit_inside_an_if_inside_the_loop() -> None:
    leaving = when(
        "F/hop/if", apply("==", ref("F/hop/i"), 1), [stop("F/hop/if.then/stop", True, "F/hop", n=ref("F/hop/i"))]
    )
    body = region([leaving, lm("F/hop/D")], n=-1)
    done = await run(program(flow("F", [repeat("F/hop", 5, {"n": 0}, body, index="i")], {"n": ref("F/hop:n")})))
    assert done.outputs == {"n": 1}
    assert keys(done) == ["F/hop[0]/D"]


async def test_an_exit_of_an_outer_loop_ends_both() -> None:
    inner = repeat(
        "F/a/b",
        3,
        {"y": 0},
        region(
            [when("F/a/b/if", apply("==", ref("F/a/b/j"), 1), [stop("F/a/b/if.then/s", True, "F/a", x="out")])],
            y=ref("F/a/b/j"),
        ),
        index="j",
    )
    outer = repeat("F/a", 3, {"x": "none"}, region([lm("F/a/D"), inner], x="round"), index="i")
    done = await run(program(flow("F", [outer], {"x": ref("F/a:x")})))
    assert done.outputs == {"x": "out"}
    assert keys(done) == ["F/a[0]/D"]


async def test_everything_before_an_exit_runs_to_its_end() -> None:
    slow = scripted(lambda text: f"[{text}]")
    slow._latency = lambda request: 0.02 if "slow" in slow.tokenizer.decode(request.prompt_ids) else 0.0
    body = region([lm("F/hop/Slow", "slow"), lm("F/hop/D"), stop("F/hop/s", True, "F/hop", n=out("F/hop/D"))], n="")
    done = await run(program(flow("F", [repeat("F/hop", 2, {"n": ""}, body)], {"n": ref("F/hop:n")})), slow)
    assert keys(done) == ["F/hop[0]/D", "F/hop[0]/Slow"]
    assert done.calls[1].finish_reason == "stop"


# -- returns ---------------------------------------------------------------------------------------------------------


def early(condition: Any, *before: Node) -> Any:
    nodes = [
        *before,
        when("F/if", condition, [leave("F/if.then/return", b="early b", a="early a")]),
        lm("F/Late", "late"),
    ]
    return flow("F", nodes, {"a": out("F/Late"), "b": "late b"}, {"go": BOOL})


async def test_a_return_ends_the_flow_and_what_follows_does_not_run() -> None:
    leaving = program(early(ref("F/go")))
    done = await run(leaving, go=True)
    assert done.outputs == {"a": "early a", "b": "early b"}, "by name, whatever their order"
    assert keys(done) == []
    done = await run(leaving, go=False)
    assert done.outputs == {"a": "[late]", "b": "late b"}


async def test_a_return_in_a_called_flow_ends_that_flow_only() -> None:
    main = flow("Main", [call("Main/sub", "F", go=True), lm("Main/D")], {"a": out("Main/sub", "a"), "d": out("Main/D")})
    done = await run(program(main, early(ref("F/go"))))
    assert done.outputs == {"a": "early a", "d": "[x]"}


async def test_a_return_inside_a_loop_ends_the_flow() -> None:
    body = region(
        [lm("F/hop/D"), when("F/hop/if", apply("==", ref("F/hop/i"), 2), [leave("F/hop/if.then/r", out="left")])]
    )
    done = await run(program(flow("F", [repeat("F/hop", 9, {}, body, index="i"), lm("F/D")], {"out": "stayed"})))
    assert done.outputs == {"out": "left"}
    assert keys(done) == ["F/hop[0]/D", "F/hop[1]/D", "F/hop[2]/D"]


async def test_a_return_of_a_failed_value_fails_the_flow() -> None:
    nodes = [lm("F/D", "bad"), when("F/if", True, [leave("F/if.then/r", out=out("F/D"))])]
    done = await run(program(flow("F", nodes, {"out": "stayed"})), failing("bad"))
    assert done.failure is not None
    assert done.failure.call_key == "F/D"


# -- maps ------------------------------------------------------------------------------------------------------------


async def test_a_maps_condition_may_call_and_indices_count_what_is_left_out() -> None:
    kept = region([lm("F/all/keep", ref("F/all/x"))], apply("!=", out("F/all/keep"), "[b]"))
    body = region([lm("F/all/D", apply("+", ref("F/all/x"), "!"))], out("F/all/D"))
    of = program(flow("F", [each("F/all", ref("F/xs"), body, "F/all/x", kept)], {"out": ref("F/all")}, {"xs": TEXTS}))
    done = await run(of, xs=["a", "b", "c"])
    assert done.outputs == {"out": ["[a!]", "[c!]"]}
    assert keys(done) == ["F/all[0]/D", "F/all[0]/keep", "F/all[1]/keep", "F/all[2]/D", "F/all[2]/keep"]
    done = await run(of, failing("b"), xs=["a", "b", "c"])
    assert done.failure is not None
    assert done.failure.call_key == "F/all[1]/keep"


async def test_elements_run_at_once_and_in_order_where_that_is_asked() -> None:
    body = region([lm("F/all/D", ref("F/all/x"))], out("F/all/D"))
    of = program(flow("F", [each("F/all", ref("F/xs"), body, "F/all/x")], {"out": ref("F/all")}, {"xs": TEXTS}))
    engine = echo()
    await run(of, engine, xs=["a", "b", "c"])
    assert engine.most_at_once == 3
    engine = echo()
    await run(of, engine, options=RunOptions(one_at_a_time=True), xs=["a", "b", "c"])
    assert engine.most_at_once == 1
    assert [request.request_id for request in engine.requests] == ["F/all[0]/D", "F/all[1]/D", "F/all[2]/D"]


# -- many things at once ---------------------------------------------------------------------------------------------


async def test_independent_branches_run_beside_one_another() -> None:
    nodes = [
        either(f"F/if{n}", True, region([lm(f"F/if{n}.then/a")], out(f"F/if{n}.then/a")), region([], ""))
        for n in range(3)
    ]
    engine = echo()
    engine._latency = 0.01
    await run(program(flow("F", nodes, {"out": ref("F/if2")})), engine)
    assert engine.most_at_once == 3


async def test_cancelling_a_run_leaves_nothing_behind() -> None:
    started = asyncio.Event()

    def answer(text: str) -> str:
        started.set()
        return text

    engine = scripted(answer)
    engine._latency = 60.0
    body = region([lm("F/hop/D"), each("F/hop/all", ref("F/xs"), region([lm("F/hop/all/E")], "x"), "F/hop/all/x")])
    of = program(flow("F", [repeat("F/hop", 3, {}, body), lm("F/Z")], {"out": "x"}, {"xs": TEXTS}))
    async with Runtime(everything=engine, passes_off=PASS_NAMES) as runtime:
        task = asyncio.create_task(runtime.run(of, {"xs": ["a", "b"]}))
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.under_way == 0
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
