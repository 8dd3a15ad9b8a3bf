"""A graph with chosen counts in place of its author's: what a tuned program runs. It is what passes start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lmgraph.errors import ConfigError
from lmgraph.graph.counts import counts_of, misfits
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import Const, Ensure, Expr, ExternCall, LoopNode, Node, NodeId, Operand, Region
from lmgraph.passes.rewrite import each_body, with_nodes, with_regions


def with_counts(graph: Graph, chosen: Mapping[str, int]) -> Graph:
    """Loops with lower bounds, and retrievals of fewer; the graph itself where nothing is chosen.

    Raises: ConfigError for a number that is of no count, or outside its range.
    """
    if not chosen:
        return graph
    if wrong := misfits(graph, chosen):
        raise ConfigError(
            f"The parameters do not fit the program: {'; '.join(wrong)}.", hint="leave these counts to the author"
        )
    known = counts_of(graph)
    values: dict[NodeId, dict[str | None, int]] = {}
    for name, value in chosen.items():
        values.setdefault(known[name].node, {})[known[name].argument] = value

    def region(part: Region) -> Region:
        return with_nodes(part, [changed(node) for node in part.nodes])

    def changed(node: Node) -> Node:
        node = with_regions(node, region)
        match node:
            case LoopNode(id=id) if id in values:
                return replace(node, limit=values[id][None])
            case ExternCall(id=id, arguments=arguments) if id in values:
                return replace(node, arguments=tuple(_given(one, values[id].get(one.name)) for one in arguments))
            case _:
                return node

    return each_body(graph, lambda name, body: region(body))


def _given(operand: Operand, value: int | None) -> Operand:
    return operand if value is None else Operand(operand.name, _written(operand.value, value))


def _written(expression: Expr, value: int) -> Expr:
    """The number, held to what the one in its place was held to."""
    return (
        replace(expression, value=_written(expression.value, value)) if isinstance(expression, Ensure) else Const(value)
    )
