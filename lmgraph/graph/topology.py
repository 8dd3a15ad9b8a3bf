"""A flow as a networkx graph, for drawing and for questions about paths. The only networkx import of the project.

Whoever imports this module pays for networkx, so only drawing does; verify.py and the compiler do without.
"""

from __future__ import annotations

from networkx import DiGraph, dag_longest_path

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import Expr, ExprNode, LmCall, MapNode, Region, references, walk


def result_of(flow: str) -> str:
    """The vertex that stands for what the flow gives back. No value has such an id."""
    return f"{flow}/(return)"


def to_networkx(graph: Graph, flow: str) -> DiGraph[str]:
    """Values of the flow as vertices, those inside maps included; an edge goes from each value to what reads it.

    What a map runs over leads to its element, what its body yields leads to the map. Vertices come in source order
    and the vertex `result_of(flow)` is the last.

    Raises: KeyError for an unknown flow.
    """
    body = graph.flow(flow).body
    drawn: DiGraph[str] = DiGraph()
    _add(drawn, body)
    _read(drawn, result_of(flow), [result.value for result in body.results])
    return drawn


def critical_path(graph: Graph, flow: str) -> tuple[str, ...]:
    """The LM calls on the longest chain of calls that wait for one another: what bounds the flow's time."""
    drawn = to_networkx(graph, flow)
    calls = {node.id for node in walk(graph.flow(flow).body) if isinstance(node, LmCall)}
    for _, target, data in drawn.edges(data=True):
        data["calls"] = int(target in calls)
    for call in calls:
        if drawn.in_degree(call) == 0:
            drawn.add_edge("", call, calls=1)
    return tuple(value for value in dag_longest_path(drawn, weight="calls") if value in calls)


def _add(drawn: DiGraph[str], region: Region) -> None:
    drawn.add_nodes_from(parameter.id for parameter in region.parameters)
    for node in region.nodes:
        match node:
            case LmCall(id=id, arguments=arguments):
                _read(drawn, id, [argument.value for argument in arguments])
            case ExprNode(id=id, expression=expression):
                _read(drawn, id, [expression])
            case MapNode(id=id, items=items, condition=condition, body=body):
                element = body.parameters[0].id
                _read(drawn, element, [items] if condition is None else [items, condition])
                _add(drawn, body)
                _read(drawn, id, [result.value for result in body.results])
                if drawn.in_degree(id) == 0:
                    drawn.add_edge(element, id)


def _read(drawn: DiGraph[str], reader: str, expressions: list[Expr]) -> None:
    drawn.add_node(reader)
    for expression in expressions:
        drawn.add_edges_from((source, reader) for source in references(expression) if source != reader)
