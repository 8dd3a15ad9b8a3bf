"""What a picture of a graph shows: boxes in boxes, shapes in them, and arrows. draw_pictures.py writes it down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lmgraph.graph.effects import acting_flows
from lmgraph.graph.expression_text import cut, short_name, short_text
from lmgraph.graph.expressions import ValueId
from lmgraph.graph.graph import Graph
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
    Parameter,
    Region,
    ReleaseNode,
    Return,
)
from lmgraph.graph.waits import EdgeKind, Waits, head_of, result_of, waits_of
from lmgraph.graph.walk import walk

Form = Literal["given", "call", "extern", "value", "choice", "loop", "check", "end"]
"""`given`: what a region is handed; `end`: what a flow gives back; `choice`: where control may go two ways."""
ArrowKind = EdgeKind | Literal["again"]
"""`again` leads from what a loop's iteration gives to the next one."""


@dataclass(frozen=True, slots=True)
class Shape:
    id: str
    form: Form
    label: str


@dataclass(frozen=True, slots=True)
class Box:
    id: str
    label: str
    parts: tuple[Part, ...]


Part: TypeAlias = Shape | Box


@dataclass(frozen=True, slots=True)
class Arrow:
    source: str
    target: str
    kind: ArrowKind


@dataclass(frozen=True, slots=True)
class Scene:
    box: Box
    arrows: tuple[Arrow, ...]


def scenes(graph: Graph) -> Iterator[Scene]:
    """One for each flow, and one for each metric that calls something."""
    acting = acting_flows(graph)
    for flow in graph.flows:
        yield _scene(f"flow {flow.name}", flow.name, flow.body, acting)
    for metric in graph.metrics:
        if metric.body is not None and metric.body.nodes:
            yield _scene(f"metric {metric.name}", metric.name, metric.body, acting)


def _scene(label: str, name: str, body: Region, acting: frozenset[str]) -> Scene:
    end = Shape(result_of(name), "end", "return")
    parts = (*_given(body.parameters), *_parts(body), end)
    return Scene(Box(name, label, parts), tuple(_arrows(body, waits_of(body, name, acting))))


def _arrows(body: Region, waits: Waits) -> Iterator[Arrow]:
    loops = [node for node in walk(body) if isinstance(node, LoopNode)]
    # Carried variables stand in the loop's box, beside its head: an arrow from there would tell nothing.
    plain = {(head_of(loop), one.parameter.id) for loop in loops for one in loop.carried}
    for (source, target), kind in waits.edges.items():
        if (source, target) not in plain:
            yield Arrow(source, target, kind)
    for loop in loops:
        for one, result in zip(loop.carried, loop.results, strict=True):
            yield Arrow(result.id, one.parameter.id, "again")


# -- regions ---------------------------------------------------------------------------------------------------------


def _parts(region: Region) -> Iterator[Part]:
    for node in region.nodes:
        match node:
            case MapNode():
                yield from _map(node)
            case IfNode():
                yield from _if(node)
            case LoopNode():
                yield from _loop(node)
            case CatchNode():
                yield from _catch(node)
            case _:
                yield _shape(node)


def _map(node: MapNode) -> Iterator[Part]:
    kept: tuple[Part, ...] = ()
    name = short_name(ValueId(node.id))
    label = _titled("map", name)
    if node.condition is not None and node.condition.nodes:
        kept = (Box(f"{node.id}/(where)", "where", tuple(_parts(node.condition))),)
    elif node.condition is not None:
        label = f"{label} if {cut(short_text(node.condition.results[0].value))}"
    yield Box(f"{node.id}/(map)", label, (*_given((node.element,)), *kept, *_parts(node.body)))
    yield Shape(node.id, "value", name)


def _if(node: IfNode) -> Iterator[Part]:
    yield Shape(head_of(node), "choice", f"if {cut(short_text(node.condition))}")
    for word, region in (("then", node.then), ("else", node.otherwise)):
        if region.nodes:
            yield Box(f"{node.id}/({word})", word, tuple(_parts(region)))
    yield from _values(node.results)


def _loop(node: LoopNode) -> Iterator[Part]:
    head = Shape(head_of(node), "loop", f"at most {node.limit}")
    carried = tuple(one.parameter for one in node.carried)
    given = _given(carried if node.index is None else (node.index, *carried))
    label = f"loop {short_name(ValueId(node.id))}"
    yield Box(f"{node.id}/(body)", label, (head, *given, *_parts(node.body)))
    yield from _values(node.results)


def _catch(node: CatchNode) -> Iterator[Part]:
    name = short_name(ValueId(node.id))
    if node.body.nodes:
        yield Box(f"{node.id}/(try)", _titled("try", name), tuple(_parts(node.body)))
    if node.message is not None or node.fallback.nodes:
        told = "it failed" if node.message is None else f"it failed: {node.message.field.name}"
        head = Shape(head_of(node), "choice", told)
        yield Box(f"{node.id}/(catch)", "where it fails", (head, *_parts(node.fallback)))
    yield Shape(node.id, "value", name)


def _given(parameters: Sequence[Parameter]) -> tuple[Shape, ...]:
    return tuple(Shape(one.id, "given", one.field.name) for one in parameters)


def _values(results: Sequence[Parameter]) -> tuple[Shape, ...]:
    return tuple(Shape(one.id, "value", short_name(one.id)) for one in results)


# -- nodes -----------------------------------------------------------------------------------------------------------


def _shape(node: Node) -> Shape:
    name = short_name(ValueId(node.id))
    match node:
        case LmCall(module=module):
            return Shape(node.id, "call", _called(name, module))
        case ExternCall(extern=extern, kind=kind):
            return Shape(node.id, "extern", f"{kind.removesuffix('.call')} {_called(name, extern)}")
        case FlowCall(flow=flow):
            return Shape(node.id, "extern", f"flow {_called(name, flow)}")
        case ExprNode(expression=expression):
            return Shape(node.id, "value", f"{name} = {cut(short_text(expression))}")
        case ReleaseNode(expression=expression):
            return Shape(node.id, "value", f"release {name} = {cut(short_text(expression))}")
        case CheckNode(condition=condition, kind=kind):
            return Shape(node.id, "check", f"{kind} {cut(short_text(condition))}")
        case ExitIf(condition=condition):
            return Shape(node.id, "choice", f"stop if {cut(short_text(condition))}")
        case Return():
            return Shape(node.id, "end", "return")
        case MapNode() | IfNode() | LoopNode() | CatchNode():
            raise AssertionError(f"{node.id} is a box")


def _titled(word: str, name: str) -> str:
    return word if name == word else f"{word} {name}"


def _called(name: str, what: str) -> str:
    return what if name == what else f"{name} = {what}"
