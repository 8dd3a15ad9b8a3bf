"""Programs in which every construct stands in every other one: they compile, and mean in the graph what they say.

What they say is read off the syntax tree (tests/support/meaning.py), which knows nothing of graphs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmgraph.compiler.compile import compile_source
from lmgraph.graph.dump import dump, load
from lmgraph.graph.graph import Graph
from lmgraph.graph.verify import verify
from lmgraph.runtime.execute import execute
from lmgraph.runtime.plan import PlannedCall
from lmgraph.runtime.planner import Planner
from lmgraph.source import Source
from lmgraph.source.render import render
from lmgraph.syntax.format import format_source
from lmgraph.syntax.parser import parse
from support.meaning import Meaning, Unclear, answer
from support.programs import inputs, programs, random_program

FEW = settings(max_examples=12, phases=[Phase.generate])
SOME = settings(max_examples=25, phases=[Phase.generate])
"""Not shrunk: a program is hundreds of choices, and minutes pass before it is smaller."""

ANY = st.one_of(programs(), st.integers(0, 2**32).map(random_program))
"""The first kind is small at first, the second is not."""


def graph_of(text: str) -> Graph:
    compilation = compile_source(Source("program.lmg", text), root=None)
    assert compilation.graph is not None, render(compilation.diagnostics, compilation.sources)
    return compilation.graph


@SOME
@given(ANY)
def test_they_compile_and_load_again(text: str) -> None:
    graph = graph_of(text)
    verify(graph)
    assert load(dump(graph)) == graph


@FEW
@given(ANY)
def test_formatting_keeps_them(text: str) -> None:
    formatted = format_source(Source("program.lmg", text))
    assert format_source(Source("program.lmg", formatted)) == formatted
    assert parse(Source("program.lmg", formatted)).tree == parse(Source("program.lmg", text)).tree


@SOME
@given(ANY, inputs())
def test_the_graph_means_what_the_program_says(text: str, given_inputs: dict[str, Any]) -> None:
    tree = parse(Source("program.lmg", text)).tree
    assert tree is not None
    try:
        expected = Meaning(tree).run("Main", given_inputs)
    except Unclear:
        return
    graph = graph_of(text)
    at_once, keys = run(graph, given_inputs, one_at_a_time=False)
    in_order, keys_in_order = run(graph, given_inputs, one_at_a_time=True)
    assert at_once == in_order == expected
    assert sorted(keys) == sorted(keys_in_order)
    assert len(set(keys)) == len(keys)


@given(st.integers(0, 2**32))
def test_a_seed_gives_one_program(seed: int) -> None:
    assert random_program(seed) == random_program(seed)


def run(graph: Graph, given_inputs: Mapping[str, Any], *, one_at_a_time: bool) -> tuple[object, list[str]]:
    """What `Main` gives back, and the keys of the calls that were made."""
    keys: list[str] = []

    async def call(node: PlannedCall, key: str, arguments: Mapping[str, Any]) -> Any:
        keys.append(key)
        return answer(node.name, arguments)

    plan = Planner(graph).flow("Main")
    outcome = execute(plan, given_inputs, call, lambda record: None, one_at_a_time=one_at_a_time)
    return asyncio.run(outcome), keys
