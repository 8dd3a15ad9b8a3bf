"""Constraints: what `where` says of a field's value, and conditions that a module's outputs must meet.

Both are pure: they read values and call nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import ceil, floor
from typing import Any

from lmgraph.compiler.checker import Holds
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
        if not self._fits(condition, scope, BOOL, "a constraint") or mentions_unknown(type):
            return None
        lowered = lower_pure(condition, {"it": IT}, self._facts)
        holds = Holds(lowered)
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
        if not self._fits(condition, Scope(locals).without_calls(_IN_CHECK), BOOL, "a condition"):
            return None
        return lower_pure(condition, {name: ValueId(name) for name in inputs}, self._facts)

    def bound(self, expression: tree.Expression, inputs: Mapping[str, tuple[Field, tree.Identifier]]) -> Expr | None:
        """A whole number over the inputs of a Python reference."""
        locals = {name: Local(field.type, node.span) for name, (field, node) in inputs.items()}
        if not self._fits(expression, Scope(locals).without_calls(_IN_BOUND), INT, "this bound"):
            return None
        return lower_pure(expression, {name: ValueId(name) for name in inputs}, self._facts)

    def _fits(self, expression: tree.Expression, scope: Scope, target: Type, what: str) -> bool:
        """Whether the expression can be lowered: nothing in it was reported, here or where a name was imported."""
        before = self._reporter.errors
        self._expressions.check(expression, scope, target, what)
        return self._reporter.errors == before and not self._facts.has_unknown(expression)


def _can_be_met(type: Type, holds: Holds) -> bool:
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
            if inner == STR:
                candidates = ["x" * size for size in _whole(numbers) if 0 <= size <= MOST_LENGTH]
            elif isinstance(inner, ListType):
                candidates = [[None] * size for size in _whole(numbers) if 0 <= size <= MOST_LENGTH]
            elif is_number(inner):
                candidates = _whole(numbers) if inner == INT else _between(numbers)
            else:
                return True
            if max(numbers, default=0) > MOST_LENGTH and not is_number(inner):
                return True
    return any(holds(value) for value in [*candidates, *nothing])


def _whole(numbers: set[float]) -> list[int]:
    """Whole numbers at each of these, and beside it."""
    return [whole for number in numbers or {0} for whole in range(floor(number) - 1, ceil(number) + 2)]


def _between(numbers: set[float]) -> list[float]:
    """Each of these numbers, one between every two neighbours, and one on either side of them all."""
    ordered = sorted(numbers or {0})
    middles = [(low + high) / 2 for low, high in pairwise(ordered)]
    return [ordered[0] - 1, *ordered, *middles, ordered[-1] + 1]


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
