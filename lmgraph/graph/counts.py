"""Counts of a flow: the bound of a loop, and the whole numbers that a retriever is given. Tuning may lower them.

A count is known as `Flow.name.what`: `Search.hop.bound` is the bound of the loop `hop`, `Search.found.k` the `k` of the
retrieval that `found` is bound to. A retrieval inside another expression goes by the retriever's name. What two places
of a flow are called alike names neither. The number in the graph is the most that a count may be, so whatever bounds
are found there hold for every choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lmgraph.graph.expression_text import short_name
from lmgraph.graph.graph import FlowSpec, Graph
from lmgraph.graph.nodes import Const, Ensure, Expr, ExternCall, LoopNode, NodeId, ValueId
from lmgraph.graph.walk import walk

BOUND = "bound"
"""What the count of a loop is called; that of a retrieval has the name of its argument."""


@dataclass(frozen=True, slots=True)
class Count:
    name: str
    node: NodeId
    most: int
    """What the program says."""
    argument: str | None = None
    """Of the retriever; None for a loop."""


def counts_of(graph: Graph) -> dict[str, Count]:
    """Every count of the graph's flows, by name."""
    found: dict[str, Count | None] = {}
    for flow in graph.flows:
        for count in _counts(flow):
            found[count.name] = None if count.name in found else count
    return {name: count for name, count in found.items() if count is not None}


def misfits(graph: Graph, chosen: Mapping[str, int]) -> list[str]:
    """A phrase for each chosen number that is of no count of the graph, or is not between 1 and the most it may be."""
    known = counts_of(graph) if chosen else {}
    wrong = []
    for name, value in chosen.items():
        if name not in known:
            wrong.append(f"no count of the program is called `{name}`")
        elif not 1 <= value <= known[name].most:
            wrong.append(f"`{name}` is {value}, and must be from 1 to {known[name].most}")
    return wrong


def whole_number(value: Expr) -> int | None:
    """The positive whole number that an argument is, written out or by default; None where it is anything else."""
    match value:
        case Const(value=number) if type(number) is int and number >= 1:
            return number
        case Ensure(value=ensured):
            return whole_number(ensured)
        case _:
            return None


def _counts(flow: FlowSpec) -> Iterator[Count]:
    for node in walk(flow.body):
        place = f"{flow.name}.{short_name(ValueId(node.id))}"
        match node:
            case LoopNode(index=index) if index is not None:
                yield Count(f"{place}.{BOUND}", node.id, node.limit)
            case ExternCall(kind="retrieve"):
                for one in node.arguments:
                    number = whole_number(one.value)
                    if number is not None:
                        yield Count(f"{place}.{one.name}", node.id, number, one.name)
            case _:
                pass
