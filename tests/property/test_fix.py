"""After `check --fix` nothing is left to fix, nothing is worse, and the graph is the same but for what nothing used."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.compiler.fix import fix_program
from lmgraph.graph.dump import dump
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import CatchNode, ExternCall, FlowCall, LmCall, Region
from lmgraph.graph.walk import inner_regions
from lmgraph.source import Source
from lmgraph.syntax.comments import Margin
from support.mutate import Mutator
from support.programs import random_program
from support.real_programs import real_programs

ODDITIES = (
    "  odd@ = 1\n",
    '  odd@ = "a" + "b"\n  more@ = odd@ + "c"\n',
    "  var odd@: list[int] = [1, 2]\n",
    "  if true or false { }\n",
    "  odd@ = (if 1 < 2 then 1 else 2) catch 3  # why\n",
    "  if false {\n    odd@ = 3\n    # nothing else\n  }\n",
)


@cache
def mutator() -> Mutator:
    return Mutator()


def with_oddities(text: str, chance: Random) -> str:
    """The program with statements that do nothing at the starts of some of its flows."""
    lines = text.splitlines(keepends=True)
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith("flow ") and lines[at].rstrip().endswith("{"):
            for number in range(chance.randrange(4)):
                odd = chance.choice(ODDITIES).replace("@", f"{at}x{number}")
                lines.insert(at + 1, odd)
    return "".join(lines)


def calls(graph: Graph) -> Counter[str]:
    """How often each module, flow and Python reference is called, what a `catch` would do instead left out. Ids do not
    matter: the second of two `if`s is the first one when that is deleted."""
    found: Counter[str] = Counter()

    def look(region: Region) -> None:
        for node in region.nodes:
            match node:
                case LmCall(module=name) | FlowCall(flow=name) | ExternCall(extern=name):
                    found[name] += 1
                case CatchNode(body=body):
                    look(body)
                case _:
                    for inner in inner_regions(node):
                        look(inner)

    for flow in graph.flows:
        look(flow.body)
    return found


@pytest.mark.parametrize("seed", range(24))
def test_programs_without_oddities_keep_their_graph(seed: int) -> None:
    """What does nothing goes, and nothing else: the graph is again that of the program before it was put in."""
    chance = Random(f"fix:{seed}")
    plain = fix_program(Source("program.lmg", random_program(seed)), root=None)
    assert plain.compilation.graph is not None
    text = with_oddities(plain.source.text, chance)
    result = fix_program(Source("program.lmg", text), root=None)
    assert result.compilation.graph is not None
    left = [one.code for one in result.compilation.diagnostics if one.fix is not None and one.fix.safe]
    comments = Margin(result.source.text).total
    assert comments == Margin(text).total
    if not comments:
        assert left == []
        assert dump(result.compilation.graph) == dump(plain.compilation.graph)


@pytest.mark.parametrize("seed", range(40))
def test_fixing_makes_nothing_worse(seed: int) -> None:
    chance = Random(f"fix anything:{seed}")
    if seed % 2:
        program = chance.choice(real_programs())
        text, root = program.text, program.root
    else:
        text, root = random_program(seed), None
    if chance.random() < 0.6:
        text, _ = mutator().changed(text, chance, rough=False)
    before = compile_source(Source("program.lmg", text), root=root)
    result = fix_program(Source("program.lmg", text), root=root)
    after = result.compilation
    assert (after.graph is None) == (before.graph is None)
    assert Margin(result.source.text).total == Margin(text).total
    again = fix_program(result.source, root=root)
    assert (again.source, again.applied) == (result.source, ())
    if not result.applied:
        assert result.source.text == text
    if before.graph is not None and after.graph is not None:
        was, left = calls(before.graph), calls(after.graph)
        assert left <= was, "nothing is called that was not"
        tools = {one.name for one in after.graph.externs if one.kind == "tool"}
        assert {name: left[name] for name in tools} == {name: was[name] for name in tools}, "what acts stays"
        assert replace(after.graph, flows=()) == replace(before.graph, flows=())
    errors = {one.code for one in before.diagnostics if one.severity == "error"}
    assert {one.code for one in after.diagnostics if one.severity == "error"} <= errors
