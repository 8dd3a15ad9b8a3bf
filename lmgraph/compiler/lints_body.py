"""Warnings about what stands in bodies: conditions that are always the same, catches and loops without use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmgraph.compiler.facts import Facts
from lmgraph.compiler.lower_expressions import lower_pure
from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.types import STR, ListType, RecordType
from lmgraph.program.expressions import NoValue, compile_expression
from lmgraph.source.diagnostic import Fix
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import children


def lint_body(body: Sequence[tree.Statement], inputs: frozenset[str], facts: Facts, reporter: Reporter) -> None:
    """Every warning about the statements of a flow or test."""
    linter = _Linter(facts, reporter)
    linter.block(body, inputs, in_loop=False)


def lint_expression(node: tree.Expression, inputs: frozenset[str], facts: Facts, reporter: Reporter) -> None:
    """Every warning about a metric's expression."""
    _Linter(facts, reporter).expressions(node, inputs)


def lint_condition(node: tree.Assert | tree.Check, facts: Facts, reporter: Reporter) -> None:
    """The warning about a module's check."""
    _Linter(facts, reporter).promise(node)


class _Linter:
    """``sure`` are the names that have a value whatever fails: inputs, elements and counters."""

    def __init__(self, facts: Facts, reporter: Reporter) -> None:
        self._facts = facts
        self._reporter = reporter

    def block(self, body: Sequence[tree.Statement], sure: frozenset[str], *, in_loop: bool) -> None:
        """``in_loop`` where the statements stand in a loop itself, and not in a branch."""
        for place, statement in enumerate(body):
            match statement:
                case tree.If(condition=condition, then=then, otherwise=otherwise):
                    self._condition(condition, "one of the branches never runs; delete it")
                    self.expressions(condition, sure)
                    self.block(then, sure, in_loop=False)
                    self.block(otherwise or (), sure, in_loop=False)
                case tree.Repeat():
                    self._repeat(statement, sure)
                case tree.Stop(condition=condition):
                    self._stop(condition, last=place == len(body) - 1, in_loop=in_loop)
                    self.expressions(condition, sure)
                case tree.Assert() | tree.Check():
                    self.promise(statement)
                    self.expressions(statement.condition, sure)
                case _:
                    self.expressions(statement, sure)

    def expressions(self, node: object, sure: frozenset[str]) -> None:
        """Warnings about every expression inside."""
        match node:
            case tree.Conditional(condition=condition):
                self._condition(condition, "the other side is never chosen; write this one alone")
            case tree.Comprehension(variable=variable, condition=condition):
                if condition is not None:
                    self._condition(condition, "leave the condition out, or the map")
                sure |= {variable.text}
            case tree.Catch(call=call, fallback=fallback) if self._is_sure(call, sure):
                behind = Span(call.span.file, call.span.end, fallback.span.end)
                self._reporter.warning(
                    "W0013", call.span, "this cannot fail, so what stands behind `catch` is never used",
                    fix=Fix(behind, "", "leave the `catch` out", safe=True),
                )  # fmt: skip
        for part in children(node):
            self.expressions(part, sure)

    def promise(self, node: tree.Assert | tree.Check) -> None:
        """A check that always holds; `assert false` is how a flow says that it must not come here."""
        if self._outcome(node.condition) is True:
            self._always(node.condition, True, "ask something that may be false, or delete it")

    def _repeat(self, statement: tree.Repeat, sure: frozenset[str]) -> None:
        if statement.limit == 1 and not any(_stops(statement.body)):
            head = Span(statement.span.file, statement.span.start, statement.span.start + len("repeat"))
            self._reporter.warning(
                "W0014", head, "this loop runs once", help="write its statements without the loop, or a higher limit"
            )
        index = {statement.index.text} if statement.index is not None else set[str]()
        self.block(statement.body, sure | index, in_loop=True)

    def _stop(self, condition: tree.Expression, *, last: bool, in_loop: bool) -> None:
        outcome = self._outcome(condition)
        if outcome is False:
            self._always(condition, False, "it never ends the loop; delete it")
        elif outcome is True and not last:
            self._always(condition, True, "nothing after it is reached in this block; delete what follows")
        elif outcome is True and in_loop:
            self._always(condition, True, "the loop always ends here, so it runs once; stop in an `if`, or on a value")

    def _condition(self, node: tree.Expression, help: str) -> None:
        outcome = self._outcome(node)
        if outcome is not None:
            self._always(node, outcome, help)

    def _always(self, node: tree.Expression, outcome: bool, help: str) -> None:
        word = "true" if outcome else "false"
        self._reporter.warning("W0012", node.span, f"this condition is always {word}", help=help)

    def _outcome(self, node: tree.Expression) -> bool | None:
        """What a condition comes out as that reads nothing; None where it reads or calls something."""
        if not self._reads_nothing(node):
            return None
        try:
            return bool(compile_expression(lower_pure(node, {}, self._facts))({}))
        except NoValue:
            return None

    def _reads_nothing(self, node: object) -> bool:
        match node:
            case tree.Attribute() if self._facts.label_of(node) is not None:
                return True
            case tree.Reference() | tree.CallExpression() | tree.Comprehension() | tree.Catch():
                return False
            case _:
                return all(self._reads_nothing(part) for part in children(node))

    def _is_sure(self, node: tree.Expression, sure: frozenset[str]) -> bool:
        """Whether the expression has a value whatever its inputs are and whatever failed before."""
        if self._facts.is_guarded(node):
            return False
        match node:
            case tree.Constant():
                return True
            case tree.Reference(name=name):
                return name in sure
            case tree.Attribute() if self._facts.label_of(node) is not None:
                return True
            case tree.CallExpression(arguments=arguments):
                callee = self._facts.callee_of(node)
                makes = isinstance(callee, RecordType) and all(field.constraint is None for field in callee.fields)
                return (callee == "len" or makes) and all(self._is_sure(one.value, sure) for one in arguments)
            case tree.Binary(operator="and" | "or", left=left, right=right):
                return self._is_sure(left, sure) and self._is_sure(right, sure)
            case tree.Binary(operator="+", left=left, right=right) if self._joins(node):
                return self._is_sure(left, sure) and self._is_sure(right, sure)
            case tree.Attribute(base=base):
                return self._is_sure(base, sure)
            case tree.ListExpression(items=parts) | tree.Comparison(operands=parts):
                return all(self._is_sure(one, sure) for one in parts)
            case tree.Conditional(condition=condition, when_true=when_true, when_false=when_false):
                return all(self._is_sure(one, sure) for one in (condition, when_true, when_false))
            case tree.Unary(operator="not", operand=operand):
                return self._is_sure(operand, sure)
            case tree.Comprehension(element=element, variable=variable, iterable=iterable, condition=condition):
                inner = sure | {variable.text}
                kept = condition is None or self._is_sure(condition, inner)
                return kept and self._is_sure(iterable, sure) and self._is_sure(element, inner)
            case _:
                return False

    def _joins(self, node: tree.Expression) -> bool:
        """Whether `+` joins texts or lists: numbers may become too large."""
        found = self._facts.type_of(node)
        return found == STR or isinstance(found, ListType)


def _stops(body: Sequence[tree.Statement]) -> Iterator[bool]:
    """One value for each `stop if` that ends the loop with this body."""
    for statement in body:
        if isinstance(statement, tree.Stop):
            yield True
        elif isinstance(statement, tree.If):
            yield from _stops((*statement.then, *(statement.otherwise or ())))
