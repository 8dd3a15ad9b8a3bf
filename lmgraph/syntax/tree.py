"""The syntax tree: what the author wrote, with spans, before any name is resolved.

One frozen class a construct, named as docs/reference/language.md names it. Trees compare equal when the
programs read the same: spans and comments do not take part in equality. Knows nothing of types or graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lmgraph.source.text import Span
from lmgraph.syntax.tree_expressions import NOWHERE
from lmgraph.syntax.tree_expressions import Argument as Argument
from lmgraph.syntax.tree_expressions import Attribute as Attribute
from lmgraph.syntax.tree_expressions import Binary as Binary
from lmgraph.syntax.tree_expressions import CallExpression as CallExpression
from lmgraph.syntax.tree_expressions import Catch as Catch
from lmgraph.syntax.tree_expressions import Comparison as Comparison
from lmgraph.syntax.tree_expressions import Comprehension as Comprehension
from lmgraph.syntax.tree_expressions import Conditional as Conditional
from lmgraph.syntax.tree_expressions import Constant as Constant
from lmgraph.syntax.tree_expressions import Expression as Expression
from lmgraph.syntax.tree_expressions import GenericType as GenericType
from lmgraph.syntax.tree_expressions import Identifier as Identifier
from lmgraph.syntax.tree_expressions import Index as Index
from lmgraph.syntax.tree_expressions import ListExpression as ListExpression
from lmgraph.syntax.tree_expressions import LiteralTypeNode as LiteralTypeNode
from lmgraph.syntax.tree_expressions import NamedType as NamedType
from lmgraph.syntax.tree_expressions import OptionalTypeNode as OptionalTypeNode
from lmgraph.syntax.tree_expressions import PrivateTypeNode as PrivateTypeNode
from lmgraph.syntax.tree_expressions import Reference as Reference
from lmgraph.syntax.tree_expressions import TypeNode as TypeNode
from lmgraph.syntax.tree_expressions import Unary as Unary
from lmgraph.syntax.tree_expressions import UnionTypeNode as UnionTypeNode

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
