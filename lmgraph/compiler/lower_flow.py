"""From checked statements to regions. Assumes that nothing was reported; knows no diagnostics.

Variables become SSA values: each `:=` is a new value, a loop carries those it changes, and an `if` gives a value for
each that one of its branches changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.flows import updated
from lmgraph.compiler.layers import Layers
from lmgraph.compiler.lower_expressions import ExpressionLowering, Place
from lmgraph.compiler.lower_strategies import module_nodes
from lmgraph.compiler.written_types import is_private
from lmgraph.graph.graph import FlowSpec, ModuleSpec, StubSpec, TestSpec
from lmgraph.graph.nodes import (
    Carried,
    CheckNode,
    ExitIf,
    Expr,
    ExprNode,
    GetField,
    IfNode,
    LoopNode,
    Node,
    NodeId,
    Operand,
    Parameter,
    Ref,
    Region,
    ReleaseNode,
    Return,
    ValueId,
)
from lmgraph.graph.types import INT, Field, Type
from lmgraph.source.text import Span
from lmgraph.syntax import tree


@dataclass(frozen=True, slots=True)
class _Variable:
    type: Type
    private: bool
    number: int
    """Counts the variables of a flow, in the order of their declaration."""


@dataclass(slots=True)
class Block:
    """A region being made. ``at`` is what its ids start with."""

    at: str
    values: Layers[Expr]
    variables: Layers[_Variable] = field(default_factory=lambda: Layers({}, {}))
    """The variables known here."""
    loop: tuple[NodeId, tuple[str, ...]] | None = None
    """The loop around, and the variables it carries."""
    nodes: list[Node] = field(default_factory=list)

    def inside(self, at: str) -> Block:
        return replace(self, at=at, values=Layers({}, self.values), variables=Layers({}, self.variables), nodes=[])

    def region(self, names: Sequence[str], parameters: tuple[Parameter, ...] = ()) -> Region:
        """The finished region, which yields the variables of these names."""
        return Region(parameters, tuple(self.nodes), tuple(Operand(name, self.values[name]) for name in names))


class FlowLowering(ExpressionLowering):
    """Lowers the statements of one flow, test or metric."""

    def __init__(
        self,
        modules: Mapping[str, ModuleSpec],
        signatures: Mapping[str, SignatureTypes],
        facts: Facts,
        spans: dict[str, Span],
        outputs: Sequence[Field] = (),
    ) -> None:
        super().__init__(facts, spans)
        self._modules = modules
        self._signatures = signatures
        self._outputs = outputs
        self._numbers = count()

    def flow(self, flow: tree.Flow, signature: SignatureTypes) -> FlowSpec:
        name = flow.name.text
        parameters = tuple(
            Parameter(self.claim(f"{name}/{one.name}", node.name.span), one)
            for one, node in zip(signature.inputs, flow.signature.inputs, strict=True)
        )
        block = Block(f"{name}/", Layers({one.field.name: Ref(one.id) for one in parameters}, {}))
        results = self._ending(flow.body, block)
        return FlowSpec(name, signature.inputs, signature.outputs, Region(parameters, tuple(block.nodes), results))

    def lone_module(self, signature: SignatureTypes) -> FlowSpec:
        """The flow of a file that has one module and no flow: it calls the module with its own inputs."""
        name = signature.name
        parameters = tuple(Parameter(self.claim(f"{name}/{one.name}", signature.span), one) for one in signature.inputs)
        own = self.claim(f"{name}/{name}", signature.span)
        arguments = tuple(Operand(parameter.field.name, Ref(parameter.id)) for parameter in parameters)
        place = Place(f"{own}.", {}, [])
        self.module_call(name, arguments, own, place, signature.span)
        results = tuple(Operand(one.name, GetField(Ref(own), one.name)) for one in signature.outputs)
        return FlowSpec(name, signature.inputs, signature.outputs, Region(parameters, tuple(place.nodes), results))

    def test(self, test: tree.Test, number: int) -> TestSpec:
        name = f"test:{number}"
        block = Block(f"{name}/", Layers({}, {}))
        stubs: list[StubSpec] = []
        for statement in test.body:
            if isinstance(statement, tree.Stub):
                stubs.append(self._stub(statement))
            else:
                self._statement(statement, block)
        return TestSpec(test.title, FlowSpec(name, (), (), Region((), tuple(block.nodes), ())), tuple(stubs))

    def _stub(self, stub: tree.Stub) -> StubSpec:
        signature = self._signatures[self.facts.stubbed(stub)]
        place = Place("", {}, [])
        answers: list[tuple[Operand, ...]] = []
        for one in stub.answers:
            if signature.bare is not None:
                answers.append((Operand("", self.expression(one[0].value, place)),))
            else:
                answers.append(self.operands(one, signature.outputs, place))
        return StubSpec(signature.name, tuple(answers))

    def metric(self, name: str, body: tree.Expression, gold: Field, pred: Field) -> Region:
        """A metric's expression over its two values."""
        parameters = tuple(Parameter(self.claim(f"{name}/{one.name}", body.span), one) for one in (gold, pred))
        place = Place(f"{name}/", {one.field.name: Ref(one.id) for one in parameters}, [])
        result = self.expression(body, place)
        return Region(parameters, tuple(place.nodes), (Operand("", result),))

    def module_call(self, module: str, arguments: tuple[Operand, ...], own: ValueId, place: Place, span: Span) -> None:
        spec = self._modules[module]
        place.nodes.extend(module_nodes(spec, arguments, own, self._signatures, lambda path: self.claim(path, span)))

    # -- statements --------------------------------------------------------------------------------------------------

    def _ending(self, body: Sequence[tree.Statement], block: Block) -> tuple[Operand, ...]:
        """Lowers a body every way through which returns; the outputs. Where it ends in an `if`, that yields them."""
        *before, last = body
        for statement in before:
            self._statement(statement, block)
        if isinstance(last, tree.Return):
            return self._returned(last, block)
        assert isinstance(last, tree.If)
        own, condition, branches = self._branches(last, block)
        regions: list[Region] = []
        for inner, statements in branches:
            ended = self._ending(statements, inner)
            regions.append(Region((), tuple(inner.nodes), ended))
        results = tuple(Parameter(ValueId(f"{own}:{one.name}"), one) for one in self._outputs)
        block.nodes.append(IfNode(NodeId(own), condition, regions[0], regions[1], results))
        return tuple(Operand(one.field.name, Ref(one.id)) for one in results)

    def _statement(self, statement: tree.Statement, block: Block) -> None:
        at, values, nodes = block.at, block.values, block.nodes
        match statement:
            case tree.Bind(name=name, value=value) | tree.Var(name=name, value=value):
                type = self.facts.binding_type(statement)
                private = statement.type is not None and is_private(statement.type)
                values[name.text] = self._bound(name.text, value, type, statement.span, block, private)
                if isinstance(statement, tree.Var):
                    block.variables[name.text] = _Variable(type, private, next(self._numbers))
            case tree.Update(name=name, value=value):
                variable = block.variables[name.text]
                values[name.text] = self._bound(
                    name.text, value, variable.type, statement.span, block, variable.private
                )
            case tree.Release(name=name, value=value, reason=reason):
                own = self.claim(f"{at}{name.text}", statement.span)
                lowered = self.expression(value, Place(f"{own}.", values, nodes))
                nodes.append(ReleaseNode(NodeId(own), lowered, reason, self.facts.binding_type(statement)))
                values[name.text] = Ref(own)
            case tree.Assert(condition=condition, message=message) | tree.Check(condition=condition, message=message):
                kind = "assert" if isinstance(statement, tree.Assert) else "check"
                own = self.claim(f"{at}{kind}", statement.span)
                lowered = self.expression(condition, Place(f"{own}.", values, nodes))
                nodes.append(CheckNode(NodeId(own), lowered, message, "assert" if kind == "assert" else "check"))
            case tree.If():
                self._if_statement(statement, block)
            case tree.Repeat():
                self._repeat(statement, block)
            case tree.Stop(condition=condition):
                assert block.loop is not None
                loop, carried = block.loop
                own = self.claim(f"{at}stop", statement.span)
                self.spans[f"{own}?"] = condition.span
                lowered = self.expression(condition, Place(f"{own}.", values, nodes))
                nodes.append(ExitIf(NodeId(own), lowered, loop, tuple(Operand(one, values[one]) for one in carried)))
            case tree.Return():
                results = self._returned(statement, block)
                nodes.append(Return(NodeId(self.claim(f"{at}return", statement.span)), results))
            case tree.Stub():
                pass

    def _bound(
        self, name: str, value: tree.Expression, type: Type, span: Span, block: Block, private: bool = False
    ) -> Expr:
        own = self.claim(f"{block.at}{name}", span)
        self.bound(value, type, own, Place(f"{own}.", block.values, block.nodes))
        if not private:
            return Ref(own)
        labelled = self.claim(f"{own}.private", span)
        block.nodes.append(ExprNode(NodeId(labelled), Ref(own), type, "private"))
        return Ref(labelled)

    def _returned(self, statement: tree.Return, block: Block) -> tuple[Operand, ...]:
        return self.operands(statement.arguments, self._outputs, Place(f"{block.at}return.", block.values, block.nodes))

    def _branches(
        self, statement: tree.If, block: Block
    ) -> tuple[ValueId, Expr, list[tuple[Block, Sequence[tree.Statement]]]]:
        own = self.claim(f"{block.at}if", statement.span)
        self.spans[f"{own}?"] = statement.condition.span
        condition = self.expression(statement.condition, Place(f"{own}.", block.values, block.nodes))
        then, otherwise = block.inside(f"{own}.then/"), block.inside(f"{own}.else/")
        return own, condition, [(then, statement.then), (otherwise, statement.otherwise or ())]

    def _if_statement(self, statement: tree.If, block: Block) -> None:
        own, condition, branches = self._branches(statement, block)
        names = self._changed((*statement.then, *(statement.otherwise or ())), block)
        regions = []
        for inner, statements in branches:
            for one in statements:
                self._statement(one, inner)
            regions.append(inner.region(names))
        results = tuple(Parameter(ValueId(f"{own}:{name}"), Field(name, block.variables[name].type)) for name in names)
        block.nodes.append(IfNode(NodeId(own), condition, regions[0], regions[1], results))
        for result in results:
            block.values[result.field.name] = Ref(result.id)

    def _repeat(self, statement: tree.Repeat, block: Block) -> None:
        word = statement.index.text if statement.index is not None else "repeat"
        loop = NodeId(self.claim(f"{block.at}{word}", statement.span))
        names = self._changed(statement.body, block)
        index = None
        if statement.index is not None:
            index = Parameter(self.claim(f"{loop}/{word}", statement.index.span), Field(word, INT))
        fields = [Field(name, block.variables[name].type) for name in names]
        parameters = [Parameter(self.claim(f"{loop}/{one.name}", statement.span), one) for one in fields]
        carried = tuple(Carried(one, block.values[one.field.name]) for one in parameters)
        inner = replace(block.inside(f"{loop}/"), loop=(loop, names))
        for parameter in parameters:
            inner.values[parameter.field.name] = Ref(parameter.id)
        if index is not None:
            inner.values[word] = Ref(index.id)
        for one in statement.body:
            self._statement(one, inner)
        results = tuple(Parameter(ValueId(f"{loop}:{one.field.name}"), one.field) for one in parameters)
        body = inner.region(names, (*([index] if index is not None else []), *parameters))
        block.nodes.append(LoopNode(loop, statement.limit, index, carried, body, results))
        for result in results:
            block.values[result.field.name] = Ref(result.id)

    @staticmethod
    def _changed(body: Sequence[tree.Statement], block: Block) -> tuple[str, ...]:
        """Variables from outside that the body sets, in the order of their declaration."""
        names = {name for name in updated(body) if name in block.variables}
        return tuple(sorted(names, key=lambda name: block.variables[name].number))
