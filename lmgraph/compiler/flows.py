"""Flows, statement by statement: what each binds and whether the flow gives back what it promises."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraph.compiler.calls import Target, check_arguments
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.expressions import Expressions
from lmgraph.compiler.facts import UNKNOWN, Facts, Local, Scope, SignatureTypes
from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.types import NULL, Type
from lmgraph.source.diagnostic import Label
from lmgraph.syntax import tree


def check_flow(flow: tree.Flow, declarations: Declarations, reporter: Reporter, facts: Facts) -> None:
    """Reports every problem of the flow and leaves the types of its expressions in ``facts``."""
    _FlowChecker(flow, declarations, reporter, facts).run()


class _FlowChecker:
    def __init__(self, flow: tree.Flow, declarations: Declarations, reporter: Reporter, facts: Facts) -> None:
        self._flow = flow
        self._declarations = declarations
        self._reporter = reporter
        self._expressions = Expressions(declarations, reporter, facts)
        self._signature: SignatureTypes = declarations.signature(flow)
        spans = {node.name.text: node.name.span for node in reversed(flow.signature.inputs)}
        self._scope = Scope({one.name: Local(one.type, spans[one.name], "input") for one in self._signature.inputs})

    def run(self) -> None:
        for node in self._flow.signature.inputs:
            self._expressions.declare_local(node.name, Scope({}))
        returned: tree.Return | None = None
        for statement in self._flow.body:
            if returned is not None:
                self._reporter.error(
                    "E0401",
                    statement.span,
                    "nothing after `return` is ever reached",
                    secondary=[Label(returned.span, "the flow ends here")],
                    help="delete it, or move it before the return",
                )
                return
            self._statement(statement)
            if isinstance(statement, tree.Return):
                returned = statement
        if returned is None and not any(isinstance(one, tree.If | tree.Repeat) for one in self._flow.body):
            outputs = ", ".join(f"{field.name}=…" for field in self._signature.outputs)
            self._reporter.error(
                "E0402",
                self._flow.name.span,
                f"flow `{self._flow.name.text}` does not return its outputs",
                help=f"end it with `return ({outputs})`",
            )

    def _statement(self, statement: tree.Statement) -> None:
        match statement:
            case tree.Bind():
                self._bind(statement)
            case tree.Return(arguments=arguments):
                name = self._flow.name
                declared = Label(name.span, f"`{name.text}` is declared here")
                target = Target(name.text, statement.span, declared, returns=True)
                check_arguments(arguments, self._signature.outputs, target, self._scope, self._expressions)
            case tree.Var(name=name, type=type, value=value):
                found = self._declarations.type(type) if type else UNKNOWN
                if type is None:
                    self._expressions.infer(value, self._scope)
                else:
                    self._expressions.check(value, self._scope, found, f"`{name.text}`")
                self._declare(name, found)
            case tree.Release(name=name, value=value):
                self._declare(name, self._expressions.infer(value, self._scope))
            case _:  # reported by unlowered.py; what it encloses is not looked at
                for name in _bound_inside(statement):
                    if name.text not in self._scope.locals:
                        self._scope = self._scope.binding(name.text, Local(UNKNOWN, name.span))

    def _bind(self, statement: tree.Bind) -> None:
        name = statement.name
        if statement.type is not None:
            found = self._declarations.type(statement.type)
            label = Label(statement.type.span, "declared here")
            self._expressions.check(statement.value, self._scope, found, f"`{name.text}`", label)
        else:
            found = self._expressions.infer(statement.value, self._scope)
            if found == NULL:
                self._reporter.error(
                    "E0315",
                    statement.value.span,
                    f"nothing says what `{name.text}` may hold besides null",
                    help=f"say it: `{name.text}: str? = null`",
                )
                found = UNKNOWN
        self._expressions.facts.set_binding(statement, found)
        self._declare(name, found)

    def _declare(self, name: tree.Identifier, found: Type) -> None:
        self._expressions.declare_local(name, self._scope)
        if name.text not in self._scope.locals:
            self._scope = self._scope.binding(name.text, Local(found, name.span))


def _bound_inside(statement: tree.Statement) -> Iterator[tree.Identifier]:
    match statement:
        case tree.Bind(name=name) | tree.Var(name=name) | tree.Release(name=name):
            yield name
        case tree.If(then=then, otherwise=otherwise):
            for inner in (*then, *(otherwise or ())):
                yield from _bound_inside(inner)
        case tree.Repeat(body=body):
            for inner in body:
                yield from _bound_inside(inner)
        case _:
            return
