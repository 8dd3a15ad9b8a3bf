"""Tools act in the order of the source, and not at all once something before them that must succeed has failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmgraph.graph.nodes import Node
from lmgraph.graph.types import INT, STR, Field, ListType
from support.graphs import (
    apply,
    call,
    catch,
    check,
    each,
    echo,
    extern,
    flow,
    keys,
    lm,
    out,
    program,
    python,
    ref,
    region,
    repeat,
    run,
    when,
    write_tools,
)

TEXTS = ListType(STR)

ACT = """
import threading, time
DONE = []

def act(what, seconds=0.0):
    time.sleep(seconds)
    DONE.append(what)
    if what == "bad":
        raise ValueError("it broke")
    return what

def log():
    return list(DONE)
"""
ACTING = extern("act", "tool", STR, [Field("what", STR), Field("seconds", INT)])


def acting(folder: Path, *nodes: Node, results: Any = None, **more: Any) -> Any:
    write_tools(folder, ACT)
    return program(flow("F", nodes, results or {"out": "fine"}, {"xs": TEXTS}), root=folder, externs=[ACTING], **more)


def act(id: str, what: Any, seconds: int = 0) -> Node:
    return python(id, "act", "tool", what=what, seconds=seconds)


async def done_by(of: Any, engine: Any = None, **inputs: Any) -> tuple[Any, list[str]]:
    trace = await run(of, engine, **({"xs": []} | inputs))
    return trace, [step.inputs["what"] for step in sorted(trace.steps, key=lambda step: step.started)]


async def test_tools_act_in_source_order(tmp_path: Path) -> None:
    sub = flow("Sub", [act("Sub/t", "two")], {"out": "x"})
    nodes = [
        act("F/a", "one"),
        call("F/b", "Sub"),
        when("F/if", True, [act("F/if.then/t", "three")]),
        repeat("F/l", 2, {}, region([act("F/l/t", "four")])),
        lm("F/free"),
        act("F/e", "five"),
    ]
    write_tools(tmp_path, ACT)
    of = program(flow("F", nodes, {"out": "x"}, {"xs": TEXTS}), sub, root=tmp_path, externs=[ACTING])
    trace, order = await done_by(of)
    assert order == ["one", "two", "three", "four", "four", "five"]
    assert [step.call_key for step in trace.steps] == ["F/a", "F/b/t", "F/e", "F/if.then/t", "F/l[0]/t", "F/l[1]/t"]


async def test_a_failed_tool_fails_the_flow_and_nothing_acts_after_it(tmp_path: Path) -> None:
    nodes = [act("F/a", "one"), act("F/b", "bad"), lm("F/D"), act("F/c", "three")]
    trace, order = await done_by(acting(tmp_path, *nodes))
    assert order == ["one", "bad"]
    assert trace.failure is not None
    assert (trace.failure.kind, trace.failure.call_key) == ("tool", "F/b")
    assert "ValueError: it broke (at tools.py:9)" in trace.failure.message
    assert keys(trace) == ["F/D"], "what does not act runs all the same"


@pytest.mark.parametrize("slow", [0.0, 0.02])
async def test_an_assert_guards_what_acts_after_it(tmp_path: Path, slow: float) -> None:
    engine = echo()
    engine._latency = slow
    nodes = [lm("F/D"), check("F/assert", apply("==", out("F/D"), "other"), "guard"), act("F/a", "one")]
    trace, order = await done_by(acting(tmp_path, *nodes), engine)
    assert order == []
    assert trace.failure is not None
    assert trace.failure.message == "guard"
    held = when("F/if", True, [check("F/if.then/assert", False, "held")])
    assert (await done_by(acting(tmp_path, held, act("F/a", "one"))))[1] == []


async def test_elements_of_one_map_act_at_once(tmp_path: Path) -> None:
    body = region([act("F/all/t", ref("F/all/x"), 1)], ref("F/all/t"))
    meet = ACT.replace("DONE = []", "DONE, TWO = [], threading.Barrier(2)").replace(
        "time.sleep(seconds)", "TWO.wait(10)"
    )
    write_tools(tmp_path, meet)
    of = program(
        flow("F", [each("F/all", ref("F/xs"), body, "F/all/x")], {"out": ref("F/all")}, {"xs": TEXTS}, {"out": TEXTS}),
        root=tmp_path,
        externs=[ACTING],
    )
    trace, _ = await done_by(of, xs=["a", "b", "c", "d"])
    assert trace.outputs == {"out": ["a", "b", "c", "d"]}, "each waits for another one"


async def test_a_tool_under_catch_may_fail(tmp_path: Path) -> None:
    caught = catch("F/c", region([act("F/c.try/t", "bad")], ref("F/c.try/t")), region([], "mended"))
    trace, order = await done_by(acting(tmp_path, caught, act("F/a", "after"), results={"out": ref("F/c")}))
    assert trace.outputs == {"out": "mended"}
    assert order == ["bad", "after"]
