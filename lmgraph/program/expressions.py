"""Expressions compiled to closures, once a program: evaluating one is a few Python calls.

Expressions are pure and nearly total: an index out of range, a division by zero or a constraint that is not met has no
value (NoValue). This module knows no nodes and no failures; scopes map value ids to plain values.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from lmgraph.graph.expressions import (
    IT,
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
)

Scope: TypeAlias = Mapping[str, Any]
Evaluator: TypeAlias = Callable[[Scope], Any]


class NoValue(Exception):
    """An expression has no value; the message says why."""


def compile_expression(expression: Expr) -> Evaluator:
    """A function of the values in scope. It raises NoValue, and nothing else on values of the checked types."""
    match expression:
        case Const(value=value):
            return lambda scope: value
        case Ref(value=name):
            return operator.itemgetter(name)
        case GetField(base=base, name=field):
            return _field(compile_expression(base), field)
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
        case Ensure(value=value, condition=condition, text=text):
            return _ensure(compile_expression(value), compile_expression(condition), text)
        case Apply(operator=name, operands=operands):
            return _apply(name, [compile_expression(operand) for operand in operands])


def as_text(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shown(value: Any, limit: int = 60) -> str:
    """The value on one line for a message, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


# -- parts -----------------------------------------------------------------------------------------------------------


def _field(base: Evaluator, name: str) -> Evaluator:
    def read(scope: Scope) -> Any:
        record = base(scope)
        try:
            return record[name]
        except (KeyError, TypeError):
            raise NoValue(f"there is no field `{name}` in {shown(record)}") from None

    return read


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


def _ensure(value: Evaluator, condition: Evaluator, text: str) -> Evaluator:
    def ensured(scope: Scope) -> Any:
        found = value(scope)
        if not condition({IT: found}):
            raise NoValue(f"must meet {text}, got {shown(found)}")
        return found

    return ensured


def _apply(name: str, operands: list[Evaluator]) -> Evaluator:
    first = operands[0]
    if name in ("and", "or"):
        for second in operands[1:]:
            first = _both(first, second) if name == "and" else _either(first, second)
        return first
    if name in _CHOICES:
        return _chosen(*_CHOICES[name], operands)
    if name in _UNARY:
        return _UNARY[name](first)
    second = operands[1]
    if name in _TESTS:
        test = _TESTS[name]
        return lambda scope: test(first(scope), second(scope))
    return _finite(name, _ARITHMETIC[name], first, second)


def _both(first: Evaluator, second: Evaluator) -> Evaluator:
    return lambda scope: first(scope) and second(scope)


def _either(first: Evaluator, second: Evaluator) -> Evaluator:
    return lambda scope: first(scope) or second(scope)


def _finite(name: str, compute: Callable[[Any, Any], Any], first: Evaluator, second: Evaluator) -> Evaluator:
    def apply(scope: Scope) -> Any:
        try:
            value = compute(first(scope), second(scope))
        except OverflowError:
            raise NoValue(f"`{name}` gives a number that is too large") from None
        except ZeroDivisionError:
            raise NoValue("division by zero") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise NoValue(f"`{name}` gives a number that is not finite")
        return value

    return apply


def _chosen(choose: Callable[..., Any], lists: int, operands: list[Evaluator]) -> Evaluator:
    """``operands`` are the ``lists`` that it chooses from and by, and what these were made of."""

    def chosen(scope: Scope) -> Any:
        for given in operands[lists:]:
            given(scope)
        return choose(*(one(scope) for one in operands[:lists]))

    return chosen


def _best(candidates: Sequence[Any], scores: Sequence[Any]) -> Any:
    scored = [index for index, score in enumerate(scores) if score is not None]
    if not scored:
        raise NoValue("no candidate has a score")
    return candidates[max(scored, key=lambda index: scores[index])]


def _vote(candidates: Sequence[Any]) -> Any:
    given = [candidate for candidate in candidates if candidate is not None]
    if not given:
        raise NoValue("there is no candidate to choose")
    return max(given, key=given.count)


_CHOICES: dict[str, tuple[Callable[..., Any], int]] = {"best": (_best, 2), "vote": (_vote, 1)}
_UNARY: dict[str, Callable[[Evaluator], Evaluator]] = {
    "not": lambda operand: lambda scope: not operand(scope),
    "neg": lambda operand: lambda scope: -operand(scope),
    "len": lambda operand: lambda scope: len(operand(scope)),
    "text": lambda operand: lambda scope: as_text(operand(scope)),
}
_TESTS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda item, container: item in container,
    "not in": lambda item, container: item not in container,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda left, right: float(left / right),
}
