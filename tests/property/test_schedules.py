"""Nothing that a run does depends on timing: calls, keys, seeds, values, first causes and the order of effects.

Programs are drawn at random: nested ifs, loops, maps, catches, called flows, exits, returns, asserts, Python that reads
or acts, and models that now and then fail. Each runs under several schedules, and once with nothing beside anything.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmgraph.errors import EngineError
from lmgraph.graph.nodes import Expr, GetItem, MakeList, Node
from lmgraph.graph.types import STR, Field
from lmgraph.graph.verify import verify
from lmgraph.program import Program
from lmgraph.runtime import RunOptions, Runtime, Trace
from lmgraph.runtime.python import load_callable
from lmgraph.testing import ScriptedEngine
from support.graphs import (
    apply,
    call,
    catch,
    check,
    each,
    either,
    expr,
    expression,
    extern,
    flow,
    leave,
    lm,
    out,
    program,
    python,
    ref,
    region,
    repeat,
    stop,
    text_of,
    when,
    write_tools,
)

TOOLS = """
import asyncio
import random

RNG = random.Random()

def short(who, x):
    return x[:3]

async def look(who, x):
    await asyncio.sleep(RNG.random() / 1000)
    if x.endswith("7"):
        raise LookupError(x)
    return x[-2:]

async def act(who, x):
    await asyncio.sleep(RNG.random() / 1000)
    if x.endswith(("3", "8")):
        raise OSError(x)
    return x[-2:]
"""
GIVEN = (Field("who", STR), Field("x", STR))
WAYS = (("short", "fn"), ("look", "retriever"), ("act", "tool"))
EXTERNS = [extern(name, kind, STR, GIVEN) for name, kind in WAYS]


class Drawn:
    """Draws the nodes of one flow. Every value is a short text."""

    def __init__(self, rng: random.Random, name: str, calls: Sequence[str] = ()) -> None:
        self._rng = rng
        self._name = name
        self._calls = calls
        self._used = 0

    def flow(self) -> Any:
        nodes, scope = self.nodes(self._name, self._name, [ref(f"{self._name}/x")], 2, None, returns=True)
        return flow(self._name, nodes, {"out": self.value(scope)}, {"x": STR})

    def nodes(
        self, at: str, path: str, scope: list[Expr], depth: int, loop: str | None, *, returns: bool
    ) -> tuple[list[Node], list[Expr]]:
        """Some nodes whose ids start with ``at``, and what is in scope after them."""
        nodes: list[Node] = []
        scope = list(scope)
        for _ in range(self._rng.randint(*((4, 9) if depth == 2 else (1, 4)))):
            node, gives = self.node(at, path, scope, depth, loop, returns=returns)
            nodes.append(node)
            scope += gives
        return nodes, scope

    def node(
        self, at: str, path: str, scope: list[Expr], depth: int, loop: str | None, *, returns: bool
    ) -> tuple[Node, list[Expr]]:
        kinds = ["lm", "lm", "lm", "expr", "python", "python", "check", "check", *["call"] * bool(self._calls)]
        kinds += ["if", "loop", "map", "catch"] * (depth > 0)
        kinds += ["exit"] * (loop is not None) + ["return"] * returns
        kind = self._rng.choice(kinds)
        self._used += 1
        id = f"{at}/{kind}{self._used}"
        condition = self.condition(scope)
        match kind:
            case "lm":
                return lm(id, self.value(scope)), [out(id)]
            case "expr":
                missing = GetItem(MakeList(()), expression(0))
                failing = self._rng.random() < 0.05
                return expr(id, missing if failing else self.value(scope)), [ref(id)]
            case "python":
                name, way = self._rng.choice([*WAYS, WAYS[-1]])
                return python(id, name, way, STR, who=id, x=self.value(scope)), [ref(id)]
            case "check":
                often = apply("or", condition, apply("<", self.value(scope), "4"))
                return check(id, often, kind=self._rng.choice(["assert", "check"])), []
            case "call":
                return call(id, self._rng.choice(self._calls), x=self.value(scope)), [out(id)]
            case "if":
                regions = []
                for side in ("then", "else"):
                    nodes, inner = self.nodes(f"{id}.{side}", path, scope, depth - 1, loop, returns=returns)
                    regions.append(region(nodes, a=self.value(inner), b=self.value(inner)))
                return either(id, condition, regions[0], regions[1], "a", "b"), [ref(f"{id}:a"), ref(f"{id}:b")]
            case "loop":
                carried = {"v": self.value(scope)}
                inside = [*scope, ref(f"{id}/v")]
                nodes, inner = self.nodes(id, id, inside, depth - 1, id, returns=returns)
                limit = self._rng.randint(0, 3)
                return repeat(id, limit, carried, region(nodes, v=self.value(inner)), index="i"), [ref(f"{id}:v")]
            case "map":
                kept = None
                if self._rng.random() < 0.5:
                    nodes, inner = self.nodes(f"{id}/if", id, [*scope, ref(f"{id}/e")], 0, None, returns=False)
                    kept = region(nodes, self.condition(inner))
                nodes, inner = self.nodes(id, id, [*scope, ref(f"{id}/e")], depth - 1, None, returns=False)
                items = MakeList(tuple(self.value(scope) for _ in range(self._rng.randint(0, 3))))
                return each(id, items, region(nodes, self.value(inner)), f"{id}/e", kept), [apply("text", ref(id))]
            case "catch":
                nodes, inner = self.nodes(f"{id}.try", path, scope, depth - 1, None, returns=False)
                other, after = self.nodes(f"{id}.catch", path, [*scope, ref(f"{id}.why")], 0, None, returns=False)
                tried = catch(id, region(nodes, self.value(inner)), region(other, self.value(after)), f"{id}.why")
                return tried, [ref(id)]
            case "exit":
                return stop(id, condition, str(loop), v=self.value(scope)), []
            case _:
                return when(id, condition, [leave(f"{id}.then/return", out=self.value(scope))]), []

    def value(self, scope: list[Expr]) -> Expr:
        texts = [*scope, *scope, expression("1"), expression("24")]
        return self._rng.choice(texts)

    def condition(self, scope: list[Expr]) -> Expr:
        operator = self._rng.choice(["<", ">", "==", "!="])
        return apply(operator, self.value(scope), self._rng.choice(["2", "25", "3", "x"]))


def drawn(seed: int) -> Program:
    rng = random.Random(seed)
    inner = Drawn(rng, "Inner").flow()
    outer = Drawn(rng, "Outer", ("Inner",)).flow()
    return program(outer, inner, root=Path(FOLDER.name), externs=EXTERNS)


def engine(seed: int) -> ScriptedEngine:
    """Answers with a number below 50 that follows from what it is given, and fails for one in ten texts."""
    rng = random.Random(seed)

    def answer(prompt: str, request: Any) -> Any:
        number = zlib.crc32(text_of(prompt).encode()) % 52
        return EngineError(f"no answer to {number}") if number >= 50 else str(number)

    return ScriptedEngine(answer, latency=lambda request: rng.random() / 1000 if rng.random() < 0.8 else 0.0)


def signature(trace: Trace) -> dict[str, Any]:
    """All of a trace but its times and its own id."""
    return {
        "outputs": trace.outputs,
        "failure": trace.failure,
        "calls": [replace(call, started=0.0, seconds=0.0) for call in trace.calls],
        "steps": [replace(step, started=0.0, seconds=0.0) for step in trace.steps],
        "checks": trace.checks,
    }


async def observed(made: Program, schedule: int, *, one_at_a_time: bool = False) -> tuple[dict[str, Any], list[str]]:
    """What a run did, and in which order it acted, maps apart: their elements act at once."""
    load_callable("tools:act", made.root).__globals__["RNG"].seed(schedule)
    async with Runtime(everything=engine(schedule)) as runtime:
        trace = await runtime.run(made, {"x": "start"}, options=RunOptions(one_at_a_time=one_at_a_time))
    assert len(asyncio.all_tasks()) == 1
    acted = sorted((step for step in trace.steps if step.kind == "tool"), key=lambda step: step.started)
    return signature(trace), [step.call_key for step in acted if "/map" not in step.call_key]


FOLDER = tempfile.TemporaryDirectory(prefix="lmgraph-schedules-")
write_tools(Path(FOLDER.name), TOOLS)


@settings(max_examples=80, phases=(Phase.explicit, Phase.generate))  # a smaller seed is no smaller program
@given(st.integers(0, 10**9))
def test_a_run_is_the_same_under_every_schedule(seed: int) -> None:
    made = drawn(seed)
    verify(made.graph)

    async def all_of_them() -> list[tuple[dict[str, Any], list[str]]]:
        plain = await observed(made, 0, one_at_a_time=True)
        return [plain, *[await observed(made, schedule) for schedule in (1, 2, 3)]]

    plain, *others = asyncio.run(all_of_them())
    for other in others:
        assert other == plain
