"""What always has a value.

An expression is total where computing it cannot fail. A value is sure where no run leaves it failed: nothing that it is
made of can fail. Both err on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmgraph.graph.effects import bodies, guards, holding
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
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
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
)
from lmgraph.graph.types import BOOL, FLOAT, INT, NULL, STR, ListType, RecordType, ScalarType, Type
from lmgraph.graph.walk import inner_expressions, inner_regions, leaves, values_of, walk

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "not")


class Certain:
    """What is certain of one graph's values, found once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph  # lives as long as what is known of its parts by their identity
        self._steady: dict[int, bool] = {}
        self.must_succeed = holding(graph, guards)
        """Nodes whose region fails where they fail."""
        self.sure: set[ValueId] = set()
        self._types: dict[ValueId, Type] = {}
        for _, body in bodies(graph):
            self._types.update((one.id, one.field.type) for one in body.parameters)
            self._types.update(_types(body))
            self.sure.update(one.id for one in body.parameters)
            self._region(body)

    def type_of(self, expression: Expr) -> Type | None:
        """None where it is not known."""
        match expression:
            case Const(value=value):
                return _type_of_value(value)
            case Ref(value=value_id):
                return self._types.get(value_id)
            case GetField(base=base, name=name):
                record = self.type_of(base)
                field = record.field(name) if isinstance(record, RecordType) else None
                return None if field is None else field.type
            case Apply(operator="+" | "-" | "*", operands=(left, right)):
                one, other = self.type_of(left), self.type_of(right)
                return one if one == other else None
            case Apply(operator="len"):
                return INT
            case Apply(operator="text"):
                return STR
            case Apply(operator=operator) if operator in COMPARISONS:
                return BOOL
            case Choose(when_true=when_true, when_false=when_false):
                one, other = self.type_of(when_true), self.type_of(when_false)
                return one if one == other else None
            case MakeList(items=(first, *rest)):
                element = self.type_of(first)
                same = element is not None and all(self.type_of(item) == element for item in rest)
                return ListType(element) if same and element is not None else None
            case _:
                return None

    def is_total(self, expression: Expr) -> bool:
        """Whether it has a value wherever what it reads has one."""
        match expression:
            case Const() | Ref():
                return True
            case GetField(base=base):
                return self.type_of(expression) is not None and self.is_total(base)
            case MakeList(items=items):
                return all(map(self.is_total, items))
            case MakeRecord(fields=fields):
                return all(self.is_total(field.value) for field in fields)
            case Choose(condition=condition, when_true=when_true, when_false=when_false):
                return all(map(self.is_total, (condition, when_true, when_false)))
            case Apply(operator="+" | "-" | "*", operands=operands):
                # Sums of floats may be too large, and then have no value.
                return all(map(self._adds, operands)) and all(map(self.is_total, operands))
            case Apply(operator="/" | "best" | "vote"):
                return False
            case Apply(operands=operands):
                return all(map(self.is_total, operands))
            case GetItem() | Ensure():
                return False

    def is_steady(self, expression: Expr) -> bool:
        """Whether the expression, which stands in the graph, has no value only where something that it always reads has
        none. Asked again and again, it is looked at once."""
        known = self._steady.get(id(expression))
        if known is None:
            match expression:
                case Const() | Ref():
                    known = True
                case Choose(when_true=when_true, when_false=when_false):
                    known = self.is_sure(when_true) and self.is_sure(when_false)
                case Apply(operator="and" | "or", operands=(_, right)):
                    known = self.is_sure(right)
                case Apply() | GetItem() | Ensure():
                    known = self.is_total(expression)
                case _:
                    known = True
            known = known and all(map(self.is_steady, inner_expressions(expression)))
            self._steady[id(expression)] = known
        return known

    def is_sure(self, expression: Expr) -> bool:
        """Whether it has a value in every run."""
        return self.is_total(expression) and all(value in self.sure for value in references(expression))

    def sure_region(self, region: Region) -> bool:
        """Whether its results always have values, and nothing in it fails it or leaves it."""
        return all(self.is_sure(result.value) for result in region.results) and not any(
            leaves(node) or node.id in self.must_succeed for node in region.nodes
        )

    def _region(self, region: Region) -> None:
        for node in region.nodes:
            if self._node(node):
                self.sure.update(values_of(node))

    def _node(self, node: Node) -> bool:
        """Notes what is sure inside the node; whether its values are."""
        match node:
            case ExprNode(expression=expression) | ReleaseNode(expression=expression):
                return self.is_sure(expression)
            case CheckNode(condition=condition, kind=kind):
                return kind == "check" and self.is_sure(condition)
            case MapNode(items=items, element=element):
                if self.is_sure(items):
                    self.sure.add(element.id)
                for region in inner_regions(node):
                    self._region(region)
                return self.is_sure(items) and all(map(self.sure_region, inner_regions(node)))
            case IfNode(condition=condition):
                for region in inner_regions(node):
                    self._region(region)
                return self.is_sure(condition) and all(map(self.sure_region, inner_regions(node)))
            case LoopNode(index=index, body=body):
                if index is not None:
                    self.sure.add(index.id)
                self._region(body)
                return False
            case CatchNode(body=body, message=message, fallback=fallback):
                if message is not None:
                    self.sure.add(message.id)
                self._region(body)
                self._region(fallback)
                return self.sure_region(fallback)
            case _:
                return False

    def _adds(self, expression: Expr) -> bool:
        type = self.type_of(expression)
        return type in (INT, STR) or isinstance(type, ListType) or isinstance(expression, MakeList)


def _types(region: Region) -> Iterator[tuple[ValueId, Type]]:
    for node in walk(region):
        match node:
            case IfNode(results=results):
                yield from ((one.id, one.field.type) for one in results)
            case LoopNode(results=results, body=body):
                yield from ((one.id, one.field.type) for one in (*results, *body.parameters))
            case MapNode(element=element):
                yield element.id, element.field.type
                yield ValueId(node.id), node.type
            case CatchNode(message=message):
                if message is not None:
                    yield message.id, message.field.type
                yield ValueId(node.id), node.type
            case CheckNode():
                yield ValueId(node.id), BOOL
            case LmCall() | ExternCall() | FlowCall() | ExprNode() | ReleaseNode():
                yield ValueId(node.id), node.type
            case _:
                pass


def _type_of_value(value: object) -> ScalarType | None:
    # In this order: a bool is an int.
    for kind, type in ((bool, BOOL), (int, INT), (float, FLOAT), (str, STR)):
        if isinstance(value, kind):
            return type
    return NULL if value is None else None
