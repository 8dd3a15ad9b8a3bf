"""Regions, exits and failures: what docs/decisions/0005 says, on graphs written by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmgraph.errors import EngineError, EngineUnavailable
from lmgraph.graph.nodes import Choose, GetItem, MakeList, Node
from lmgraph.graph.types import BOOL, INT, STR, ListType
from lmgraph.runtime import RunOptions, Runtime
from support.graphs import (
    apply,
    call,
    catch,
    check,
    each,
    echo,
    either,
    expr,
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

TEXTS = ListType(STR)


def failing(*texts: str) -> Any:
    """An engine that fails where `M` is given one of these."""

    def answer(text: str) -> Any:
        return EngineError(f"no {text}") if text in texts else f"[{text}]"

    return scripted(answer)


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


# -- failures --------------------------------------------------------------------------------------------------------


async def test_values_of_an_if_fail_one_by_one() -> None:
    then = region([lm("F/if.then/a", "bad")], x=out("F/if.then/a"), y="fine")
    nodes = [either("F/if", True, then, region([], x="", y=""), "x", "y")]
    of = program(
        flow("F", nodes, {"y": ref("F/if:y")}),
        flow(
            "G",
            [
                either(
                    "G/if",
                    True,
                    region([lm("G/if.then/a", "bad")], x=out("G/if.then/a"), y="fine"),
                    region([], x="", y=""),
                    "x",
                    "y",
                )
            ],
            {"x": ref("G/if:x"), "y": ref("G/if:y")},
        ),
    )
    assert (await run(of, failing("bad"))).outputs == {"y": "fine"}
    done = await run(of, failing("bad"), flow="G")
    assert done.failure is not None
    assert done.failure.call_key == "G/if.then/a"


async def test_where_a_condition_fails_all_results_do() -> None:
    bad = lm("F/D", "bad")
    nodes = [bad, either("F/if", apply("==", out("F/D"), "x"), region([], "yes"), region([], "no"))]
    done = await run(program(flow("F", nodes, {"out": ref("F/if")})), failing("bad"))
    assert done.failure is not None
    assert done.failure.call_key == "F/D"
    unread = await run(program(flow("F", nodes, {"out": "fine"})), failing("bad"))
    assert unread.outputs == {"out": "fine"}, "nobody reads it, and control cannot leave there"


async def test_where_control_may_leave_a_failed_condition_fails_the_region() -> None:
    late = lm("F/Late", "late")
    leaving = when("F/if", apply("==", out("F/D"), "x"), [leave("F/if.then/r", out="early")])
    done = await run(program(flow("F", [lm("F/D", "bad"), leaving, late], {"out": "fine"})), failing("bad"))
    assert done.failure is not None
    assert (done.failure.call_key, keys(done)) == ("F/D", []), "what comes after cannot know whether it should run"


async def test_a_failed_exit_condition_fails_the_loop() -> None:
    done = await run(program(hops(3, exit_on=apply("==", out("F/hop/D"), "x"))), failing("1"))
    assert done.failure is not None
    assert done.failure.call_key == "F/hop[1]/D"
    assert keys(done) == ["F/hop[0]/D"]


async def test_a_carried_variable_may_fail_and_be_mended() -> None:
    body = region([lm("F/hop/D", apply("text", ref("F/hop/i")))], x=out("F/hop/D"))
    of = program(flow("F", [repeat("F/hop", 3, {"x": ""}, body, index="i")], {"out": ref("F/hop:x")}))
    assert (await run(of, failing("0", "1"))).outputs == {"out": "[2]"}
    done = await run(of, failing("2"))
    assert done.failure is not None
    assert done.failure.call_key == "F/hop[2]/D"


async def test_a_side_that_is_not_chosen_is_not_read() -> None:
    chosen = Choose(ref("F/go"), out("F/Good"), out("F/Bad"))
    nodes = [lm("F/Good", "good"), lm("F/Bad", "bad")]
    of = program(flow("F", nodes, {"out": chosen}, {"go": BOOL}))
    assert (await run(of, failing("bad"), go=True)).outputs == {"out": "[good]"}
    assert (await run(of, failing("bad"), go=False)).failure is not None
    both = apply("and", ref("F/go"), apply("==", out("F/Bad"), "x"))
    of = program(flow("F", nodes, {"out": both}, {"go": BOOL}))
    assert (await run(of, failing("bad"), go=False)).outputs == {"out": False}


async def test_catch_gives_the_fallback_with_the_failures_text() -> None:
    caught = catch(
        "F/c",
        region([lm("F/c.try/D", ref("F/x"))], out("F/c.try/D")),
        region([], apply("+", "failed: ", ref("F/c.error"))),
        "F/c.error",
    )
    of = program(flow("F", [caught], {"out": ref("F/c")}, {"x": STR}))
    assert (await run(of, failing("bad"), x="good")).outputs == {"out": "[good]"}
    assert (await run(of, failing("bad"), x="bad")).outputs == {"out": "failed: no bad"}


async def test_catch_takes_failures_of_what_it_reads_and_of_its_own_asserts() -> None:
    body = region([check("F/c.try/assert", False, "never")], out("F/D"))
    caught = catch("F/c", body, region([lm("F/c.catch/Weak", "weak")], out("F/c.catch/Weak")))
    done = await run(program(flow("F", [lm("F/D", "good"), caught], {"out": ref("F/c")})))
    assert done.outputs == {"out": "[weak]"}
    reading = catch("F/c", region([], out("F/D")), region([], "other"))
    done = await run(program(flow("F", [lm("F/D", "bad"), reading], {"out": ref("F/c")})), failing("bad"))
    assert done.outputs == {"out": "other"}


async def test_a_fallback_that_fails_is_the_failure() -> None:
    caught = catch(
        "F/c",
        region([lm("F/c.try/D", "bad")], out("F/c.try/D")),
        region([lm("F/c.catch/E", "worse")], out("F/c.catch/E")),
    )
    done = await run(program(flow("F", [caught], {"out": ref("F/c")})), failing("bad", "worse"))
    assert done.failure is not None
    assert done.failure.call_key == "F/c.catch/E"


async def test_engines_that_are_gone_are_not_caught() -> None:
    gone = scripted(lambda text: EngineUnavailable("gone"))
    caught = catch("F/c", region([lm("F/c.try/D")], out("F/c.try/D")), region([], "other"))
    with pytest.raises(EngineUnavailable):
        await run(program(flow("F", [caught], {"out": ref("F/c")})), gone)


async def test_failures_inside_nested_flows_come_out_as_they_went_in() -> None:
    sub = flow("Sub", [lm("Sub/D", ref("Sub/x"))], {"out": out("Sub/D")}, {"x": STR})
    nodes = [
        each(
            "Main/all",
            ref("Main/xs"),
            region([call("Main/all/s", "Sub", x=ref("Main/all/x"))], out("Main/all/s")),
            "Main/all/x",
        )
    ]
    done = await run(
        program(flow("Main", nodes, {"out": ref("Main/all")}, {"xs": TEXTS}), sub),
        failing("b", "c"),
        xs=["a", "b", "c"],
    )
    assert done.failure is not None
    assert (done.failure.node, done.failure.call_key) == ("Sub/D", "Main/all[1]/s/D"), "the first in source order"


# -- asserts ---------------------------------------------------------------------------------------------------------


async def test_a_false_assert_fails_the_flow_though_nobody_reads_it() -> None:
    nodes = [lm("F/D"), check("F/assert", apply("==", out("F/D"), "other"), "it is other"), lm("F/E", "after")]
    done = await run(program(flow("F", nodes, {"out": "fine"})))
    assert done.failure is not None
    assert (done.failure.kind, done.failure.message, done.failure.call_key) == ("assert", "it is other", "F/assert")
    assert keys(done) == ["F/D", "F/E"], "nothing is cancelled because something else failed"
    (record,) = done.checks
    assert (record.kind, record.passed, record.values) == ("assert", False, (("D.out", "[x]"),))


async def test_the_first_of_several_false_asserts_is_the_cause() -> None:
    nodes = [check("F/one", True), check("F/two", False, "two"), check("F/three", False, "three")]
    done = await run(program(flow("F", nodes, {"out": "x"})))
    assert done.failure is not None
    assert done.failure.message == "two"
    assert [(one.node, one.passed) for one in done.checks] == [("F/one", True), ("F/three", False), ("F/two", False)]


async def test_a_check_is_recorded_only() -> None:
    nodes = [check("F/check", apply(">", apply("len", ref("F/xs")), 1), "some", kind="check")]
    of = program(flow("F", nodes, {"out": "fine"}, {"xs": TEXTS}))
    done = await run(of, xs=["a"])
    assert done.outputs == {"out": "fine"}
    assert [(one.passed, one.values) for one in done.checks] == [(False, (("xs", ["a"]),))]
    assert [one.passed for one in (await run(of, xs=["a", "b"])).checks] == [True]


async def test_a_check_without_a_value_says_so_and_an_assert_fails() -> None:
    beyond = apply("==", GetItem(ref("F/xs"), apply("-", 5, 0)), "x")
    for kind, failed in (("check", False), ("assert", True)):
        done = await run(program(flow("F", [check("F/c", beyond, kind=kind)], {"out": "x"}, {"xs": TEXTS})), xs=["a"])
        assert [one.passed for one in done.checks] == [None]
        assert (done.failure is not None) is failed


@pytest.mark.parametrize("holder", ["if", "map", "loop", "flow"])
async def test_what_holds_a_false_assert_fails_its_region(holder: str) -> None:
    sub = flow("Sub", [check("Sub/assert", False, "deep")], {"out": "x"})
    inside = {
        "if": when("F/h", True, [check("F/h.then/assert", False, "deep")]),
        "map": each("F/h", ref("F/xs"), region([check("F/h/assert", False, "deep")], "x"), "F/h/x"),
        "loop": repeat("F/h", 2, {}, region([check("F/h/assert", False, "deep")])),
        "flow": call("F/h", "Sub"),
    }
    done = await run(program(flow("F", [inside[holder]], {"out": "fine"}, {"xs": TEXTS}), sub), xs=["a", "b"])
    assert done.failure is not None
    assert done.failure.message == "deep"


async def test_an_assert_before_an_exit_decides_and_one_after_it_is_not_asked() -> None:
    def of(*nodes: Node) -> Any:
        return program(
            flow("F", [repeat("F/l", 2, {"x": 0}, region(nodes, x=1))], {"out": ref("F/l:x")}, {}, {"out": INT})
        )

    guard, leaving = check("F/l/assert", False, "no"), stop("F/l/stop", True, "F/l", x=7)
    done = await run(of(guard, leaving))
    assert done.failure is not None
    done = await run(of(leaving, guard))
    assert (done.outputs, done.checks) == ({"out": 7}, [])


@pytest.mark.parametrize("slow", ["a", "b", ""])
async def test_the_first_cause_is_the_first_in_the_source_whatever_ends_first(slow: str) -> None:
    engine = echo()
    engine._latency = lambda request: 0.01 if slow and request.request_id.endswith(slow) else 0.0

    def false(name: str, called: str) -> Node:
        return check(name, apply("==", out(called), "other"), f"{called} is other")

    asserts = [false("F/one", "F/a"), false("F/two", "F/b")]
    done = await run(program(flow("F", [lm("F/a"), lm("F/b"), *asserts], {"out": "x"})), engine)
    assert done.failure is not None
    assert done.failure.call_key == "F/one"
    leaving = stop("F/l/s", apply("==", out("F/l/b"), "[x]"), "F/l", x="left")
    inside = [lm("F/l/a"), lm("F/l/b"), false("F/l/one", "F/l/a"), leaving]
    done = await run(program(flow("F", [repeat("F/l", 2, {"x": ""}, region(inside, x=""))], {"out": "x"})), engine)
    assert done.failure is not None
    assert done.failure.call_key == "F/l[0]/one"


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
    async with Runtime(everything=engine) as runtime:
        task = asyncio.create_task(runtime.run(of, {"xs": ["a", "b"]}))
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.under_way == 0
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
