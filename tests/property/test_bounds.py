"""Static bounds hold in every run: calls, tokens, and how many calls wait for one another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmgraph.compiler.bounds import ProgramBounds
from lmgraph.compiler.compile import compile_source
from lmgraph.compiler.least import LeastCost
from lmgraph.compiler.polynomials import Polynomial, number, symbol
from lmgraph.graph.graph import Graph
from lmgraph.program.expressions import NoValue
from lmgraph.runtime.execute import execute
from lmgraph.runtime.plan import PlannedCall
from lmgraph.runtime.planner import Planner
from lmgraph.runtime.trace import Failure
from lmgraph.source import Source
from support.meaning import answer
from support.programs import inputs, random_program

MANY = settings(max_examples=100, phases=[Phase.generate])
SEEDS = st.integers(0, 2**32)


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop whose time passes only where everything waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def skip(timeout: float | None) -> Any:
            self.now += max(0.0, timeout or 0.0)
            return select(0)

        self._selector.select = skip  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


def measured(graph: Graph, given_inputs: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """What a run took where each call of a model needed every try, and the lengths of the lists that turned up."""
    taken = {"calls": 0, "tokens": 0, "path": 0}
    lengths = {"Main.ts": len(given_inputs["ts"]), "Ask.items": 0, "look": 0, "Act.step.action": 0}

    async def call(node: PlannedCall, key: str, arguments: Mapping[str, Any]) -> Any:
        value = answer(node.name, arguments)
        if node.kind == "module":
            module = graph.module(node.name)
            tries = 1 + module.retries
            taken["calls"] += tries
            taken["tokens"] += tries * module.max_tokens
            await asyncio.sleep(tries)
        if node.name == "Ask":
            lengths["Ask.items"] = max(lengths["Ask.items"], len(value["items"]))
        if node.name == "look":
            lengths["look"] = max(lengths["look"], len(value))
        return value

    loop = VirtualTime()
    try:
        loop.run_until_complete(execute(Planner(graph).flow("Main"), given_inputs, call, lambda record: None))
        taken["path"] = round(loop.now)
    finally:
        loop.close()
    return taken, lengths


@MANY
@given(SEEDS, inputs())
def test_no_run_takes_more(seed: int, given_inputs: dict[str, Any]) -> None:
    graph = compile_source(Source("program.lmg", random_program(seed)), root=None).require()
    bounds = ProgramBounds(graph).flow("Main")
    taken, lengths = measured(graph, given_inputs)
    unknown = {one: 10**9 for one in bounds.calls.symbols if one not in lengths}
    for name, polynomial in (("calls", bounds.calls), ("tokens", bounds.tokens), ("path", bounds.path)):
        assert taken[name] <= polynomial.value({**lengths, **unknown}), (name, str(polynomial), lengths)


@MANY
@given(SEEDS, inputs())
def test_no_run_takes_less(seed: int, given_inputs: dict[str, Any]) -> None:
    """None in which nothing fails."""
    graph = compile_source(Source("program.lmg", random_program(seed)), root=None).require()
    keys: list[str] = []

    async def call(node: PlannedCall, key: str, arguments: Mapping[str, Any]) -> Any:
        if node.kind == "module":
            keys.append(key)
        return answer(node.name, arguments)

    with patch.object(NoValue, "__init__", autospec=True, return_value=None) as missing:
        result = asyncio.run(execute(Planner(graph).flow("Main"), given_inputs, call, lambda record: None))
    if not isinstance(result, Failure) and not missing.called:
        assert LeastCost(graph).flow("Main") <= len(keys)


def test_bounds_are_near_what_runs_take() -> None:
    """Not only above: now and then a run takes all of it."""
    reached = 0
    for seed in range(60):
        graph = compile_source(Source("program.lmg", random_program(seed)), root=None).require()
        bounds = ProgramBounds(graph).flow("Main")
        taken, lengths = measured(graph, {"t": "ab", "count": 2, "ts": ["a", "b"], "m": "x"})
        known = set(bounds.calls.symbols) <= set(lengths)
        reached += known and 0 < taken["calls"] == bounds.calls.value(lengths)
    assert reached >= 5


# -- polynomials -----------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
LENGTHS = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})


def polynomials() -> st.SearchStrategy[Polynomial]:
    leaves = st.one_of(st.integers(0, 9).map(number), st.sampled_from(NAMES).map(symbol))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda two: two[0] + two[1]),
            st.tuples(inner, inner).map(lambda two: two[0] * two[1]),
        ),
        max_leaves=6,
    )


@given(polynomials(), polynomials(), LENGTHS)
def test_polynomials_compute(one: Polynomial, other: Polynomial, lengths: dict[str, int]) -> None:
    first, second = one.value(lengths), other.value(lengths)
    assert (one + other).value(lengths) == first + second
    assert (one * other).value(lengths) == first * second
    assert one.at_most(other).value(lengths) >= max(first, second)


@given(polynomials(), polynomials(), LENGTHS)
def test_a_symbol_may_stand_for_a_polynomial(one: Polynomial, other: Polynomial, lengths: dict[str, int]) -> None:
    assert one.with_values({"a": other}).value(lengths) == one.value({**lengths, "a": other.value(lengths)})
