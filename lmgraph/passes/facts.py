"""What passes may rely on: what always has a value, and what somebody outside would miss."""

from __future__ import annotations

from lmgraph.graph.certain import Certain
from lmgraph.graph.effects import acts, holding
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import CheckNode, ExternCall, FlowCall, LmCall, Node
from lmgraph.graph.walk import walk


class Facts(Certain):
    """Facts of one graph, found once."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.watched = watched(graph)
        self.acting = holding(graph, acts)
        """Nodes that do not run once an assert before them is false."""


def watched(graph: Graph) -> frozenset[str]:
    """Flows whose calls a metric may see: it reads the trace of the flow, or of one that calls it."""
    waiting = [metric.flow for metric in graph.metrics if metric.reads == "trace"]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [node.flow for node in walk(graph.flow(name).body) if isinstance(node, FlowCall)]
    return frozenset(found)


def is_call(node: Node) -> bool:
    return isinstance(node, LmCall | ExternCall | FlowCall)


def is_felt(node: Node) -> bool:
    """Whether it does something beside giving a value: it acts, fails the region, or leaves a record."""
    return isinstance(node, CheckNode) or acts(node)
