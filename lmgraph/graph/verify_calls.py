"""Checks of calls: they fit what they call, and no flow calls itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmgraph.graph.graph import ExternKind
from lmgraph.graph.nodes import ExternCall, FlowCall, LmCall
from lmgraph.graph.types import Field, Type
from lmgraph.graph.verify_parts import Parts, fail, member, same_names

CALLED_BY: dict[str, ExternKind] = {"fn.call": "fn", "retrieve": "retriever", "tool.call": "tool"}
"""The kind of extern that each kind of node calls."""


def fits(node: LmCall | ExternCall | FlowCall, parts: Parts) -> None:
    """Raises: GraphInvariantError unless arguments and type are those of what the node calls, which must exist."""
    inputs, result = _signature(node, parts)
    same_names(node.arguments, inputs, f"arguments of {node.id}")
    if node.type != result:
        fail(f"{node.id} does not have the type of what it calls")


def _signature(node: LmCall | ExternCall | FlowCall, parts: Parts) -> tuple[tuple[Field, ...], Type]:
    match node:
        case LmCall(module=name):
            module = member(name, parts.modules, f"module of {node.id}")
            return module.inputs, parts.module_outputs[name]
        case FlowCall(flow=name):
            flow = member(name, parts.flows, f"flow of {node.id}")
            return flow.inputs, parts.flow_outputs[name]
        case ExternCall(extern=name, kind=kind):
            extern = member(name, parts.externs, f"extern of {node.id}")
            if extern.kind != CALLED_BY[kind]:
                fail(f"{node.id} is a {kind}, which calls no {extern.kind}")
            return extern.inputs, extern.result


def no_cycle(calls: Mapping[str, Sequence[str]]) -> None:
    """Raises: GraphInvariantError where a flow reaches itself through ``calls``, the flows that each flow calls."""
    done: set[str] = set()
    for root in calls:
        path = dict.fromkeys([root])
        waiting = [iter(calls[root])]
        while waiting:
            called = next(waiting[-1], None)
            if called is None:
                waiting.pop()
                done.add(path.popitem()[0])
            elif called in path:
                fail(f"flow {called} calls itself: {' > '.join([*path, called])}")
            elif called not in done:
                path[called] = None
                waiting.append(iter(calls.get(called, ())))
