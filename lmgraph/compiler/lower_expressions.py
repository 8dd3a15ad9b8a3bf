"""From checked expressions to graph expressions, and to the nodes for what they call. Assumes nothing was reported.

Node ids are fixed here and in lower_flow.py, once (docs/decisions/0005): `flow/binding` for a call, map, conditional or
catch that is the whole value of a binding, `flow/binding.Module` for a call inside it, `flow/binding/Module` for one
inside the map of that binding, and `#2` behind the second of equal paths. They depend on names and on the order inside
one binding, nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from lmgraph.compiler.calls import argument_name
from lmgraph.compiler.constants import constant
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.layers import Layers
from lmgraph.graph.nodes import (
    IT,
    Apply,
    CatchNode,
    Choose,
    Const,
    Ensure,
    Expr,
    ExprNode,
    ExternCall,
    FieldValue,
    FlowCall,
    GetField,
    GetItem,
    IfNode,
    MakeList,
    MakeRecord,
    MapNode,
    Node,
    NodeId,
    Operand,
    Operator,
    Parameter,
    Ref,
    Region,
    ValueId,
)
from lmgraph.graph.types import BOOL, Field, ListType, RecordType, Type
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import walk

Values = Mapping[str, Expr]
"""What each local name is in the graph."""

EXTERN_NODES: dict[str, Literal["fn.call", "retrieve", "tool.call"]] = {
    "fn": "fn.call", "retriever": "retrieve", "tool": "tool.call",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression is lowered: nodes it needs go to ``nodes``, their ids start with ``prefix``."""

    prefix: str
    """Empty where there are no nodes: in constraints, checks of modules and answers of stubs."""
    values: Values
    nodes: list[Node]

    def inside(self, prefix: str) -> Place:
        """A region of its own."""
        return Place(prefix, self.values, [])


def lower_pure(node: tree.Expression, values: Mapping[str, ValueId], facts: Facts) -> Expr:
    """An expression that calls nothing."""
    place = Place("", {name: Ref(value) for name, value in values.items()}, [])
    lowered = _PureLowering(facts, {}).expression(node, place)
    assert not place.nodes
    return lowered


def ensured(value: Expr, field: Field) -> Expr:
    """The value, held to the field's constraint where it has one."""
    return value if field.constraint is None else Ensure(value, field.constraint.condition, field.constraint.text)


_NOT_NULL = Apply("!=", (Ref(IT), Const(None)))


class ExpressionLowering(ABC):
    """Lowers expressions; keeps ids unique."""

    def __init__(self, facts: Facts, spans: dict[str, Span]) -> None:
        self.facts = facts
        self.spans = spans
        self._taken: dict[str, int] = {}
        """Paths with the last number that stands behind each."""

    def claim(self, path: str, span: Span) -> ValueId:
        """The path as an id, or with `#2`, `#3` behind it where it is taken."""
        free, number = path, self._taken.get(path, 1)
        while free in self._taken:
            number += 1
            free = f"{path}#{number}"
        self._taken[path] = number
        self._taken.setdefault(free, 1)
        self.spans[free] = span
        return ValueId(free)

    @abstractmethod
    def module_call(self, module: str, arguments: tuple[Operand, ...], own: ValueId, place: Place, span: Span) -> None:
        """Appends the nodes of a module's call, whose value has the id ``own``."""

    def bound(self, node: tree.Expression, type: Type, own: ValueId, place: Place) -> None:
        """Appends the nodes of an expression whose value has the id ``own``."""
        match node:
            case tree.CallExpression() if isinstance(self.facts.callee_of(node), SignatureTypes):
                self._call(node, place, own)
            case tree.Comprehension():
                self._map(node, place, own)
            case tree.Catch():
                self._catch(node, type, place, own)
            case tree.Conditional() if self._needs_nodes((node.when_true, node.when_false), place):
                self._if(node, type, place, own)
            case tree.Binary(operator="and" | "or" as operator, right=right) if self._needs_nodes(right, place):
                self._shortcut(node, operator, place, own)
            case _:
                place.nodes.append(ExprNode(NodeId(own), self.expression(node, place), type))

    def operands(
        self, arguments: Sequence[tree.Argument], parameters: Sequence[Field], place: Place
    ) -> tuple[Operand, ...]:
        """Arguments in the order of the declaration, defaults filled in. Calls inside them come in source order."""
        given = {argument_name(argument): self.expression(argument.value, place) for argument in arguments}
        return tuple(
            Operand(one.name, ensured(given[one.name], one))
            if one.name in given
            else Operand(one.name, constant(one.default))
            for one in parameters
        )

    def expression(self, node: tree.Expression, place: Place) -> Expr:
        """The expression in the graph. Nodes for what it calls go to the place."""
        lowered = self._expression(node, place)
        return Ensure(lowered, _NOT_NULL, "it != null") if self.facts.is_guarded(node) else lowered

    def _expression(self, node: tree.Expression, place: Place) -> Expr:
        match node:
            case tree.Constant(value=value):
                return Const(value)
            case tree.Reference(name=name):
                return place.values[name]
            case tree.Attribute(base=base, name=name):
                label = self.facts.label_of(node)
                return Const(label) if label is not None else GetField(self.expression(base, place), name.text)
            case tree.Index(base=base, index=index):
                return GetItem(self.expression(base, place), self.expression(index, place))
            case tree.CallExpression():
                return self._call_value(node, place)
            case tree.ListExpression(items=items):
                return MakeList(tuple(self.expression(item, place) for item in items))
            case tree.Comprehension():
                own = self.claim(f"{place.prefix}map", node.span)
                self._map(node, place, own)
                return Ref(own)
            case tree.Conditional():
                return self._conditional(node, place)
            case tree.Comparison():
                return self._comparison(node, place)
            case tree.Binary(operator="and" | "or" as operator, right=right) if self._needs_nodes(right, place):
                own = self.claim(f"{place.prefix}{operator}", node.span)
                self._shortcut(node, operator, place, own)
                return Ref(own)
            case tree.Binary(operator=operator, left=left, right=right):
                return Apply(operator, (self.expression(left, place), self.expression(right, place)))
            case tree.Unary(operator=operator, operand=operand):
                inner = self.expression(operand, place)
                if operator == "-" and isinstance(inner, Const):
                    return Const(-inner.value)
                return Apply("neg" if operator == "-" else "not", (inner,))
            case tree.Catch():
                own = self.claim(f"{place.prefix}catch", node.span)
                self._catch(node, self.facts.type_of(node), place, own)
                return Ref(own)

    # -- branches ----------------------------------------------------------------------------------------------------

    def _needs_nodes(self, node: tree.Expression | tuple[tree.Expression, ...], place: Place) -> bool:
        """Whether lowering the expression makes nodes, so that it must have a region of its own to be lazy."""
        return any(self._is_node(one, place) for one in walk(node))

    def _is_node(self, node: object, place: Place) -> bool:
        match node:
            case tree.Comprehension() | tree.Catch():
                return True
            case tree.CallExpression():
                return isinstance(self.facts.callee_of(node), SignatureTypes)
            case tree.Comparison(operands=(_, *between, _)) if place.prefix:
                return not all(self._is_small(operand) for operand in between)
            case _:
                return False

    def _is_small(self, node: tree.Expression) -> bool:
        """Whether the expression may stand in the graph twice, as it does between two comparisons."""
        match node:
            case tree.Constant() | tree.Reference():
                return True
            case tree.Attribute(base=base):
                return self.facts.label_of(node) is not None or self._is_small(base)
            case tree.CallExpression(arguments=(argument,)) if self.facts.callee_of(node) == "len":
                return self._is_small(argument.value)
            case _:
                return False

    def region(self, node: tree.Expression, place: Place) -> Region:
        """A region that yields the expression's value, without parameters. ``place`` is empty and its own."""
        result = self.expression(node, place)
        return Region((), tuple(place.nodes), (Operand("", result),))

    def _conditional(self, node: tree.Conditional, place: Place) -> Expr:
        if self._needs_nodes((node.when_true, node.when_false), place):
            own = self.claim(f"{place.prefix}if", node.span)
            self._if(node, self.facts.type_of(node), place, own)
            return Ref(own)
        condition, when_true, when_false = (
            self.expression(one, place) for one in (node.condition, node.when_true, node.when_false)
        )
        return Choose(condition, when_true, when_false)

    def _if(self, node: tree.Conditional, type: Type, place: Place, own: ValueId) -> None:
        condition = self.expression(node.condition, place)
        then = self.region(node.when_true, place.inside(f"{own}.then/"))
        otherwise = self.region(node.when_false, place.inside(f"{own}.else/"))
        place.nodes.append(IfNode(NodeId(own), condition, then, otherwise, (Parameter(own, Field("", type)),)))

    def _shortcut(self, node: tree.Binary, operator: str, place: Place, own: ValueId) -> None:
        """`a and b`, `a or b` where b calls something: an if, so that it is called where it is needed only."""
        left = self.expression(node.left, place)
        right = self.region(node.right, place.inside(f"{own}.{'then' if operator == 'and' else 'else'}/"))
        known = Region((), (), (Operand("", Const(operator == "or")),))
        then, otherwise = (right, known) if operator == "and" else (known, right)
        place.nodes.append(IfNode(NodeId(own), left, then, otherwise, (Parameter(own, Field("", BOOL)),)))

    def _catch(self, node: tree.Catch, type: Type, place: Place, own: ValueId) -> None:
        body = self.region(node.call, place.inside(f"{own}.try/"))
        fallback = self.region(node.fallback, place.inside(f"{own}.catch/"))
        place.nodes.append(CatchNode(NodeId(own), body, None, fallback, type))

    def _comparison(self, node: tree.Comparison, place: Place) -> Expr:
        """A chain becomes pairs joined by `and`. An operand between two pairs is read twice, so anything larger than a
        value gets a node of its own."""
        last = len(node.operands) - 1
        operands: list[Expr] = []
        for index, operand in enumerate(node.operands):
            lowered = self.expression(operand, place)
            if 0 < index < last and place.prefix and not self._is_small(operand):
                own = self.claim(f"{place.prefix}between", operand.span)
                place.nodes.append(ExprNode(NodeId(own), lowered, self.facts.type_of(operand)))
                lowered = Ref(own)
            operands.append(lowered)
        pairs: list[Expr] = [
            Apply(cast(Operator, operator), (operands[index], operands[index + 1]))
            for index, operator in enumerate(node.operators)
        ]
        joined = pairs[0]
        for pair in pairs[1:]:
            joined = Apply("and", (joined, pair))
        return joined

    # -- calls and maps ----------------------------------------------------------------------------------------------

    def _call_value(self, node: tree.CallExpression, place: Place) -> Expr:
        callee = self.facts.callee_of(node)
        match callee:
            case "len":
                return Apply("len", (self.expression(node.arguments[0].value, place),))
            case RecordType(name=name, fields=record_fields):
                operands = self.operands(node.arguments, record_fields, place)
                return MakeRecord(name, tuple(FieldValue(one.name, one.value) for one in operands))
            case SignatureTypes():
                return Ref(self._call(node, place, None))

    def _call(self, node: tree.CallExpression, place: Place, own: ValueId | None) -> ValueId:
        """Appends the calls inside the arguments, then this one, under ``own`` or an id of its own."""
        callee = self.facts.callee_of(node)
        assert isinstance(callee, SignatureTypes)
        inner = place if own is None else Place(f"{own}.", place.values, place.nodes)
        arguments = self.operands(node.arguments, callee.inputs, inner)
        id = own if own is not None else self.claim(f"{place.prefix}{callee.name}", node.span)
        for argument in node.arguments:
            self.spans[f"{id}({argument_name(argument)})"] = argument.value.span
        match callee.kind:
            case "module":
                self.module_call(callee.name, arguments, id, place, node.span)
            case "flow":
                place.nodes.append(FlowCall(NodeId(id), callee.name, arguments, callee.output_type))
            case "fn" | "retriever" | "tool" as kind:
                place.nodes.append(ExternCall(NodeId(id), callee.name, arguments, callee.result, EXTERN_NODES[kind]))
        return id

    def _map(self, node: tree.Comprehension, place: Place, own: ValueId) -> None:
        items = self.expression(node.iterable, place)
        listed = self.facts.type_of(node.iterable)
        assert isinstance(listed, ListType)
        variable = node.variable.text
        element = Parameter(self.claim(f"{own}/{variable}", node.variable.span), Field(variable, listed.element))
        values = Layers[Expr]({variable: Ref(element.id)}, place.values)
        condition = self.region(node.condition, Place(f"{own}/if.", values, [])) if node.condition is not None else None
        body = self.region(node.element, Place(f"{own}/", values, []))
        type = ListType(self.facts.type_of(node.element))
        place.nodes.append(MapNode(NodeId(own), items, element, condition, body, type))


class _PureLowering(ExpressionLowering):
    def module_call(self, module: str, arguments: tuple[Operand, ...], own: ValueId, place: Place, span: Span) -> None:
        raise AssertionError(f"a pure expression calls the module {module}")
