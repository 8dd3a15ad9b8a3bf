"""Questions about nodes and regions: what they hold, give, read, and whether control leaves through them."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraph.graph.expressions import (
    Apply,
    Choose,
    Const,
    Ensure,
    Expr,
    GetField,
    GetItem,
    MakeList,
    MakeRecord,
    Ref,
    ValueId,
    references,
)
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
    Region,
    ReleaseNode,
    Return,
)


def inner_regions(node: Node) -> tuple[Region, ...]:
    """The regions inside the node, in source order."""
    match node:
        case MapNode(condition=condition, body=body):
            return (body,) if condition is None else (condition, body)
        case IfNode(then=then, otherwise=otherwise):
            return (then, otherwise)
        case LoopNode(body=body):
            return (body,)
        case CatchNode(body=body, fallback=fallback):
            return (body, fallback)
        case _:
            return ()


def walk(region: Region) -> Iterator[Node]:
    """Every node of the region and of the regions inside it, in source order."""
    waiting = [*reversed(region.nodes)]
    while waiting:
        node = waiting.pop()
        yield node
        for inner in reversed(inner_regions(node)):
            waiting += reversed(inner.nodes)


def values_of(node: Node) -> tuple[ValueId, ...]:
    """The values that the node gives to those after it."""
    match node:
        case IfNode(results=results) | LoopNode(results=results):
            return tuple(result.id for result in results)
        case ExitIf() | Return():
            return ()
        case _:
            return (ValueId(node.id),)


def own_expressions(node: Node) -> tuple[Expr, ...]:
    """The expressions of the node itself, those of its regions left out."""
    match node:
        case LmCall(arguments=operands) | ExternCall(arguments=operands) | FlowCall(arguments=operands):
            return tuple(operand.value for operand in operands)
        case ExprNode(expression=expression) | ReleaseNode(expression=expression):
            return (expression,)
        case CheckNode(condition=condition) | IfNode(condition=condition):
            return (condition,)
        case MapNode(items=items):
            return (items,)
        case LoopNode(carried=carried):
            return tuple(one.initial for one in carried)
        case ExitIf(condition=condition, results=results):
            return (condition, *(result.value for result in results))
        case Return(results=results):
            return tuple(result.value for result in results)
        case CatchNode():
            return ()


def inner_expressions(expression: Expr) -> tuple[Expr, ...]:
    """The expressions that it is made of, in order; the condition of an Ensure, which reads `it`, is none of them."""
    match expression:
        case Const() | Ref():
            return ()
        case GetField(base=base):
            return (base,)
        case GetItem(base=base, index=index):
            return (base, index)
        case MakeList(items=items):
            return items
        case MakeRecord(fields=fields):
            return tuple(field.value for field in fields)
        case Apply(operands=operands):
            return operands
        case Choose(condition=condition, when_true=when_true, when_false=when_false):
            return (condition, when_true, when_false)
        case Ensure(value=ensured):
            return (ensured,)


def node_references(node: Node) -> Iterator[ValueId]:
    """Every value from outside that the node reads, those read inside its regions included; repeats included."""
    for expression in own_expressions(node):
        yield from references(expression)
    given = _given_inside(node)
    for region in inner_regions(node):
        for value in _region_references(region):
            if value not in given:
                yield value


def _given_inside(node: Node) -> frozenset[ValueId]:
    """Values that the node itself hands to its regions."""
    match node:
        case MapNode(element=element):
            return frozenset([element.id])
        case CatchNode(message=message) if message is not None:
            return frozenset([message.id])
        case _:
            return frozenset()


def _region_references(region: Region) -> Iterator[ValueId]:
    inside = {parameter.id for parameter in region.parameters}
    for node in region.nodes:
        yield from (value for value in node_references(node) if value not in inside)
        inside.update(values_of(node))
    for result in region.results:
        yield from (value for value in references(result.value) if value not in inside)


def leaves(node: Node, *, loops: bool = True) -> bool:
    """Whether control may leave the node's region through it: an exit of an enclosing loop, or a return.

    With ``loops`` false exits of loops do not count: what lies around a loop sees its returns only.
    """
    match node:
        case Return():
            return True
        case ExitIf():
            return loops
        case LoopNode(body=body):
            return any(leaves(inner, loops=False) for inner in body.nodes)
        case IfNode(then=then, otherwise=otherwise):
            return any(leaves(inner, loops=loops) for inner in (*then.nodes, *otherwise.nodes))
        case _:
            return False
