"""How a module's calls sit in a flow: what feeds each of their inputs, and the regions that they stand in.

What counts is where values come from, not how they are computed on the way, nor what they are called, nor how often a
loop may run. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import (
    CatchNode,
    ExitIf,
    Expr,
    ExternCall,
    FlowCall,
    GetField,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    Ref,
    Region,
    ValueId,
)
from lmgraph.graph.walk import inner_expressions, own_expressions, values_of

Position: TypeAlias = "tuple[tuple[str, ...], tuple[str, ...]]"
"""The regions around a call, from the outside in, and its inputs: `word: input word`, `team: Sort.team`."""

_Read: TypeAlias = "tuple[ValueId, str]"
"""A value, and the field of it that is read; empty for all of it."""


def positions(graph: Graph, renamed: Mapping[str, str] | None = None) -> dict[str, dict[str, list[Position]]]:
    """Where each module is called, by module and by the flow or metric that calls it. ``renamed`` gives names that
    modules are told apart by in place of their own."""
    found: dict[str, dict[str, list[Position]]] = {}
    bodies = [(flow.name, flow.body) for flow in graph.flows]
    bodies += [(metric.name, metric.body) for metric in graph.metrics if metric.body is not None]
    for name, body in bodies:
        origins = _Origins(body, renamed or {})
        for call, around in _calls(body, ()):
            regions = tuple(f"{kind} {origins.text(*read)}".strip() for kind, read in around)
            inputs = tuple(sorted(f"{one.name}: {origins.text(one.value)}" for one in call.arguments))
            found.setdefault(call.module, {}).setdefault(name, []).append((regions, inputs))
    return found


_Around: TypeAlias = "tuple[tuple[str, tuple[Expr, ...]], ...]"


def _calls(region: Region, around: _Around) -> Iterator[tuple[LmCall, _Around]]:
    """Every call of a module with the regions around it: the kind of each, and what it depends on."""
    for node in region.nodes:
        match node:
            case LmCall():
                yield node, around
            case MapNode(items=items, condition=condition, body=body):
                kept = () if condition is None else tuple(one.value for one in condition.results)
                yield from _calls(body, (*around, ("map", (items, *kept))))
                if condition is not None:
                    yield from _calls(condition, (*around, ("filter", (items,))))
            case IfNode(condition=asked, then=then, otherwise=otherwise):
                yield from _calls(then, (*around, ("if", (asked,))))
                yield from _calls(otherwise, (*around, ("else", (asked,))))
            case LoopNode(body=body):
                yield from _calls(body, (*around, ("loop", ())))
            case CatchNode(body=body, fallback=fallback):
                yield from _calls(body, (*around, ("try", ())))
                yield from _calls(fallback, (*around, ("catch", ())))
            case _:
                pass


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a value comes from: something that has a name, or the values that it is computed from."""

    name: str = ""
    reads: tuple[_Read, ...] = ()


class _Origins:
    """Where the values of one body come from."""

    def __init__(self, body: Region, renamed: Mapping[str, str]) -> None:
        self._renamed = renamed
        self._known = {one.id: _Origin(f"input {one.field.name}") for one in body.parameters}
        self._region(body)
        self._names: dict[str, int] = {}
        self._sets: dict[ValueId, int] = {}
        self._solve()

    def text(self, *expressions: Expr) -> str:
        """The names that the expressions come from: `Sort.team, input word`; empty where they are constant."""
        found = self._joined(read for expression in expressions for read in _reads(expression))
        return ", ".join(sorted(name for name, bit in self._names.items() if found >> bit & 1))

    def _solve(self) -> None:
        """The names behind each value, as bits, until no loop adds more: few rounds, whatever the size."""
        computed = {value: origin.reads for value, origin in self._known.items() if not origin.name}
        changed = True
        while changed:
            changed = False
            for value, reads in computed.items():
                found = self._joined(reads)
                changed = changed or found != self._sets.get(value, 0)
                self._sets[value] = found

    def _joined(self, reads: Iterable[_Read]) -> int:
        found = 0
        for value, field in reads:
            name = self._known[value].name
            if not name:
                found |= self._sets.get(value, 0)
                continue
            name = f"{name}.{field}" if field else name
            found |= 1 << self._names.setdefault(name, len(self._names))
        return found

    def _region(self, region: Region) -> None:
        for node in region.nodes:
            self._node(node)

    def _node(self, node: Node) -> None:
        match node:
            case LmCall(id=id, module=module):
                self._known[ValueId(id)] = _Origin(self._renamed.get(module, module))
            case ExternCall(id=id, extern=name) | FlowCall(id=id, flow=name):
                self._known[ValueId(id)] = _Origin(name)
            case MapNode(id=id, items=items, element=element, condition=condition, body=body):
                self._add(element.id, items)
                if condition is not None:
                    self._region(condition)
                self._region(body)
                self._add(ValueId(id), items, *(one.value for one in body.results))
            case IfNode(condition=condition, then=then, otherwise=otherwise, results=results):
                self._region(then)
                self._region(otherwise)
                for index, result in enumerate(results):
                    sides = [one.results[index].value for one in (then, otherwise) if index < len(one.results)]
                    self._add(result.id, condition, *sides)
            case LoopNode():
                self._loop(node)
            case CatchNode(id=id, body=body, message=message, fallback=fallback):
                if message is not None:
                    self._known[message.id] = _Origin("failure")
                self._region(body)
                self._region(fallback)
                self._add(ValueId(id), *(one.value for one in (*body.results, *fallback.results)))
            case _:
                for value in values_of(node):
                    self._add(value, *own_expressions(node))

    def _loop(self, loop: LoopNode) -> None:
        if loop.index is not None:
            self._known[loop.index.id] = _Origin("turn")
        for carried in loop.carried:
            self._add(carried.parameter.id, carried.initial)
        self._region(loop.body)
        exits = [node for node in _exits(loop.body) if node.loop == loop.id]
        for index, (carried, result) in enumerate(zip(loop.carried, loop.results, strict=True)):
            ends = (loop.body.results, *(one.results for one in exits))
            last = [results[index].value for results in ends if index < len(results)]
            self._add(carried.parameter.id, carried.initial, *last[:1])
            self._add(result.id, carried.initial, *last)

    def _add(self, value: ValueId, *expressions: Expr) -> None:
        self._known[value] = _Origin(reads=tuple(read for expression in expressions for read in _reads(expression)))


def _exits(region: Region) -> Iterator[ExitIf]:
    """The exits of the loop whose body this is; they stand in it, or in ifs inside it."""
    for node in region.nodes:
        if isinstance(node, ExitIf):
            yield node
        elif isinstance(node, IfNode):
            yield from _exits(node.then)
            yield from _exits(node.otherwise)


def _reads(expression: Expr) -> Iterator[_Read]:
    match expression:
        case Ref(value=value):
            yield value, ""
        case GetField(base=Ref(value=value), name=name):
            yield value, name
        case _:
            for inner in inner_expressions(expression):
                yield from _reads(inner)
