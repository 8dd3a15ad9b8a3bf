"""The syntax tree: what the author wrote, with spans, before any name is resolved.

One frozen class a construct, named as docs/reference/language.md names it. Trees compare equal when the
programs read the same: spans and comments do not take part in equality. Knows nothing of types or graphs.
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
    Constant | Reference | Attribute | Index | CallExpression | ListExpression | Comprehension
    | Conditional | Comparison | Binary | Unary | Catch
)


# -- parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldNode:
    """`name: type = default "description" where constraint`"""

    name: Identifier
    type: TypeNode
    default: Expression | None = None
    description: str | None = None
    constraint: Expression | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Signature:
    """`(inputs) -> (outputs)`, or `-> T` with ``result`` set and no named outputs."""

    inputs: tuple[FieldNode, ...]
    outputs: tuple[FieldNode, ...]
    result: TypeNode | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """`key: value` in a configuration block; the value may be a block itself."""

    key: Identifier
    value: Expression | Block
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Block:
    entries: tuple[Entry, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class FileSource:
    """`jsonl "path"`, `csv "path"`, `lines "path"`"""

    format: Identifier
    path: Constant
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PythonReference:
    """`py "pkg.module:callable"`"""

    target: Constant
    span: Span = field(default=NOWHERE, compare=False, repr=False)


# -- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bind:
    """`x = expr`, `x: T = expr`"""

    name: Identifier
    type: TypeNode | None
    value: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Var:
    """`var x: T = expr`"""

    name: Identifier
    type: TypeNode | None
    value: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Update:
    """`x := expr`"""

    name: Identifier
    value: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Release:
    """`release x = expr because "reason"`"""

    name: Identifier
    value: Expression
    reason: str
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class If:
    condition: Expression
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] | None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat max N as i { ... }`"""

    limit: int
    index: Identifier | None
    body: tuple[Statement, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Stop:
    """`stop if condition`"""

    condition: Expression
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Assert:
    """`assert condition else "message"`"""

    condition: Expression
    message: str
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Check:
    """`check condition else "message"`"""

    condition: Expression
    message: str
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Return:
    arguments: tuple[Argument, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Stub:
    """`stub M -> (a=1), (a=2)`: one argument list for each successive call."""

    name: Identifier
    answers: tuple[tuple[Argument, ...], ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


Statement: TypeAlias = Bind | Var | Update | Release | If | Repeat | Stop | Assert | Check | Return | Stub


# -- declarations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImportName:
    name: Identifier
    alias: Identifier | None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Import:
    path: Constant
    names: tuple[ImportName, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class EnumMemberNode:
    """`name = "label" "description"`"""

    name: Identifier
    label: str | None = None
    description: str | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Enum:
    """Inline members, or ``source`` set for `enum E = lines "labels.txt"`."""

    name: Identifier
    members: tuple[EnumMemberNode, ...]
    source: FileSource | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Record:
    name: Identifier
    doc: str | None
    fields: tuple[FieldNode, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Lm:
    name: Identifier
    block: Block
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Extern:
    """`tool`, `retriever` or `fn`: typed Python."""

    kind: Literal["tool", "retriever", "fn"]
    name: Identifier
    signature: Signature
    target: PythonReference
    block: Block | None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Module:
    name: Identifier
    signature: Signature
    doc: str | None
    entries: tuple[Entry, ...]
    checks: tuple[Assert | Check, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Instance:
    """`module B = A { ... }`"""

    name: Identifier
    base: Identifier
    block: Block | None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Flow:
    name: Identifier
    signature: Signature
    doc: str | None
    body: tuple[Statement, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Dataset:
    name: Identifier
    type: TypeNode
    source: FileSource
    block: Block | None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Metric:
    name: Identifier
    signature: Signature
    body: Expression | PythonReference
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Objective:
    name: Identifier
    block: Block
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Test:
    title: str
    body: tuple[Statement, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Moved:
    old: Identifier
    new: Identifier
    span: Span = field(default=NOWHERE, compare=False, repr=False)


Declaration: TypeAlias = (
    Import | Enum | Record | Lm | Extern | Module | Instance | Flow | Dataset | Metric | Objective | Test | Moved
)


@dataclass(frozen=True, slots=True)
class File:
    """One `.lmg` file. ``edition`` is None where the first line does not say it."""

    edition: int | None
    declarations: tuple[Declaration, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)
