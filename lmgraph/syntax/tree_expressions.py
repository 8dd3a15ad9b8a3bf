"""Types and expressions of the syntax tree; tree.py has the rest and gives all of it one name.

Spans do not take part in equality. Knows nothing of names, types' meaning or graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lmgraph.source.text import Span

NOWHERE = Span("", 0, 0)


@dataclass(frozen=True, slots=True)
class Identifier:
    """A name where it is written."""

    text: str
    span: Span = field(default=NOWHERE, compare=False, repr=False)


# -- types -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NamedType:
    """`str`, `Intent`, or dotted as in `Route.out`."""

    path: tuple[Identifier, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class GenericType:
    """`list[T]`, `map[str, T]`."""

    name: Identifier
    arguments: tuple[TypeNode, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class LiteralTypeNode:
    value: str | int
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class OptionalTypeNode:
    """`T?`"""

    inner: TypeNode
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class UnionTypeNode:
    """`A | B`"""

    options: tuple[TypeNode, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PrivateTypeNode:
    """`private T`"""

    inner: TypeNode
    span: Span = field(default=NOWHERE, compare=False, repr=False)


TypeNode: TypeAlias = NamedType | GenericType | LiteralTypeNode | OptionalTypeNode | UnionTypeNode | PrivateTypeNode


# -- expressions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: string (already unescaped), int, float, true, false or null."""

    value: str | int | float | bool | None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reference:
    name: str
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Attribute:
    """`base.name`"""

    base: Expression
    name: Identifier
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Index:
    """`base[index]`"""

    base: Expression
    index: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Argument:
    """`name=value`; punned (`M(text)`) and positional arguments have name None: the checker tells them apart."""

    name: Identifier | None
    value: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CallExpression:
    callee: Expression
    arguments: tuple[Argument, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ListExpression:
    items: tuple[Expression, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Comprehension:
    """`[element for variable in iterable if condition]`: the parallel map."""

    element: Expression
    variable: Identifier
    iterable: Expression
    condition: Expression | None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Conditional:
    """`if condition then when_true else when_false`"""

    condition: Expression
    when_true: Expression
    when_false: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A chain, as in `0 <= it <= 1`: `operators[i]` stands between `operands[i]` and `operands[i + 1]`."""

    operands: tuple[Expression, ...]
    operators: tuple[str, ...]
    """Each of == != < <= > >= in, or "not in"."""
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Binary:
    operator: Literal["+", "-", "*", "/", "and", "or"]
    left: Expression
    right: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Unary:
    operator: Literal["-", "not"]
    operand: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Catch:
    """`Call(...) catch fallback`"""

    call: Expression
    fallback: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


Expression: TypeAlias = (
    Constant
    | Reference
    | Attribute
    | Index
    | CallExpression
    | ListExpression
    | Comprehension
    | Conditional
    | Comparison
    | Binary
    | Unary
    | Catch
)
