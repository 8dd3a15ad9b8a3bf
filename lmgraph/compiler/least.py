"""The least that a run costs in which nothing fails: what a budget must at least pay for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import (
    CatchNode,
    ExitIf,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    MakeList,
    MapNode,
    Node,
    Region,
    Return,
)


@dataclass(frozen=True, slots=True)
class _Ways:
    """The least cost of each way out of a region or node; None where there is no such way."""

    end: int | None = 0
    """Through its end."""
    exit: int | None = None
    """Through an exit of the loop around it."""
    back: int | None = None
    """Through a return."""

    def after(self, cost: int) -> _Ways:
        return _Ways(*(None if one is None else one + cost for one in (self.end, self.exit, self.back)))

    def either(self, other: _Ways) -> _Ways:
        """One of the two."""
        return _Ways(_least(self.end, other.end), _least(self.exit, other.exit), _least(self.back, other.back))


class LeastCost:
    """Of each flow and metric of a graph. ``of_call`` is what one call of a module costs at least."""

    def __init__(self, graph: Graph, of_call: Callable[[str], int] = lambda module: 1) -> None:
        self._graph = graph
        self._of_call = of_call
        self._flows: dict[str, int] = {}

    def flow(self, name: str) -> int:
        """Lists may be empty, branches are the cheaper one, and loops end as soon as they can."""
        if name not in self._flows:
            self._flows[name] = self._whole(self._graph.flow(name).body)
        return self._flows[name]

    def metric(self, name: str) -> int:
        """Of its judges."""
        body = self._graph.metric(name).body
        return 0 if body is None else self._whole(body)

    def _whole(self, body: Region) -> int:
        ways = self._region(body)
        return _least(ways.end, ways.back) or 0

    def _region(self, region: Region) -> _Ways:
        ways = _Ways()
        for node in region.nodes:
            if ways.end is None:
                break
            on = self._node(node).after(ways.end)
            ways = _Ways(on.end, _least(ways.exit, on.exit), _least(ways.back, on.back))
        return ways

    def _node(self, node: Node) -> _Ways:
        match node:
            case LmCall(module=module):
                return _Ways(self._of_call(module))
            case FlowCall(flow=flow):
                return _Ways(self.flow(flow))
            case MapNode(items=items, condition=condition, body=body):
                number = len(items.items) if isinstance(items, MakeList) else 0
                asked = 0 if condition is None else self._whole(condition)
                return _Ways(number * (asked if condition is not None else self._whole(body)))
            case IfNode(then=then, otherwise=otherwise):
                return self._region(then).either(self._region(otherwise))
            case LoopNode(limit=limit, body=body):
                once = self._region(body)
                every = None if once.end is None else once.end * limit
                return _Ways(_least(every, once.exit if limit else None), None, once.back if limit else None)
            case CatchNode(body=body):
                return _Ways(self._whole(body))
            case ExitIf():
                return _Ways(exit=0)
            case Return():
                return _Ways(end=None, back=0)
            case _:
                return _Ways()


def _least(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return min(known, default=None)
