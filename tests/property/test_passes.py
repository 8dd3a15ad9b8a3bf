"""Passes keep what runs give, failures too, and never add a call: alone, and all of them one after the other.

Programs are drawn at random, once as text and once as graphs, which fail in more ways; each runs before and after.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmgraph.compiler.bounds import ProgramBounds
from lmgraph.compiler.compile import compile_source
from lmgraph.graph.graph import Graph
from lmgraph.graph.verify import verify
from lmgraph.passes import PASSES, optimized
from lmgraph.runtime.execute import execute
from lmgraph.runtime.plan import PlannedCall
from lmgraph.runtime.planner import Planner
from lmgraph.runtime.trace import CheckRecord, Failure
from lmgraph.source import Source
from support.drawn_graphs import drawn
from support.meaning import answer
from support.programs import PRELUDE, inputs, programs, random_program

MANY = settings(max_examples=60, phases=[Phase.explicit, Phase.generate])
SOME = settings(max_examples=15, phases=[Phase.generate])
SEEDS = st.integers(0, 2**32)


class Run:
    """What one run of the flow gave, and what it called."""

    def __init__(self, graph: Graph, flow: str, given_inputs: Mapping[str, Any], fails: int) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.acts: list[str] = []
        self.checks: list[CheckRecord] = []
        self._fails = fails
        plan = Planner(graph).flow(flow)
        self.result = asyncio.run(execute(plan, given_inputs, self._call, self.checks.append))

    async def _call(self, node: PlannedCall, key: str, arguments: Mapping[str, Any]) -> Any:
        self.calls.append((key, node.name, repr(sorted(arguments.items()))))
        if node.acts:
            self.acts.append(key)
        await asyncio.sleep(0)
        number = zlib.crc32(repr((node.name, sorted(arguments.items()))).encode())
        if self._fails and number % self._fails == 0:
            return Failure("tool", f"no answer to {number}", node.id, key)
        if "x" in arguments or ("text" in arguments and node.name == "M"):
            return str(number % 50) if node.kind == "extern" else {"out": str(number % 50)}
        return answer(node.name, arguments)

    @property
    def told(self) -> object:
        """The outputs, or why there are none. An equal call that was made before fails in its place."""
        return (self.result.kind, self.result.message) if isinstance(self.result, Failure) else self.result


def same(graph: Graph, after: Graph, flow: str, given_inputs: Mapping[str, Any], fails: int) -> None:
    one, other = Run(graph, flow, given_inputs, fails), Run(after, flow, given_inputs, fails)
    assert one.told == other.told
    assert set(other.calls) <= set(one.calls), "a call that was not made before, or with other arguments"
    assert len(other.calls) == len(set(other.calls))
    assert sorted(other.acts) == sorted(one.acts)
    in_order = [[key for key in run.acts if "[" not in key] for run in (one, other)]  # elements of a map act at once
    assert in_order[0] == in_order[1]
    assert sorted(one.checks, key=repr) == sorted(other.checks, key=repr)


def graph_of(text: str) -> Graph:
    return compile_source(Source("program.lmg", text), root=None).require()


@MANY
@given(SEEDS, inputs(), st.sampled_from([0, 0, 3, 8]))
def test_all_of_them_keep_what_programs_do(seed: int, given_inputs: dict[str, Any], fails: int) -> None:
    graph = graph_of(random_program(seed))
    after = optimized(graph)
    verify(after)
    same(graph, after, "Main", given_inputs, fails)


@SOME
@given(programs(), inputs(), st.sampled_from([0, 4]))
def test_all_of_them_keep_what_small_programs_do(text: str, given_inputs: dict[str, Any], fails: int) -> None:
    graph = graph_of(text)
    same(graph, optimized(graph), "Main", given_inputs, fails)


@MANY
@given(SEEDS, st.sampled_from([0, 6, 20]))
def test_all_of_them_keep_what_drawn_graphs_do(seed: int, fails: int) -> None:
    graph = drawn(seed, Path()).graph
    same(graph, optimized(graph), "Outer", {"x": "start"}, fails)


def lists(seed: int) -> str:
    """A program of maps whose elements mostly cannot fail, filtered, counted and read at fixed places afterwards."""
    source = random.Random(seed)
    pick = source.choice
    call = lambda x: pick([f"Ask(q={x}).text", f"Think(q={x}).text", f"joined(xs=[{x}])", f"({x} + look(q={x})[1])"])  # noqa: E731
    items = lambda: pick(["ts", "ts", "ts + [t]", '["u", "vv", "www"]', "look(q=t)"])  # noqa: E731
    caught = lambda x: pick([f'({call(x)} catch "c")', f'({call(x)} catch "c")', call(x)])  # noqa: E731
    kept = pick(["", "", " if len(x) > 0", " if Ask(q=x).ok"])
    size = pick(["len(x)", "len(x)", "1", "measured(text=x)", "count"])
    asks = pick(["n.size > 1", "n.size > count", "n.size > 0 and len(t) > 1", "len(n.text) > 1", 'n.text != "c"'])
    body = pick(["n.text", 'n.text + "!"', "Ask(q=n.text).text", "ts[n.size]"])
    text = pick(
        ["drafts[0]", "drafts[1]", "drafts[0] + drafts[1]", "t", 'if len(drafts) > 1 then drafts[1] else "few"']
    )
    also = pick(["", "", '  check drafts[0] != t else "same"\n', "  whole = found\n"])
    return f"""{PRELUDE}
record Pair {{ text: str  size: int }}
flow Main(t: str, count: int, ts: list[str], m: str?) -> (text: str, n: int, ok: bool, items: list[str], kind: Kind) {{
  found = [Pair(text={caught("x")}, size={size}) for x in {items()}{kept}]
  later = [{body} for n in found if {asks}]
  drafts = [{caught("y")} for y in {items()}]
{also}  return (text={text}, n=len(drafts), ok=true, items=later, kind=Kind.plain)
}}
"""


@MANY
@given(SEEDS, inputs(), st.sampled_from([0, 2, 3, 5]))
def test_all_of_them_keep_what_lists_hold(seed: int, given_inputs: dict[str, Any], fails: int) -> None:
    graph = graph_of(lists(seed))
    same(graph, optimized(graph), "Main", given_inputs, fails)


@pytest.mark.parametrize("name", [one.name for one in PASSES])
@SOME
@given(SEEDS, st.sampled_from([0, 6, 20]))
def test_each_alone_keeps_what_drawn_graphs_do(name: str, seed: int, fails: int) -> None:
    graph = drawn(seed, Path()).graph
    after = optimized(graph, [one.name for one in PASSES if one.name != name])
    same(graph, after, "Outer", {"x": "start"}, fails)


@pytest.mark.parametrize("name", [one.name for one in PASSES])
@SOME
@given(SEEDS, inputs(), st.sampled_from([0, 5]))
def test_each_alone_keeps_what_programs_do(name: str, seed: int, given_inputs: dict[str, Any], fails: int) -> None:
    graph = graph_of(random_program(seed))
    after = optimized(graph, [one.name for one in PASSES if one.name != name])
    same(graph, after, "Main", given_inputs, fails)


@SOME
@given(SEEDS)
def test_bounds_never_rise(seed: int) -> None:
    graph = graph_of(random_program(seed))
    before, after = ProgramBounds(graph).flow("Main"), ProgramBounds(optimized(graph)).flow("Main")
    for length in (0, 1, 3):
        lengths = dict.fromkeys((*before.calls.symbols, *after.calls.symbols), length)
        assert after.calls.value(lengths) <= before.calls.value(lengths)


@SOME
@given(SEEDS)
def test_they_come_to_an_end(seed: int) -> None:
    graph = graph_of(random_program(seed))
    done = optimized(graph)
    assert done == reduce(lambda before, one: one.apply(before), PASSES, graph), "a change was not noticed"
    assert optimized(optimized(done)) == optimized(done)


def test_they_find_something_to_do() -> None:
    """Each pass that random programs give work to does some: else the laws above would hold for nothing."""
    worked: set[str] = set()
    for seed in range(60):
        for graph in (graph_of(random_program(seed)), graph_of(lists(seed))):
            worked.update(one.name for one in PASSES if one.apply(graph) != graph)
    assert worked == {one.name for one in PASSES}
