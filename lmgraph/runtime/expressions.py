"""Expressions compiled to closures, once a program: evaluating one is a few Python calls.

Expressions are pure and nearly total: an index out of range or a division by zero has no value (NoValue).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lmgraph.graph.nodes import Apply, Choose, Const, Expr, GetField, GetItem, MakeList, MakeRecord, Ref

Scope: TypeAlias = Mapping[str, Any]
Evaluator: TypeAlias = Callable[[Scope], Any]


class NoValue(Exception):
    """An expression has no value; the message says why."""


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "-": operator.sub,
    "*": operator.mul,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda item, container: item in container,
    "not in": lambda item, container: item not in container,
    "+": operator.add,
}


def compile_expression(expression: Expr) -> Evaluator:
    """A function of the values in scope. It raises NoValue, and nothing else on values of the checked types."""
    match expression:
        case Const(value=value):
            return lambda scope: value
        case Ref(value=name):
            return lambda scope: scope[name]
        case GetField(base=base, name=field):
            read = compile_expression(base)
            return lambda scope: read(scope)[field]
        case GetItem(base=base, index=index):
            return _item(compile_expression(base), compile_expression(index))
        case MakeList(items=items):
            makers = [compile_expression(item) for item in items]
            return lambda scope: [make(scope) for make in makers]
        case MakeRecord(fields=fields):
            named = [(item.name, compile_expression(item.value)) for item in fields]
            return lambda scope: {name: make(scope) for name, make in named}
        case Choose(condition=condition, when_true=when_true, when_false=when_false):
            test, yes, no = map(compile_expression, (condition, when_true, when_false))
            return lambda scope: yes(scope) if test(scope) else no(scope)
        case Apply(operator=name, operands=operands):
            return _apply(name, [compile_expression(operand) for operand in operands])


def _item(base: Evaluator, index: Evaluator) -> Evaluator:
    def read(scope: Scope) -> Any:
        container, key = base(scope), index(scope)
        try:
            return container[key]
        except IndexError:
            raise NoValue(f"index {key} is outside the list, which has {len(container)} elements") from None
        except KeyError:
            raise NoValue(f"the map has no key {key!r}") from None

    return read


def _apply(name: str, operands: list[Evaluator]) -> Evaluator:
    if name == "and":
        return lambda scope: all(operand(scope) for operand in operands)
    if name == "or":
        return lambda scope: any(operand(scope) for operand in operands)
    first = operands[0]
    if name == "not":
        return lambda scope: not first(scope)
    if name == "neg":
        return lambda scope: -first(scope)
    if name == "len":
        return lambda scope: len(first(scope))
    second = operands[1]
    if name == "/":
        return _divide(first, second)
    compute = _BINARY[name]

    def apply(scope: Scope) -> Any:
        value = compute(first(scope), second(scope))
        if isinstance(value, float) and not math.isfinite(value):
            raise NoValue(f"`{name}` gives a number that is not finite")
        return value

    return apply


def _divide(left: Evaluator, right: Evaluator) -> Evaluator:
    def divide(scope: Scope) -> float:
        divisor = right(scope)
        if divisor == 0:
            raise NoValue("division by zero")
        try:
            return float(left(scope) / divisor)
        except OverflowError:
            raise NoValue("`/` gives a number that is too large") from None

    return divide
