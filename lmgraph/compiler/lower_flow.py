"""From a checked flow to its region. Assumes that nothing was reported; knows no diagnostics.

Node ids are fixed here, once: `flow/binding` for a call or map that is the whole value of a binding,
`flow/binding.Module` for a call inside it, `flow/binding/Module` for a call inside the map of that binding, and `#2`
behind the second of equal paths. They depend on names and on the order inside one binding, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from lmgraph.compiler.calls import argument_name
from lmgraph.compiler.constants import constant
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.graph.graph import FlowSpec
from lmgraph.graph.nodes import (
    Apply,
    Choose,
    Const,
    Expr,
    ExprNode,
    FieldValue,
    GetField,
    GetItem,
    LmCall,
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
from lmgraph.graph.types import Field, ListType, RecordType
from lmgraph.source.text import Span
from lmgraph.syntax import tree

Values = dict[str, ValueId]
"""What each local name is in the graph."""


def lower_flow(flow: tree.Flow, signature: SignatureTypes, facts: Facts, spans: dict[str, Span]) -> FlowSpec:
    """The flow's graph. The places of inputs and nodes are added to ``spans`` under their ids."""
    name = flow.name.text
    lowering = Lowering(facts, spans)
    parameters = tuple(
        Parameter(lowering.claim(f"{name}/{one.name}", node.name.span), one)
        for one, node in zip(signature.inputs, flow.signature.inputs, strict=True)
    )
    values = {parameter.field.name: parameter.id for parameter in parameters}
    nodes: list[Node] = []
    results: tuple[Operand, ...] = ()
    for statement in flow.body:
        match statement:
            case tree.Bind():
                values[statement.name.text] = lowering.bind(name, statement, values, nodes)
            case tree.Return(arguments=arguments):
                place = Place(f"{name}/return.", values, nodes)
                results = lowering.operands(arguments, signature.outputs, place)
            case _:
                raise AssertionError(f"{type(statement).__name__} was not reported as not lowered")
    return FlowSpec(name, signature.inputs, signature.outputs, Region(parameters, tuple(nodes), results))


def lower_metric(body: tree.Expression, gold: str, pred: str, facts: Facts) -> Expr:
    """A metric's expression over the values named ``gold`` and ``pred``."""
    values = {gold: ValueId(gold), pred: ValueId(pred)}
    return Lowering(facts, {}).expression(body, Place("", values, []))


def lone_module(signature: SignatureTypes, spans: dict[str, Span]) -> FlowSpec:
    """The flow of a file that has one module and no flow: it calls the module with its own inputs."""
    name = signature.name
    lowering = Lowering(Facts(), spans)
    parameters = tuple(
        Parameter(lowering.claim(f"{name}/{one.name}", signature.span), one) for one in signature.inputs
    )
    call = NodeId(lowering.claim(f"{name}/{name}", signature.span))
    arguments = tuple(Operand(parameter.field.name, Ref(parameter.id)) for parameter in parameters)
    node = LmCall(call, name, arguments, signature.output_type)
    results = tuple(Operand(field.name, GetField(Ref(ValueId(call)), field.name)) for field in signature.outputs)
    return FlowSpec(name, signature.inputs, signature.outputs, Region(parameters, (node,), results))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression is lowered: nodes it needs go to ``nodes``, their ids start with ``prefix``."""

    prefix: str
    values: Values
    nodes: list[Node]


class Lowering:
    """Lowers expressions; keeps ids unique."""

    def __init__(self, facts: Facts, spans: dict[str, Span]) -> None:
        self._facts = facts
        self._spans = spans
        self._taken: set[str] = set()

    def claim(self, path: str, span: Span) -> ValueId:
        """The path as an id, or with `#2`, `#3` behind it where it is taken."""
        free, number = path, 1
        while free in self._taken:
            number += 1
            free = f"{path}#{number}"
        self._taken.add(free)
        self._spans[free] = span
        return ValueId(free)

    def bind(self, flow: str, statement: tree.Bind, values: Values, nodes: list[Node]) -> ValueId:
        """Appends the nodes of `name = value`; gives back the value's id, `flow/name`."""
        path, value = f"{flow}/{statement.name.text}", statement.value
        own = self.claim(path, statement.span)
        place = Place(f"{path}.", values, nodes)
        match value:
            case tree.CallExpression() if isinstance(self._facts.callee_of(value), SignatureTypes):
                self._call(value, place, own)
            case tree.Comprehension():
                self._map(value, place, own)
            case _:
                nodes.append(ExprNode(NodeId(own), self.expression(value, place), self._facts.binding_type(statement)))
        return own

    def operands(
        self, arguments: Sequence[tree.Argument], parameters: Sequence[Field], place: Place
    ) -> tuple[Operand, ...]:
        """Arguments in the order of the declaration, defaults filled in. Calls inside them come in source order."""
        given = {argument_name(argument): self.expression(argument.value, place) for argument in arguments}
        return tuple(
            Operand(one.name, given[one.name] if one.name in given else constant(one.default, one.type))
            for one in parameters
        )

    def expression(self, node: tree.Expression, place: Place) -> Expr:
        match node:
            case tree.Constant(value=value):
                return Const(value)
            case tree.Reference(name=name):
                return Ref(place.values[name])
            case tree.Attribute(base=base, name=name):
                label = self._facts.label_of(node)
                return Const(label) if label is not None else GetField(self.expression(base, place), name.text)
            case tree.Index(base=base, index=index):
                return GetItem(self.expression(base, place), self.expression(index, place))
            case tree.CallExpression():
                return self._call_value(node, place)
            case tree.ListExpression(items=items):
                return MakeList(tuple(self.expression(item, place) for item in items))
            case tree.Comprehension():
                return Ref(self._map(node, place, self.claim(f"{place.prefix}map", node.span)))
            case tree.Conditional(condition=condition, when_true=when_true, when_false=when_false):
                return Choose(
                    self.expression(condition, place),
                    self.expression(when_true, place),
                    self.expression(when_false, place),
                )
            case tree.Comparison():
                return self._comparison(node, place)
            case tree.Binary(operator=operator, left=left, right=right):
                return Apply(operator, (self.expression(left, place), self.expression(right, place)))
            case tree.Unary(operator=operator, operand=operand):
                inner = self.expression(operand, place)
                if operator == "-" and isinstance(inner, Const):
                    return Const(-inner.value)
                return Apply("neg" if operator == "-" else "not", (inner,))
            case tree.Catch():
                raise AssertionError("catch was not reported as not lowered")

    def _comparison(self, node: tree.Comparison, place: Place) -> Expr:
        """A chain becomes pairs joined by `and`; an operand between two pairs is pure, so it may stand twice."""
        operands = [self.expression(operand, place) for operand in node.operands]
        pairs: list[Expr] = [
            Apply(cast(Operator, operator), (operands[index], operands[index + 1]))
            for index, operator in enumerate(node.operators)
        ]
        joined = pairs[0]
        for pair in pairs[1:]:
            joined = Apply("and", (joined, pair))
        return joined

    def _call_value(self, node: tree.CallExpression, place: Place) -> Expr:
        callee = self._facts.callee_of(node)
        match callee:
            case "len":
                return Apply("len", (self.expression(node.arguments[0].value, place),))
            case RecordType(name=name, fields=fields):
                operands = self.operands(node.arguments, fields, place)
                return MakeRecord(name, tuple(FieldValue(one.name, one.value) for one in operands))
            case SignatureTypes(name=name):
                return Ref(self._call(node, place, None))

    def _call(self, node: tree.CallExpression, place: Place, own: ValueId | None) -> ValueId:
        """Appends the calls inside the arguments, then this one, under ``own`` or an id of its own."""
        callee = self._facts.callee_of(node)
        assert isinstance(callee, SignatureTypes)
        arguments = self.operands(node.arguments, callee.inputs, place)
        id = own if own is not None else self.claim(f"{place.prefix}{callee.name}", node.span)
        place.nodes.append(LmCall(NodeId(id), callee.name, arguments, callee.output_type))
        return id

    def _map(self, node: tree.Comprehension, place: Place, own: ValueId) -> ValueId:
        items = self.expression(node.iterable, place)
        listed = self._facts.type_of(node.iterable)
        assert isinstance(listed, ListType)
        element = self.claim(f"{own}/{node.variable.text}", node.variable.span)
        inner = Place(f"{own}/", {**place.values, node.variable.text: element}, [])
        condition = self.expression(node.condition, inner) if node.condition is not None else None
        result = self.expression(node.element, inner)
        body = Region(
            (Parameter(element, Field(node.variable.text, listed.element)),),
            tuple(inner.nodes),
            (Operand("", result),),
        )
        type = ListType(self._facts.type_of(node.element))
        place.nodes.append(MapNode(NodeId(own), items, condition, body, type))
        return own
