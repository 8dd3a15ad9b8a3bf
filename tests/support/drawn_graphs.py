"""Graphs drawn at random: nested ifs, loops, maps, catches, called flows, exits, returns, asserts, Python that reads or
acts. Every value is a short text; some expressions have no value."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmgraph.graph.nodes import Expr, GetItem, MakeList, Node
from lmgraph.graph.types import STR, Field
from lmgraph.program import Program
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
    when,
)

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


def drawn(seed: int, root: Path) -> Program:
    """The program of this seed: the flow `Outer`, which may call `Inner`; both take the text `x` and give `out`."""
    rng = random.Random(seed)
    inner = Drawn(rng, "Inner").flow()
    outer = Drawn(rng, "Outer", ("Inner",)).flow()
    return program(outer, inner, root=root, externs=EXTERNS)
