"""Expressions for people: in the language's own notation, and the values they read. Light: the runtime uses it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from lmgraph.graph.expressions import (
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
    ValueId,
)
from lmgraph.graph.walk import inner_expressions

MOST_CHARACTERS = 60
"""A longer text inside an expression is cut."""

_FUNCTIONS = frozenset(["len", "text", "best", "vote"])
"""Operators that are written like calls."""

_REPEATED = re.compile(r"#\d+$")


def short_name(value: ValueId) -> str:
    """What the author called the value: `hits` of `F/hits#2`, `answer` of `F/if:answer`, `Judge` of `F/x.Judge`."""
    last = value.rpartition("/")[2]
    if ":" in last:
        return last.rpartition(":")[2]
    binding, dot, callee = last.partition(".")
    return _REPEATED.sub("", callee if dot else binding)


def short_text(expression: Expr) -> str:
    """The expression over short names."""
    return expression_text(expression, short_name)


def expression_text(expression: Expr, name: Callable[[ValueId], str] = str) -> str:
    """The expression over value ids, or what ``name`` makes of them; operators inside operators in parentheses."""
    match expression:
        case Const(value=value):
            return cut(json.dumps(value, ensure_ascii=False))
        case Ref(value=value):
            return name(value)
        case GetField(base=base, name=field):
            return f"{_inner(base, name)}.{field}"
        case GetItem(base=base, index=index):
            return f"{_inner(base, name)}[{expression_text(index, name)}]"
        case MakeList(items=items):
            return f"[{_joined(items, name)}]"
        case MakeRecord(record=record, fields=fields):
            return f"{record}({', '.join(f'{one.name}={expression_text(one.value, name)}' for one in fields)})"
        case Apply(operator=operator, operands=operands) if operator in _FUNCTIONS:
            return f"{operator}({_joined(operands, name)})"
        case Apply(operator="not", operands=(operand,)):
            return f"not {_inner(operand, name)}"
        case Apply(operator="neg", operands=(operand,)):
            return f"-{_inner(operand, name)}"
        case Apply(operator=operator, operands=operands):
            return f" {operator} ".join(_inner(operand, name) for operand in operands)
        case Choose(condition=condition, when_true=when_true, when_false=when_false):
            return f"if {_inner(condition, name)} then {_inner(when_true, name)} else {_inner(when_false, name)}"
        case Ensure(value=ensured, text=text):
            return f"{_inner(ensured, name)} where {text}"


def paths_read(expression: Expr) -> tuple[tuple[str, Expr], ...]:
    """The values that the expression reads, each with the fields and items taken of it, in order, each once.

    `out.hops == 1 and len(x.notes) > 0` reads `out.hops` and `x.notes`; `xs[i].name` reads itself and `i`. The names
    are over short names, so two paths may have the same one.
    """
    found: dict[str, tuple[str, Expr]] = {}
    for path in _paths(expression):
        found.setdefault(expression_text(path), (short_text(path), path))
    return tuple(found.values())


def cut(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _joined(expressions: tuple[Expr, ...], name: Callable[[ValueId], str]) -> str:
    return ", ".join(expression_text(expression, name) for expression in expressions)


def _inner(expression: Expr, name: Callable[[ValueId], str]) -> str:
    text = expression_text(expression, name)
    plain = isinstance(expression, Apply) and expression.operator in _FUNCTIONS
    return f"({text})" if isinstance(expression, Apply | Choose | Ensure) and not plain else text


def _paths(expression: Expr) -> Iterator[Expr]:
    if _is_path(expression):
        yield expression
        while not isinstance(expression, Ref):
            assert isinstance(expression, GetField | GetItem)
            if isinstance(expression, GetItem):
                yield from _paths(expression.index)
            expression = expression.base
        return
    for part in inner_expressions(expression):
        yield from _paths(part)


def _is_path(expression: Expr) -> bool:
    while isinstance(expression, GetField | GetItem):
        expression = expression.base
    return isinstance(expression, Ref)
