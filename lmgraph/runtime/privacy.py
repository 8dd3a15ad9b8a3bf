"""Which fields of a program hold private values: those labelled so, and those that such values reach.

The labels stand on fields of flows, modules, externs and records. A value made from a private one is private, whatever
made it, until the author releases it (`release x = … because "…"`). Read from the graph alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmgraph.graph.expressions import Expr, references
from lmgraph.graph.graph import Graph, MetricSpec
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
    ExitIf,
    ExprNode,
    ExternCall,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    Operand,
    Region,
    ReleaseNode,
    Return,
)
from lmgraph.graph.types import Field, ListType, MapType, OptionalType, RecordType, Type, UnionType
from lmgraph.graph.walk import node_references

OUT = "out."
"""Before the name of an output; `out.` alone is an unnamed result. Inputs have `in.`."""
IN = "in."


def private_names(graph: Graph) -> dict[str, list[str]]:
    """By `flow F`, `module M` and `extern X`: the private ones among `in.NAME` and `out.NAME`. Others are left out."""
    found = _Reached(graph)
    return {owner: sorted(names) for owner, names in sorted(found.names.items()) if names}


def is_private(field: Field) -> bool:
    """Whether the field is labelled, or a record inside its value has a field that is."""
    return field.label == "private" or _holds_private(field.type)


def _holds_private(type_: Type) -> bool:
    match type_:
        case RecordType(fields=fields):
            return any(map(is_private, fields))
        case ListType(element=inner) | MapType(value=inner) | OptionalType(inner=inner):
            return _holds_private(inner)
        case UnionType(options=options):
            return any(map(_holds_private, options))
        case _:
            return False


class _Reached:
    """Labels carried along the edges of all flows and metrics until nothing changes."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.names: dict[str, set[str]] = {}
        self._values: set[str] = set()
        for owner, inputs, outputs in _declared(graph):
            labelled = {IN + one.name for one in inputs if is_private(one)}
            self.names[owner] = labelled | {OUT + one.name for one in outputs if is_private(one)}
        for extern in graph.externs:
            if _holds_private(extern.result):
                self.names[_extern(extern.name)].add(OUT)
        size = -1
        while size != (size := len(self._values) + sum(map(len, self.names.values()))):
            self._pass()

    def _pass(self) -> None:
        for flow in self._graph.flows:
            owner = _flow(flow.name)
            for field, parameter in zip(flow.inputs, flow.body.parameters, strict=True):
                if IN + field.name in self.names[owner]:
                    self._values.add(parameter.id)
            self._region(flow.body, owner, {})
            self._outputs(owner, flow.body.results)
        for metric in self._graph.metrics:
            if metric.body is not None:
                self._metric(metric, metric.body)

    def _metric(self, metric: MetricSpec, body: Region) -> None:
        private_run = any(name.startswith(OUT) for name in self.names[_flow(metric.flow)])
        for field, parameter in zip((metric.gold, metric.pred), body.parameters, strict=True):
            if is_private(field) or (field is metric.pred and private_run):
                self._values.add(parameter.id)
        self._region(body, "", {})

    def _region(self, region: Region, owner: str, loops: Mapping[str, LoopNode]) -> None:
        for node in region.nodes:
            self._node(node, owner, loops)

    def _node(self, node: Node, owner: str, loops: Mapping[str, LoopNode]) -> None:
        match node:
            case LmCall(module=name, arguments=arguments):
                outputs = [one.name for one in self._graph.module(name).outputs]
                self._call(node.id, f"module {name}", arguments, outputs)
            case ExternCall(extern=name, arguments=arguments):
                self._call(node.id, _extern(name), arguments, [""])
            case FlowCall(flow=name, arguments=arguments):
                self._arguments(_flow(name), arguments)
                self._mark(node.id, any(one.startswith(OUT) for one in self.names[_flow(name)]))
            case ExprNode(expression=expression) | CheckNode(condition=expression):
                self._mark(node.id, self._reads(expression))
            case ReleaseNode():
                pass
            case MapNode(items=items, element=element, condition=condition, body=body):
                self._mark(element.id, self._reads(items))
                for inner in (body,) if condition is None else (condition, body):
                    self._region(inner, owner, loops)
                    self._mark(node.id, self._reads(items) or any(self._reads(one.value) for one in inner.results))
            case IfNode(condition=condition, then=then, otherwise=otherwise, results=results):
                self._region(then, owner, loops)
                self._region(otherwise, owner, loops)
                for index, result in enumerate(results):
                    private = self._reads(condition) or self._yields(then, index) or self._yields(otherwise, index)
                    self._mark(result.id, private)
            case LoopNode(carried=carried, body=body, results=results):
                self._region(body, owner, {**loops, node.id: node})
                for index, (one, result) in enumerate(zip(carried, results, strict=True)):
                    private = self._reads(one.initial) or self._yields(body, index) or result.id in self._values
                    self._mark(one.parameter.id, private)
                    self._mark(result.id, private)
            case ExitIf(condition=condition, loop=loop, results=operands):
                left = {one.field.name: one.id for one in loops[loop].results}
                for operand in operands:
                    if operand.name in left:
                        self._mark(left[operand.name], self._reads(condition) or self._reads(operand.value))
            case Return(results=operands):
                self._outputs(owner, operands)
            case CatchNode(body=body, message=message, fallback=fallback):
                self._region(body, owner, loops)
                if message is not None:
                    self._mark(message.id, any(one in self._values for one in node_references(node)))
                self._region(fallback, owner, loops)
                self._mark(node.id, any(self._reads(one.value) for one in (*body.results, *fallback.results)))

    def _call(self, node: str, owner: str, arguments: Sequence[Operand], outputs: Sequence[str]) -> None:
        self._arguments(owner, arguments)
        if any(name.startswith(IN) for name in self.names[owner]):
            self.names[owner].update(OUT + name for name in outputs)
        self._mark(node, any(name.startswith(OUT) for name in self.names[owner]))

    def _arguments(self, owner: str, arguments: Sequence[Operand]) -> None:
        self.names[owner].update(IN + one.name for one in arguments if self._reads(one.value))

    def _outputs(self, owner: str, results: Sequence[Operand]) -> None:
        if owner:
            self.names[owner].update(OUT + one.name for one in results if self._reads(one.value))

    def _mark(self, value: str, private: bool) -> None:
        if private:
            self._values.add(value)

    def _yields(self, region: Region, index: int) -> bool:
        """Whether a result is private; a region that control always leaves has none."""
        return index < len(region.results) and self._reads(region.results[index].value)

    def _reads(self, expression: Expr) -> bool:
        return any(value in self._values for value in references(expression))


def _declared(graph: Graph) -> list[tuple[str, Sequence[Field], Sequence[Field]]]:
    modules = [(f"module {one.name}", one.inputs, one.outputs) for one in graph.modules]
    flows = [(_flow(one.name), one.inputs, one.outputs) for one in graph.flows]
    return [*modules, *flows, *((_extern(one.name), one.inputs, ()) for one in graph.externs)]


def _flow(name: str) -> str:
    return f"flow {name}"


def _extern(name: str) -> str:
    return f"extern {name}"
