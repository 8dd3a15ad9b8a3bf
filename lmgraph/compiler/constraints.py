"""Constraints: what `where` says of a field's value, and conditions that a module's outputs must meet.

Both are pure: they read values and call nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgraph.compiler.declare import NO_DEFAULT, Declarations
from lmgraph.compiler.expressions import Expressions
from lmgraph.compiler.facts import Facts
from lmgraph.compiler.lower_expressions import lower_pure
from lmgraph.compiler.relations import is_number, mentions_unknown, present
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.scope import Local, Scope
from lmgraph.graph.nodes import IT, Apply, Const, Expr, Ref, ValueId
from lmgraph.graph.types import (
    BOOL,
    FLOAT,
    INT,
    STR,
    Constraint,
    EnumType,
    Field,
    ListType,
    LiteralType,
    ScalarType,
    Type,
)
from lmgraph.program.expressions import NoValue, compile_expression
from lmgraph.syntax import tree

_IN_WHERE = ("in a `where`", "a constraint reads the value `it` alone; check more in the flow, with `assert`")
_IN_CHECK = ("in a module's `assert` or `check`", "it reads the module's inputs and outputs; ask more in the flow")
_IN_BOUND = ("in a bound", "it reads the inputs alone")

MOST_LENGTH = 2_000
"""Longer texts and lists are not tried out: a constraint on them is taken to be met by some value."""


class Conditions:
    """Reads conditions that stand in declarations."""

    def __init__(self, declarations: Declarations, reporter: Reporter, facts: Facts) -> None:
        self._expressions = Expressions(declarations, reporter, facts)
        self._reporter = reporter
        self._facts = facts

    def constraint(self, node: tree.FieldNode, type: Type, default: Any, text: str) -> Constraint | None:
        """What the field's `where` says; None after reporting that it says nothing sensible."""
        condition = node.constraint
        assert condition is not None
        scope = Scope({"it": Local(type, node.name.span)}).without_calls(_IN_WHERE)
        if self._checked(condition, scope, "a constraint") is None or mentions_unknown(type):
            return None
        lowered = lower_pure(condition, {"it": IT}, self._facts)
        holds = _Holds(lowered)
        if not _can_be_met(type, holds):
            self._reporter.error(
                "E0320", condition.span, f"no value of type `{type}` meets this", help="mend the bounds, or the type"
            )
        elif default is not NO_DEFAULT and not holds(default):
            assert node.default is not None
            self._reporter.error(
                "E0320", node.default.span, f"this default does not meet the constraint `{text}`",
                help="change one of the two",
            )  # fmt: skip
        return Constraint(lowered, text)

    def output_condition(
        self, condition: tree.Expression, inputs: Mapping[str, tuple[Field, tree.Identifier]]
    ) -> Expr | None:
        """A module's condition over its inputs and outputs by name."""
        locals = {name: Local(field.type, node.span) for name, (field, node) in inputs.items()}
        if self._checked(condition, Scope(locals).without_calls(_IN_CHECK), "a condition") is None:
            return None
        return lower_pure(condition, {name: ValueId(name) for name in inputs}, self._facts)

    def bound(self, expression: tree.Expression, inputs: Mapping[str, tuple[Field, tree.Identifier]]) -> Expr | None:
        """A whole number over the inputs of a Python reference."""
        locals = {name: Local(field.type, node.span) for name, (field, node) in inputs.items()}
        failed = len(self._reporter.diagnostics)
        self._expressions.check(expression, Scope(locals).without_calls(_IN_BOUND), INT, "this bound")
        if len(self._reporter.diagnostics) > failed:
            return None
        return lower_pure(expression, {name: ValueId(name) for name in inputs}, self._facts)

    def _checked(self, condition: tree.Expression, scope: Scope, what: str) -> tree.Expression | None:
        before = len(self._reporter.diagnostics)
        self._expressions.check(condition, scope, BOOL, what)
        return condition if len(self._reporter.diagnostics) == before else None


class _Holds:
    """Whether a value meets a condition; one without an outcome, as after a division by zero, does not."""

    def __init__(self, condition: Expr) -> None:
        self.condition = condition
        self._evaluate = compile_expression(condition)

    def __call__(self, value: Any) -> bool:
        try:
            return bool(self._evaluate({IT: value}))
        except NoValue:
            return False


def _can_be_met(type: Type, holds: _Holds) -> bool:
    """Whether some value meets the condition. Exact for closed types and for comparisons with numbers written out,
    which change only at those numbers; True, claiming nothing, for the rest."""
    inner = present(type)
    nothing = [None] if inner is not type else []
    match inner:
        case EnumType(labels=values) | LiteralType(values=values):
            candidates: list[Any] = list(values)
        case ScalarType("bool"):
            candidates = [True, False]
        case _:
            numbers = _compared(holds.condition)
            if numbers is None:
                return True
            steps = (-1, -0.5, 0, 0.5, 1) if inner == FLOAT else (-1, 0, 1)
            around = [number + step for number in (numbers or {0}) for step in steps]
            if inner == STR:
                candidates = ["x" * int(size) for size in around if 0 <= size <= MOST_LENGTH]
            elif isinstance(inner, ListType):
                candidates = [[None] * int(size) for size in around if 0 <= size <= MOST_LENGTH]
            elif is_number(inner):
                candidates = [int(value) for value in around] if inner == INT else around
            else:
                return True
            if max(numbers, default=0) > MOST_LENGTH and not is_number(inner):
                return True
    return any(holds(value) for value in [*candidates, *nothing])


def _compared(condition: Expr) -> set[float] | None:
    """The numbers that `it` or `len(it)` is compared with, or None where the condition asks anything else."""
    match condition:
        case Const(value=bool()):
            return set()
        case Apply(operator="and" | "or" | "not", operands=operands):
            found: set[float] = set()
            for operand in operands:
                inner = _compared(operand)
                if inner is None:
                    return None
                found |= inner
            return found
        case Apply(operator="<" | "<=" | ">" | ">=" | "==" | "!=", operands=(left, right)):
            subjects = [side for side in (left, right) if side in (Ref(IT), Apply("len", (Ref(IT),)))]
            numbers = [side.value for side in (left, right) if isinstance(side, Const)]
            if len(subjects) == 1 and len(numbers) == 1 and isinstance(numbers[0], int | float):
                return {numbers[0]}
    return None
