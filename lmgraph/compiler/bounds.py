"""Bounds before any run: at most how many calls of models a flow makes, how many tokens they write, and how many calls
wait for one another.

A bound is a number, or a polynomial over the lengths of lists that nothing bounds: `3 + 2·|claims|`. `|look|` is the
longest list that `look` gives back in the run, `|Ask.items|` the longest that `Ask` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmgraph.compiler.list_sizes import NONE, Size, joined, size_of, size_of_field, size_of_fields, size_of_type
from lmgraph.compiler.polynomials import ZERO, Polynomial, number, symbol
from lmgraph.graph.effects import acting_flows, acting_nodes
from lmgraph.graph.graph import FlowSpec, Graph
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
    Const,
    ExitIf,
    ExprNode,
    ExternCall,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    NodeId,
    Operand,
    Ref,
    Region,
    ReleaseNode,
    Return,
    ValueId,
)
from lmgraph.graph.types import ListType
from lmgraph.graph.walk import leaves, node_references, values_of

MOST_ROUNDS = 1_000
"""A list that a longer loop makes longer has no bound."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one run of a flow, or of one score of a metric."""

    calls: Polynomial = ZERO
    """Of models, retries included."""
    tokens: Polynomial = ZERO
    """That models write, all together."""
    path: Polynomial = ZERO
    """Calls that wait for one another, where nothing else has to wait."""

    def __add__(self, other: Bounds) -> Bounds:
        """One after the other."""
        return Bounds(self.calls + other.calls, self.tokens + other.tokens, self.path + other.path)

    def at_most(self, other: Bounds) -> Bounds:
        """One of the two."""
        return Bounds(self.calls.at_most(other.calls), self.tokens.at_most(other.tokens), self.path.at_most(other.path))

    def with_values(self, values: Mapping[str, Polynomial]) -> Bounds:
        return Bounds(self.calls.with_values(values), self.tokens.with_values(values), self.path.with_values(values))


NOTHING = Bounds()


class ProgramBounds:
    """The bounds of each flow and metric of a graph, found when first asked for."""

    def __init__(self, graph: Graph, *, constrained: bool = True) -> None:
        """``constrained`` false: for engines that cannot hold a model to a form, which get one further try."""
        self.graph = graph
        self.constrained = constrained
        self.acting = acting_flows(graph)
        self._flows: dict[str, tuple[Bounds, Size]] = {}

    def flow(self, name: str) -> Bounds:
        return self.summary(name)[0]

    def metric(self, name: str) -> Bounds:
        """Of the metric's own calls: those of its judges."""
        body = self.graph.metric(name).body
        if body is None:
            return NOTHING
        given = {one.id: size_of_field(one.field, one.field.name) for one in body.parameters}
        return _Body(self, body, given).bounds

    def summary(self, name: str) -> tuple[Bounds, Size]:
        """Over the symbols of the flow's own inputs; and the sizes of its outputs."""
        if name not in self._flows:
            flow = self.graph.flow(name)
            given = {one.id: size_of_field(one.field, input_path(flow, one.field.name)) for one in flow.body.parameters}
            body = _Body(self, flow.body, given)
            self._flows[name] = body.bounds, Size(fields=body.outputs)
        return self._flows[name]


def input_path(flow: FlowSpec, name: str) -> str:
    """The symbol of the length of an input, where it is a list."""
    return f"{flow.name}.{name}"


class _Body:
    """The bounds of one body, of a flow or metric."""

    def __init__(self, program: ProgramBounds, body: Region, given: Mapping[ValueId, Size]) -> None:
        self._program = program
        self._sizes: dict[ValueId, Size] = dict(given)
        self._returned: dict[str, Size] = {}
        self._exits: dict[NodeId, list[Size]] = {}
        self._acting = acting_nodes(body, program.acting)
        self.bounds, results = self._region(body)
        names = [operand.name for operand in body.results]
        self.outputs = {
            name: joined(size, self._returned.get(name, NONE)) for name, size in zip(names, results, strict=True)
        }

    def _region(self, region: Region) -> tuple[Bounds, list[Size]]:
        calls = tokens = longest = left = ZERO
        ends: dict[ValueId, Polynomial] = {}
        for node in region.nodes:
            own = self._node(node)
            start = left
            if node.id in self._acting:
                start = start.at_most(longest)
            for value in node_references(node):
                start = start.at_most(ends.get(value, ZERO))
            end = start + own.path
            ends.update(dict.fromkeys(values_of(node), end))
            calls, tokens, longest = calls + own.calls, tokens + own.tokens, longest.at_most(end)
            if leaves(node):
                left = left.at_most(end)
        return Bounds(calls, tokens, longest), [self._size(result) for result in region.results]

    def _size(self, operand: Operand) -> Size:
        return size_of(operand.value, self._sizes)

    def _node(self, node: Node) -> Bounds:
        sizes = self._sizes
        match node:
            case ExprNode(expression=expression) | ReleaseNode(expression=expression):
                sizes[ValueId(node.id)] = size_of(expression, sizes)
            case LmCall():
                return self._lm_call(node)
            case ExternCall():
                sizes[ValueId(node.id)] = self._extern_result(node)
            case FlowCall():
                return self._flow_call(node)
            case MapNode():
                return self._map(node)
            case IfNode(then=then, otherwise=otherwise, results=results):
                first, one = self._region(then)
                second, other = self._region(otherwise)
                for parameter, left, right in zip(results, one, other, strict=bool(results)):
                    sizes[parameter.id] = joined(left, right)
                return first.at_most(second)
            case LoopNode():
                return self._loop(node)
            case ExitIf(loop=loop, results=given):
                known = self._exits.get(loop, [NONE] * len(given))
                self._exits[loop] = [
                    joined(size, self._size(result)) for size, result in zip(known, given, strict=True)
                ]
            case Return(results=given):
                for result in given:
                    self._returned[result.name] = joined(self._returned.get(result.name, NONE), self._size(result))
            case CatchNode(body=body, fallback=fallback):
                tried, (value,) = self._region(body)
                instead, (default,) = self._region(fallback)
                sizes[ValueId(node.id)] = joined(value, default)
                return tried + instead
            case CheckNode():
                pass
        return NOTHING

    # -- calls -------------------------------------------------------------------------------------------------------

    def _lm_call(self, node: LmCall) -> Bounds:
        module = self._program.graph.module(node.module)
        self._sizes[ValueId(node.id)] = size_of_fields(module.outputs, module.name)
        retries = module.retries if self._program.constrained else max(module.retries, 1)
        times = number(1 + retries)
        return Bounds(times, times * number(module.max_tokens), times)

    def _extern_result(self, node: ExternCall) -> Size:
        extern = self._program.graph.extern(node.extern)
        size = size_of_type(extern.result, extern.name)
        if isinstance(extern.result, ListType) and extern.returns_at_most is not None:
            most = _number(extern.returns_at_most, node.arguments)
            if most is not None:
                return Size(number(max(most, 0)), size.element)
        return size

    def _flow_call(self, node: FlowCall) -> Bounds:
        flow = self._program.graph.flow(node.flow)
        bounds, outputs = self._program.summary(flow.name)
        values: dict[str, Polynomial] = {}
        for operand, field in zip(node.arguments, flow.inputs, strict=True):
            path = input_path(flow, field.name)
            given = dict(self._size(operand).parts(path))
            for part, _ in size_of_type(field.type, path).parts(path):
                values[part] = given.get(part, ZERO)
        self._sizes[ValueId(node.id)] = _filled(outputs, values)
        return bounds.with_values(values)

    # -- regions -----------------------------------------------------------------------------------------------------

    def _map(self, node: MapNode) -> Bounds:
        items = size_of(node.items, self._sizes)
        self._sizes[node.element.id] = items.element or NONE
        condition = NOTHING if node.condition is None else self._region(node.condition)[0]
        body, (element,) = self._region(node.body)
        self._sizes[ValueId(node.id)] = Size(items.length, element)
        each = condition + body
        return Bounds(each.calls * items.length, each.tokens * items.length, each.path)

    def _loop(self, node: LoopNode) -> Bounds:
        """The body once, over symbols for what it starts with; then round by round, with those of the round before."""
        before: Sequence[Size] = [size_of(one.initial, self._sizes) for one in node.carried]
        for one in node.carried:
            self._sizes[one.parameter.id] = size_of_type(one.parameter.field.type, f"{one.parameter.id}")
        self._exits.pop(node.id, None)
        body, after = self._region(node.body)
        ended: Sequence[Size] = self._exits.pop(node.id, [NONE] * len(after))
        ended = [joined(one, other) for one, other in zip(after, ended, strict=True)]
        start = most = before
        results = before
        for _ in range(min(node.limit, MOST_ROUNDS)):
            values = _values(node, start)
            most = [joined(one, other) for one, other in zip(most, start, strict=True)]
            results = [joined(one, _filled(other, values)) for one, other in zip(results, ended, strict=True)]
            grown = [_filled(one, values) for one in after]
            if grown == start:
                break
            start = grown
        else:
            if node.limit > MOST_ROUNDS:
                paths = [str(one.parameter.id) for one in node.carried]
                most = [_unbounded(one, path) for one, path in zip(most, paths, strict=True)]
                results = most
        for result, size in zip(node.results, results, strict=True):
            self._sizes[result.id] = size
        values = _values(node, most)
        rounds = number(node.limit)
        each = body.with_values(values)
        return Bounds(each.calls * rounds, each.tokens * rounds, each.path * rounds)


def _values(node: LoopNode, sizes: Sequence[Size]) -> dict[str, Polynomial]:
    """What the symbols of the carried variables stand for."""
    values: dict[str, Polynomial] = {}
    for one, size in zip(node.carried, sizes, strict=True):
        path = str(one.parameter.id)
        given = dict(size.parts(path))
        for part, _ in size_of_type(one.parameter.field.type, path).parts(path):
            values[part] = given.get(part, ZERO)
    return values


def _filled(size: Size, values: Mapping[str, Polynomial]) -> Size:
    return size.mapped(lambda length: length.with_values(values))


def _unbounded(size: Size, path: str) -> Size:
    element = None if size.element is None else _unbounded(size.element, f"{path}[]")
    fields = {name: _unbounded(one, f"{path}.{name}") for name, one in size.fields.items()}
    return Size(symbol(f"{path} in the end"), element, fields)


def _number(expression: object, arguments: Sequence[Operand]) -> int | None:
    """The whole number that it is for these arguments, where that is written out."""
    if isinstance(expression, Ref):
        expression = next((one.value for one in arguments if one.name == expression.value), None)
    if isinstance(expression, Const) and isinstance(expression.value, int):
        return expression.value
    return None
