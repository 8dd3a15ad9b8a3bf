"""Nodes and expressions of the dataflow graph, in SSA form with nested regions.

Every node produces one value, named by the node's id. Operands are pure expressions over values that are in scope:
parameters of the enclosing regions and nodes before this one. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, TypeAlias

from lmgraph.graph.types import ByKind, Field, ListType, RecordType, Type

NodeId = NewType("NodeId", str)
"""A path `flow/region/binding`, fixed at lowering: `Triage/routed/Route`. Identity is a path, never a content hash."""

ValueId = NewType("ValueId", str)
"""The id of the node or region parameter that produces a value. A flow's inputs are `Flow/input`."""


# -- expressions: pure, total, over plain values ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Const:
    """A plain value: str, int, float, bool, None, or an enum's label."""

    value: Any
    kind: Literal["const"] = "const"


@dataclass(frozen=True, slots=True)
class Ref:
    value: ValueId
    kind: Literal["ref"] = "ref"


@dataclass(frozen=True, slots=True)
class GetField:
    base: Expr
    name: str
    kind: Literal["field"] = "field"


@dataclass(frozen=True, slots=True)
class GetItem:
    """`base[index]` of a list or map."""

    base: Expr
    index: Expr
    kind: Literal["item"] = "item"


@dataclass(frozen=True, slots=True)
class MakeList:
    items: tuple[Expr, ...]
    kind: Literal["list"] = "list"


@dataclass(frozen=True, slots=True)
class FieldValue:
    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class MakeRecord:
    record: str
    """Name of the record type, for messages."""
    fields: tuple[FieldValue, ...]
    kind: Literal["record"] = "record"


Operator = Literal[
    "+", "-", "*", "/", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "not", "neg", "len"
]


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator on its operands. `and` and `or` do not evaluate their right side without need."""

    operator: Operator
    operands: tuple[Expr, ...]
    kind: Literal["apply"] = "apply"


@dataclass(frozen=True, slots=True)
class Choose:
    """`if condition then when_true else when_false`; only the chosen side is evaluated."""

    condition: Expr
    when_true: Expr
    when_false: Expr
    kind: Literal["choose"] = "choose"


Expr: TypeAlias = Annotated[
    Const | Ref | GetField | GetItem | MakeList | MakeRecord | Apply | Choose, ByKind()
]


# -- nodes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operand:
    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class LmCall:
    """One call of a module's LM. Its value is the record of the module's outputs."""

    id: NodeId
    module: str
    arguments: tuple[Operand, ...]
    type: RecordType
    kind: Literal["lm.call"] = "lm.call"


@dataclass(frozen=True, slots=True)
class ExprNode:
    """A named pure value."""

    id: NodeId
    expression: Expr
    type: Type
    kind: Literal["expr"] = "expr"


@dataclass(frozen=True, slots=True)
class MapNode:
    """The parallel map. ``body`` has one parameter, the element, and one result; where ``condition`` (over the
    element and outer values) is false the element is left out. Indices in call keys count the elements of ``items``."""

    id: NodeId
    items: Expr
    condition: Expr | None
    body: Region
    type: ListType
    kind: Literal["map"] = "map"


Node: TypeAlias = Annotated[LmCall | ExprNode | MapNode, ByKind()]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value a region is given."""

    id: ValueId
    field: Field


@dataclass(frozen=True, slots=True)
class Region:
    """Nodes in a topological order, the order of the source. ``results`` are what the region yields: a flow's named
    outputs, or the one unnamed (name "") result of a map's body."""

    parameters: tuple[Parameter, ...]
    nodes: tuple[Node, ...]
    results: tuple[Operand, ...]


def references(expression: Expr) -> Iterator[ValueId]:
    """Every value the expression reads, in order, repeats included."""
    match expression:
        case Const():
            return
        case Ref(value=value):
            yield value
        case GetField(base=base):
            yield from references(base)
        case GetItem(base=base, index=index):
            yield from references(base)
            yield from references(index)
        case MakeList(items=items):
            for item in items:
                yield from references(item)
        case MakeRecord(fields=fields):
            for field in fields:
                yield from references(field.value)
        case Apply(operands=operands):
            for operand in operands:
                yield from references(operand)
        case Choose(condition=condition, when_true=when_true, when_false=when_false):
            yield from references(condition)
            yield from references(when_true)
            yield from references(when_false)


def node_references(node: Node) -> Iterator[ValueId]:
    """Every value from outside that the node reads, those read inside its region included."""
    match node:
        case LmCall(arguments=arguments):
            for argument in arguments:
                yield from references(argument.value)
        case ExprNode(expression=expression):
            yield from references(expression)
        case MapNode(items=items, condition=condition, body=body):
            yield from references(items)
            inside = {parameter.id for parameter in body.parameters} | {ValueId(inner.id) for inner in body.nodes}
            if condition is not None:
                yield from (value for value in references(condition) if value not in inside)
            for inner in body.nodes:
                yield from (value for value in node_references(inner) if value not in inside)
            for result in body.results:
                yield from (value for value in references(result.value) if value not in inside)


def walk(region: Region) -> Iterator[Node]:
    """Every node of the region and of the regions inside it, in source order."""
    for node in region.nodes:
        yield node
        if isinstance(node, MapNode):
            yield from walk(node.body)
