"""A flow as a networkx graph, for questions about paths. The only networkx import of the project.

Whoever imports this module pays for networkx; verify.py, pictures and the compiler do without. waits.py says what the
vertices and edges are.
"""

from __future__ import annotations

from dataclasses import dataclass

from networkx import DiGraph, dag_longest_path, topological_sort

from lmgraph.graph.effects import acting_flows
from lmgraph.graph.graph import FlowSpec, Graph
from lmgraph.graph.nodes import FlowCall, LmCall
from lmgraph.graph.waits import head_of as head_of
from lmgraph.graph.waits import result_of as result_of
from lmgraph.graph.waits import waits_of
from lmgraph.graph.walk import walk


def to_networkx(graph: Graph, flow: str) -> DiGraph[str]:
    """The flow's vertices in source order, those inside its regions included, and who waits for whom.

    Edges have a ``kind``, `data` or `control`. The vertex `result_of(flow)` is the last.

    Raises: KeyError for an unknown flow.
    """
    return _drawn(graph.flow(flow), acting_flows(graph))


@dataclass(frozen=True, slots=True)
class Chain:
    """The longest chain of LM calls of a flow that wait for one another: what bounds its time."""

    steps: tuple[str, ...]
    """Ids of LM calls, and of calls of flows that call LMs."""
    calls: int
    """How many LM calls that are, those of called flows included. A loop's body counts once."""


def critical_path(graph: Graph, flow: str) -> tuple[str, ...]:
    """The steps of the flow's longest chain, in a graph that verify accepts.

    Raises: KeyError for an unknown flow.
    """
    return critical_paths(graph)[flow].steps


def critical_paths(graph: Graph) -> dict[str, Chain]:
    """The longest chain of each flow, in a graph that verify accepts."""
    flows = {flow.name: flow for flow in graph.flows}
    calls: DiGraph[str] = DiGraph()
    for flow in graph.flows:
        calls.add_node(flow.name)
        calls.add_edges_from((flow.name, node.flow) for node in walk(flow.body) if isinstance(node, FlowCall))
    acting = acting_flows(graph)
    chains: dict[str, Chain] = {}
    for name in reversed(list(topological_sort(calls))):
        chains[name] = _chain(flows[name], acting, chains)
    return chains


def _chain(flow: FlowSpec, acting: frozenset[str], known: dict[str, Chain]) -> Chain:
    drawn = _drawn(flow, acting)
    counted: dict[str, int] = {}
    for node in walk(flow.body):
        if isinstance(node, LmCall):
            counted[node.id] = 1
        elif isinstance(node, FlowCall) and known[node.flow].calls:
            counted[node.id] = known[node.flow].calls
    for _, target, data in drawn.edges(data=True):
        data["calls"] = counted.get(target, 0)
    for step, number in counted.items():
        # An edge holds the weight of its target: the first step of a chain needs one too.
        if drawn.in_degree(step) == 0:
            drawn.add_edge("", step, calls=number)
    steps = tuple(value for value in dag_longest_path(drawn, weight="calls") if value in counted)
    return Chain(steps, sum(counted[step] for step in steps))


def _drawn(flow: FlowSpec, acting: frozenset[str]) -> DiGraph[str]:
    waits = waits_of(flow.body, flow.name, acting)
    drawn: DiGraph[str] = DiGraph()
    drawn.add_nodes_from(waits.vertices)
    for (source, target), kind in waits.edges.items():
        drawn.add_edge(source, target, kind=kind)
    return drawn
