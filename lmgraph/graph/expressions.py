"""Expressions: pure, nearly total, over plain values. Operands of nodes and constraints of fields are made of them.

Knows no types and no nodes. Nothing here computes anything (program/expressions.py does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, TypeAlias

ValueId = NewType("ValueId", str)
"""The id of a value: of the node that gives it, of a region's parameter, or `node:name` for one of several results. A
flow's inputs are `Flow/input`."""


@dataclass(frozen=True, slots=True)
class ByKind:
    """Marks a union whose members are told apart by their ``kind``, for the reader of dump.py.

    Without it each member would be tried in turn, at every level: exponential in the depth of an expression.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic import Discriminator

        return handler.generate_schema(Annotated[source, Discriminator("kind")])


@dataclass(frozen=True, slots=True)
class Const:
    """A plain value: str, int, float, bool, None, or an enum's label."""

    value: Any
    kind: Literal["const"] = "const"


@dataclass(frozen=True, slots=True)
class Ref:
    value: ValueId
    kind: Literal["ref"] = "ref"


@dataclass(frozen=True, slots=True)
class GetField:
    base: Expr
    name: str
    kind: Literal["field"] = "field"


@dataclass(frozen=True, slots=True)
class GetItem:
    """`base[index]` of a list or map."""

    base: Expr
    index: Expr
    kind: Literal["item"] = "item"


@dataclass(frozen=True, slots=True)
class MakeList:
    items: tuple[Expr, ...]
    kind: Literal["list"] = "list"


@dataclass(frozen=True, slots=True)
class FieldValue:
    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class MakeRecord:
    record: str
    """Name of the record type, for messages."""
    fields: tuple[FieldValue, ...]
    kind: Literal["record"] = "record"


Operator = Literal[
    "+", "-", "*", "/", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "not", "neg", "len",
    "text", "best", "vote",
]  # fmt: skip
"""The last three are written by strategies, not by authors. `text`: the value as text, JSON where it is none.
`best(candidates, scores)`: the candidate with the highest score, the first of equal ones; null scores are passed over.
`vote(candidates)`: the value that most of the candidates equal, the first of equal ones; nulls are passed over. Further
operands of these two are what the candidates were made of: they are read first, so where one failed, that is why."""


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator on its operands. `and` and `or` do not evaluate their right side without need."""

    operator: Operator
    operands: tuple[Expr, ...]
    kind: Literal["apply"] = "apply"


@dataclass(frozen=True, slots=True)
class Choose:
    """`if condition then when_true else when_false`; only the chosen side is evaluated."""

    condition: Expr
    when_true: Expr
    when_false: Expr
    kind: Literal["choose"] = "choose"


IT = ValueId("it")
"""The value that a constraint speaks of."""


@dataclass(frozen=True, slots=True)
class Ensure:
    """``value``, where it meets ``condition``, which reads it as `it`; it has no value elsewhere."""

    value: Expr
    condition: Expr
    text: str
    """The condition as the author wrote it, for messages."""
    kind: Literal["ensure"] = "ensure"


Expr: TypeAlias = Annotated[
    Const | Ref | GetField | GetItem | MakeList | MakeRecord | Apply | Choose | Ensure, ByKind()
]


def references(expression: Expr) -> Iterator[ValueId]:
    """Every value the expression reads, in order, repeats included."""
    match expression:
        case Const():
            return
        case Ref(value=value):
            yield value
        case GetField(base=base):
            yield from references(base)
        case GetItem(base=base, index=index):
            yield from references(base)
            yield from references(index)
        case MakeList(items=items):
            for item in items:
                yield from references(item)
        case MakeRecord(fields=fields):
            for field in fields:
                yield from references(field.value)
        case Apply(operands=operands):
            for operand in operands:
                yield from references(operand)
        case Choose(condition=condition, when_true=when_true, when_false=when_false):
            yield from references(condition)
            yield from references(when_true)
            yield from references(when_false)
        case Ensure(value=ensured):
            yield from references(ensured)


def with_parts(expression: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """The expression with ``change`` made to each expression that it is made of directly."""
    match expression:
        case Const() | Ref():
            return expression
        case GetField(base=base, name=name):
            return GetField(change(base), name)
        case GetItem(base=base, index=index):
            return GetItem(change(base), change(index))
        case MakeList(items=items):
            return MakeList(tuple(change(item) for item in items))
        case MakeRecord(record=record, fields=fields):
            return MakeRecord(record, tuple(FieldValue(one.name, change(one.value)) for one in fields))
        case Apply(operator=operator, operands=operands):
            return Apply(operator, tuple(change(operand) for operand in operands))
        case Choose(condition=condition, when_true=when_true, when_false=when_false):
            return Choose(change(condition), change(when_true), change(when_false))
        case Ensure(value=value, condition=condition, text=text):
            return Ensure(change(value), condition, text)


def substituted(expression: Expr, values: Mapping[ValueId, Expr]) -> Expr:
    """The expression with others in place of references to these values."""
    if isinstance(expression, Ref):
        return values.get(expression.value, expression)
    return with_parts(expression, lambda part: substituted(part, values))
