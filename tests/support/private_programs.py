"""The programs of programs.py with labels: some inputs are private, and each model, tool and retriever has a clearance.

At first everything is public; whatever a private value would leak to is cleared, until nothing leaks. So what stays
public stands as near to the private values as the compiler allows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from lmgraph.compiler.compile import compile_source
from lmgraph.graph.graph import FlowSpec, Graph
from lmgraph.graph.labels_program import information_flow
from lmgraph.graph.nodes import CatchNode, Const, IfNode, LoopNode, MapNode, Node, Region, ReleaseNode
from lmgraph.source import Source
from lmgraph.source.render import render
from support.program_parts import INPUTS
from support.programs import random_program

MODULES = ("Ask", "Think", "Twice", "Best", "Act")
EXTERNS = ("look", "put")


@dataclass(frozen=True)
class Labelled:
    text: str
    graph: Graph
    """Nothing leaks in it."""
    private: frozenset[str]
    """Inputs of `Main`."""
    public: frozenset[str]
    """Modules, tools and retrievers that may not see private values."""
    private_look: bool
    """Whether what `look` gives back is private."""

    def same_releases(self) -> Graph:
        """The graph with the same released values whatever the inputs are."""
        return replace(self.graph, flows=tuple(_released(flow) for flow in self.graph.flows), entry="Main")


def labelled_program(seed: int) -> Labelled:
    source = random.Random(f"labels:{seed}")
    names = [name for name, _ in INPUTS]
    private = frozenset(source.sample(names, source.choice((1, 1, 2, 3))))
    private_look = source.random() < 0.2
    text = labelled_text(random_program(seed), private, private_look)
    compilation = compile_source(Source("program.lmg", text), root=None)
    assert compilation.graph is not None, render(compilation.diagnostics, compilation.sources)
    public = {name for name in (*MODULES, *EXTERNS) if source.random() < 0.8}
    while True:
        graph = with_clearance(compilation.graph, public)
        leaks = information_flow(graph).leaks
        if not leaks:
            return Labelled(text, graph, private, frozenset(public), private_look)
        public -= {leak.target.removesuffix(".step") for leak in leaks}


def labelled_text(text: str, private: frozenset[str], private_look: bool) -> str:
    """The program with a model of its own for each module, all of them cleared."""
    for name in MODULES:
        text += f"\nlm lm_{name} {{ clearance: private }}\n"
    text = text.replace("  retries: 1\n", "  retries: 1\n  lm: lm_Ask\n")
    text = text.replace("  strategy: cot\n", "  strategy: cot\n  lm: lm_Think\n")
    text = text.replace("max_tokens: 8 }", "max_tokens: 8  lm: lm_Twice }")
    text = text.replace("  strategy: best_of\n", "  strategy: best_of\n  lm: lm_Best\n")
    text = text.replace("  strategy: react\n", "  strategy: react\n  lm: lm_Act\n")
    given = "private list[str]" if private_look else "list[str]"
    text = text.replace(
        'look(q: str) -> list[str] = py "steps:look"',
        f'look(q: str) -> {given} = py "steps:look" {{ clearance: private }}',
    )
    text = text.replace('= py "steps:put"', '= py "steps:put" { clearance: private }')
    head, main = text.split("flow Main(", 1)
    inputs, rest = main.split(")", 1)
    for name, type in INPUTS:
        if name in private:
            inputs = inputs.replace(f"{name}: {type}", f"{name}: private {type}", 1)
    return f"{head}flow Main({inputs}){rest}"


def with_clearance(graph: Graph, public: set[str]) -> Graph:
    lms = [replace(lm, clearance="public" if lm.name[3:] in public else "private") for lm in graph.lms]
    externs = [replace(one, clearance="public" if one.name in public else "private") for one in graph.externs]
    return replace(graph, lms=tuple(lms), externs=tuple(externs))


def _released(flow: FlowSpec) -> FlowSpec:
    return replace(flow, body=_region(flow.body))


def _region(region: Region) -> Region:
    return replace(region, nodes=tuple(_node(node) for node in region.nodes))


def _node(node: Node) -> Node:
    match node:
        case ReleaseNode():
            return replace(node, expression=Const("released"))
        case MapNode(condition=condition, body=body):
            return replace(node, condition=None if condition is None else _region(condition), body=_region(body))
        case IfNode(then=then, otherwise=otherwise):
            return replace(node, then=_region(then), otherwise=_region(otherwise))
        case LoopNode(body=body):
            return replace(node, body=_region(body))
        case CatchNode(body=body, fallback=fallback):
            return replace(node, body=_region(body), fallback=_region(fallback))
        case _:
            return node
