"""Flows and tests, statement by statement: what each binds, what is known after it, and whether the flow ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmgraph.compiler.calls import Target, check_arguments
from lmgraph.compiler.checker import require_text
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.expressions import Expressions
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.lookups import declare_local
from lmgraph.compiler.relations import UNKNOWN
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.scope import Local, Scope, proves_not_null
from lmgraph.graph.types import INT, NULL, OptionalType, Type
from lmgraph.source.diagnostic import Fix, Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import walk

MOST_ITERATIONS = 1_000_000


def check_flow(flow: tree.Flow, declarations: Declarations, reporter: Reporter, facts: Facts) -> None:
    """Reports every problem of the flow and leaves the types of its expressions in ``facts``."""
    signature = declarations.signature(flow)
    checker = BodyChecker(declarations, reporter, facts, signature)
    for node in flow.signature.inputs:
        declare_local(node.name, Scope({}), checker.expressions)
    spans = {node.name.text: node.name.span for node in reversed(flow.signature.inputs)}
    scope = Scope({one.name: Local(one.type, spans[one.name], "input") for one in signature.inputs})
    _, returned = checker.block(flow.body, scope)
    if not flow.body:
        reporter.error("E0403", flow.name.span, f"flow `{flow.name.text}` is empty", help="call a module in it")
    elif not returned:
        outputs = ", ".join(f"{field.name}=…" for field in signature.outputs)
        somewhere = " on every way through it" if _returns(flow.body) else ""
        reporter.error(
            "E0402",
            flow.name.span,
            f"flow `{flow.name.text}` does not return its outputs{somewhere}",
            help=f"end it with `return ({outputs})`",
        )


class BodyChecker:
    """Checks blocks of statements. ``signature`` is the flow's; None in a test, which returns nothing."""

    def __init__(
        self, declarations: Declarations, reporter: Reporter, facts: Facts, signature: SignatureTypes | None
    ) -> None:
        self.expressions = Expressions(declarations, reporter, facts)
        self._declarations = declarations
        self._reporter = reporter
        self._facts = facts
        self._signature = signature
        self._loops = 0
        self._chained: set[int] = set()
        """Those that may stand behind `else` without a block around them."""

    def block(self, body: Sequence[tree.Statement], scope: Scope) -> tuple[Scope, bool]:
        """The scope at the end of the block, and whether every way through it returns."""
        scope = scope.block()
        ended: tree.Statement | None = None
        for statement in body:
            if ended is not None:
                self._unreachable(statement, ended)
                break
            scope, returned = self._statement(statement, scope)
            ended = statement if returned else None
        return scope, ended is not None

    def _unreachable(self, statement: tree.Statement, ended: tree.Statement) -> None:
        message, label, help = (
            "nothing after this `return` is ever reached",
            "the flow ends here",
            "delete it, or move it before the `return`",
        )
        if isinstance(ended, tree.If):
            message = "this is never reached: both ways through the `if` before it return"
            label, help = "the flow ends in here", "delete it, or move it before the `if`"
        place = self._head(ended)
        self._reporter.error("E0401", self._head(statement), message, secondary=[Label(place, label)], help=help)

    def _head(self, statement: tree.Statement) -> Span:
        """The first line of a block statement: a span over the whole block would say less."""
        if isinstance(statement, tree.If | tree.Repeat):
            return self._declarations.before_block(statement.span)
        return statement.span

    def _statement(self, statement: tree.Statement, scope: Scope) -> tuple[Scope, bool]:
        match statement:
            case tree.Bind():
                return self._bind(statement, scope), False
            case tree.Var():
                return self._bind(statement, scope, "variable"), False
            case tree.Update():
                return self._update(statement, scope), False
            case tree.Release(name=name, value=value, reason=reason):
                require_text(reason, statement.span, "the reason of this `release`", self._reporter)
                found = self.expressions.infer(value, scope)
                self._facts.set_binding(statement, found)
                return self._declare(name, found, scope), False
            case tree.If():
                return self._if(statement, scope)
            case tree.Repeat():
                return self._repeat(statement, scope), False
            case tree.Stop(condition=condition):
                if not self._loops:
                    self._reporter.error(
                        "E0406", statement.span, "`stop if` ends a loop, and there is none around it",
                        help="write it inside `repeat max N { … }`",
                    )  # fmt: skip
                self.expressions.condition(condition, scope)
                return scope.knowing(proves_not_null(condition, False)), False
            case tree.Assert(condition=condition, message=message):
                require_text(message, statement.span, "the message of this `assert`", self._reporter)
                self.expressions.condition(condition, scope)
                return scope.asserting(proves_not_null(condition, True)), False
            case tree.Check(condition=condition, message=message):
                require_text(message, statement.span, "the message of this `check`", self._reporter)
                self.expressions.condition(condition, scope)
                return scope, False
            case tree.Return(arguments=arguments):
                self._return(statement, arguments, scope)
                return scope, True
            case tree.Stub():
                return scope, False

    # -- values ------------------------------------------------------------------------------------------------------

    def _bind(self, statement: tree.Bind | tree.Var, scope: Scope, kind: str = "binding") -> Scope:
        name = statement.name
        if statement.type is not None:
            found = self._declarations.type(statement.type)
            label = Label(statement.type.span, "declared here")
            given = self.expressions.check(statement.value, scope, found, f"`{name.text}`", label)
        else:
            given = found = self.expressions.infer(statement.value, scope)
            if found == NULL:
                self._reporter.error(
                    "E0315",
                    statement.value.span,
                    f"nothing says what `{name.text}` may hold besides null",
                    help=f"say it: `{'var ' if kind == 'variable' else ''}{name.text}: str? = null`",
                )
                given = found = UNKNOWN
        self._facts.set_binding(statement, found)
        return self._declare(name, found, scope, kind, present=not isinstance(given, OptionalType) and given != NULL)

    def _declare(
        self, name: tree.Identifier, found: Type, scope: Scope, kind: str = "binding", *, present: bool = False
    ) -> Scope:
        declare_local(name, scope, self.expressions)
        if name.text in scope.locals:
            return scope
        local = Local(found, name.span, "variable" if kind == "variable" else "binding")
        scope = scope.extended(name.text, local)
        return scope.knowing(frozenset([(name.text,)])) if present and isinstance(found, OptionalType) else scope

    def _update(self, statement: tree.Update, scope: Scope) -> Scope:
        name = statement.name
        local = scope.locals.get(name.text)
        if local is None or local.kind != "variable":
            self.expressions.infer(statement.value, scope)
            self._not_a_variable(name, local, scope)
            return scope
        declared = Label(local.span, f"`{name.text}` is declared here")
        given = self.expressions.check(statement.value, scope, local.type, f"`{name.text}`", declared)
        scope = scope.forgetting(frozenset([name.text]))
        known = isinstance(local.type, OptionalType) and not isinstance(given, OptionalType) and given != NULL
        return scope.knowing(frozenset([(name.text,)])) if known else scope

    def _not_a_variable(self, name: tree.Identifier, local: Local | None, scope: Scope) -> None:
        if local is not None:
            fixed = {"input": "an input", "index": "a loop's counter", "element": "an element"}
            self._reporter.error(
                "E0208",
                name.span,
                f"`{name.text}` is {fixed.get(local.kind, 'bound once')} and cannot be set again",
                secondary=[Label(local.span, "bound here")],
                help=f"declare it as a variable: `var {name.text} = …`"
                if local.kind == "binding"
                else f"copy it first: `var now_{name.text} = {name.text}`",
            )
            return
        variables = [one for one, found in scope.locals.items() if found.kind == "variable"]
        self._reporter.unknown(
            "E0201",
            name.span,
            f"no variable here is named `{name.text}`",
            name.text,
            variables,
            otherwise=f"declare it before: `var {name.text} = …`",
        )

    def _return(self, statement: tree.Return, arguments: Sequence[tree.Argument], scope: Scope) -> None:
        if self._signature is None:
            self._reporter.error(
                "E0405", statement.span, "a test gives nothing back", help='state what must hold: `assert … else "…"`'
            )
            return
        name = self._signature.name
        declared = Label(self._signature.span, f"`{name}` is declared here")
        target = Target(name, statement.span, declared, returns=True)
        check_arguments(arguments, self._signature.outputs, target, scope, self.expressions)

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _if(self, statement: tree.If, scope: Scope) -> tuple[Scope, bool]:
        self.expressions.condition(statement.condition, scope)
        proved = [proves_not_null(statement.condition, outcome) for outcome in (True, False)]
        if statement.otherwise is not None and len(statement.otherwise) == 1:
            self._chained.add(id(statement.otherwise[0]))
        then, then_returns = self.block(statement.then, scope.knowing(proved[0]))
        otherwise, else_returns = self.block(statement.otherwise or (), scope.knowing(proved[1]))
        if not statement.then and not statement.otherwise:
            fix = Fix(statement.span, "", "delete it", safe=True)
            keep = self._signature is None or id(statement) in self._chained or self._acts((statement,))
            self._reporter.warning(
                "W0008",
                statement.condition.span,
                "this `if` does nothing",
                help="delete it" if keep else None,
                fix=None if keep else fix,
            )
        ways = [end for end, returns in ((then, then_returns), (otherwise, else_returns)) if not returns]
        return scope.meeting(ways).after(then, otherwise), then_returns and else_returns

    def _repeat(self, statement: tree.Repeat, scope: Scope) -> Scope:
        head = self._head(statement)
        if not 1 <= statement.limit <= MOST_ITERATIONS:
            self._reporter.error(
                "E0407", head, f"a loop runs at least once and at most {MOST_ITERATIONS:,} times",
                help="delete it, it never runs" if statement.limit == 0 else f"write {MOST_ITERATIONS}, or less",
            )  # fmt: skip
        changed = frozenset(name for name in updated(statement.body) if name in scope.locals)
        entry = scope.forgetting(changed)
        inner = entry
        if statement.index is not None:
            declare_local(statement.index, scope, self.expressions)
            inner = entry.binding(statement.index.text, Local(INT, statement.index.span, "index"))
        self._loops += 1
        reported = self._reporter.errors
        end, _ = self.block(statement.body, inner)
        self._loops -= 1
        clean = self._reporter.errors == reported
        if clean and not changed and not self._acts(statement.body):
            self._reporter.error(
                "E0404",
                head,
                "this loop has no effect: it changes no variable, and nothing in it acts or returns",
                help="carry what it finds in a variable: `var found = …` before it, `found := …` inside",
            )
        return entry.after(end)

    def _acts(self, body: Sequence[tree.Statement]) -> bool:
        """Whether something inside has an effect besides its value: a tool, a check, a return."""
        return any(
            isinstance(node, tree.Return | tree.Assert | tree.Check)
            or (isinstance(node, tree.CallExpression) and self._facts.may_act(node))
            for node in walk(body)
        )


def _returns(body: Sequence[tree.Statement]) -> bool:
    """Whether there is a return somewhere in the block."""
    for statement in body:
        match statement:
            case tree.Return():
                return True
            case tree.If(then=then, otherwise=otherwise) if _returns((*then, *(otherwise or ()))):
                return True
            case tree.Repeat(body=inner) if _returns(inner):
                return True
    return False


def updated(body: Sequence[tree.Statement]) -> Iterator[str]:
    """Names that statements of the block set, those in blocks inside it included."""
    for statement in body:
        match statement:
            case tree.Update(name=name):
                yield name.text
            case tree.If(then=then, otherwise=otherwise):
                yield from updated(then)
                yield from updated(otherwise or ())
            case tree.Repeat(body=inner):
                yield from updated(inner)
            case _:
                pass
