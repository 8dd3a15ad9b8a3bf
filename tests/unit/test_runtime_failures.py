"""Failures and asserts in regions: what docs/decisions/0005 says, on graphs written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lmgraph.errors import EngineUnavailable
from lmgraph.graph.nodes import Choose, GetItem, MakeList, Node
from lmgraph.graph.types import BOOL, INT, STR
from support.graphs import (
    TEXTS,
    apply,
    call,
    catch,
    check,
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


def early(condition: Any, *before: Node) -> Any:
    nodes = [
        *before,
        when("F/if", condition, [leave("F/if.then/return", b="early b", a="early a")]),
        lm("F/Late", "late"),
    ]
    return flow("F", nodes, {"a": out("F/Late"), "b": "late b"}, {"go": BOOL})


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
