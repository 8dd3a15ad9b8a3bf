"""What the checker knows of types beyond graph/types.py: the unknown type, joins, comparability, and the facts it
leaves for lowering."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lmgraph.graph.types import (
    FLOAT,
    INT,
    NULL,
    STR,
    EnumType,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    Type,
    UnionType,
    assignable,
)
from lmgraph.source.text import Span
from lmgraph.syntax import tree

UNKNOWN = RecordType("?", ())
"""The type of what was reported already: it fits everywhere, so that one mistake is reported once."""

NUMBERS = (INT, FLOAT)


@dataclass(frozen=True, slots=True)
class SignatureTypes:
    """Inputs and outputs of a module or flow; fields whose type is wrong have the type UNKNOWN."""

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    span: Span
    """The declared name."""

    @property
    def output_type(self) -> RecordType:
        return RecordType(f"{self.name}.out", self.outputs)


Callee: TypeAlias = SignatureTypes | RecordType | Literal["len"]
"""What a call calls: a module, the making of a record, or a function of the language."""


@dataclass(frozen=True, slots=True)
class Local:
    """A name bound inside a flow or metric, where it was bound, and as what."""

    type: Type
    span: Span
    kind: Literal["input", "binding", "element"] = "binding"


Path: TypeAlias = tuple[str, ...]
"""`r.note` as ("r", "note")."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression can see, and what it may do."""

    locals: dict[str, Local]
    not_null: frozenset[Path] = frozenset()
    """Paths that a condition around the expression has compared with null."""
    no_calls: tuple[str, str] | None = None
    """Where this is and what to do instead, in words, if LM calls and maps cannot stand here."""

    def knowing(self, paths: frozenset[Path]) -> Scope:
        return Scope(self.locals, self.not_null | paths, self.no_calls)

    def without_calls(self, why: tuple[str, str]) -> Scope:
        return Scope(self.locals, self.not_null, self.no_calls or why)

    def binding(self, name: str, local: Local) -> Scope:
        """A scope in which ``name`` means ``local``; what was known of an outer value of that name is forgotten."""
        known = frozenset(path for path in self.not_null if path[0] != name)
        return Scope({**self.locals, name: local}, known, self.no_calls)


@dataclass(slots=True)
class Facts:
    """What checking found out about expressions, for lowering. Keyed by the identity of tree nodes, because equal
    expressions in different places may mean different things; the tree outlives the facts."""

    _types: dict[int, Type] = field(default_factory=dict)
    _callees: dict[int, Callee] = field(default_factory=dict)
    _labels: dict[int, str] = field(default_factory=dict)
    _bindings: dict[int, Type] = field(default_factory=dict)

    def set_binding(self, statement: tree.Bind, found: Type) -> None:
        self._bindings[id(statement)] = found

    def binding_type(self, statement: tree.Bind) -> Type:
        """The annotated type where there is one, else the value's."""
        return self._bindings[id(statement)]

    def set_type(self, expression: tree.Expression, found: Type) -> None:
        self._types[id(expression)] = found

    def type_of(self, expression: tree.Expression) -> Type:
        return self._types[id(expression)]

    def set_callee(self, call: tree.CallExpression, callee: Callee) -> None:
        self._callees[id(call)] = callee

    def callee_of(self, call: tree.CallExpression) -> Callee:
        return self._callees[id(call)]

    def set_label(self, member: tree.Attribute, label: str) -> None:
        self._labels[id(member)] = label

    def label_of(self, member: tree.Attribute) -> str | None:
        """The label text where the attribute is an enum's member, as in `Team.billing`."""
        return self._labels.get(id(member))


def mentions_unknown(found: Type) -> bool:
    match found:
        case ListType(element=inner) | OptionalType(inner=inner) | MapType(value=inner):
            return mentions_unknown(inner)
        case UnionType(options=options):
            return any(mentions_unknown(option) for option in options)
        case RecordType():
            return found is UNKNOWN
        case _:
            return False


def fits(value: Type, target: Type) -> bool:
    """`assignable`, and everything fits where one side was reported already."""
    return mentions_unknown(value) or mentions_unknown(target) or assignable(value, target)


def present(found: Type) -> Type:
    """The type without null."""
    return found.inner if isinstance(found, OptionalType) else found


def join(left: Type, right: Type) -> Type | None:
    """The smallest type that holds the values of both, or None where there is no useful one."""
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if fits(left, right):
        return right
    if fits(right, left):
        return left
    if NULL in (left, right):
        return OptionalType(right if left == NULL else left)
    if isinstance(left, OptionalType) or isinstance(right, OptionalType):
        inner = join(present(left), present(right))
        return OptionalType(inner) if inner is not None else None
    if isinstance(left, LiteralType) and isinstance(right, LiteralType):
        return LiteralType(tuple(dict.fromkeys(left.values + right.values)))
    if isinstance(left, ListType) and isinstance(right, ListType):
        element = join(left.element, right.element)
        return ListType(element) if element is not None else None
    return None


def comparable(left: Type, right: Type) -> bool:
    """Whether `==` between the two can be true and can be false, as far as types tell."""
    if mentions_unknown(left) or mentions_unknown(right):
        return True
    if left == NULL or right == NULL:
        return isinstance(left if right == NULL else right, OptionalType)
    left, right = present(left), present(right)
    if isinstance(left, EnumType) or isinstance(right, EnumType):
        return left == right or STR in (left, right)
    if isinstance(left, LiteralType) and isinstance(right, LiteralType):
        return bool(set(left.values) & set(right.values))
    if isinstance(left, ListType) and isinstance(right, ListType):
        return comparable(left.element, right.element)
    return assignable(left, right) or assignable(right, left)


def is_number(found: Type) -> bool:
    return found in NUMBERS or (
        isinstance(found, LiteralType) and all(isinstance(value, int) for value in found.values)
    )


def is_text(found: Type) -> bool:
    return found == STR or (isinstance(found, LiteralType) and all(isinstance(value, str) for value in found.values))


def described(found: Type) -> str:
    """A type as a message shows it: a long literal is cut."""
    text = "null" if found == NULL else str(found)
    return text if len(text) <= 60 else f"{text[:57]}..."


def a_type(found: Type) -> str:
    """"an `int`", "a `Team`": a value of the type, in the words of a message."""
    text = described(found)
    return f"{'an' if text[:1] in 'aeiouAEIOU' else 'a'} `{text}`"


def path_of(expression: tree.Expression) -> Path | None:
    """`r.note` as a path; None for anything but names and attributes of names."""
    match expression:
        case tree.Reference(name=name):
            return (name,)
        case tree.Attribute(base=base, name=name):
            inner = path_of(base)
            return (*inner, name.text) if inner else None
        case _:
            return None


def proves_not_null(condition: tree.Expression, outcome: bool) -> frozenset[Path]:
    """The paths that cannot be null where ``condition`` came out as ``outcome``."""
    match condition:
        case tree.Comparison(operands=(left, right), operators=("!=" | "==" as operator,)):
            compared = right if _is_null(left) else left if _is_null(right) else None
            path = path_of(compared) if compared is not None else None
            return frozenset([path]) if path and (operator == "!=") == outcome else frozenset()
        case tree.Unary(operator="not", operand=operand):
            return proves_not_null(operand, not outcome)
        case tree.Binary(operator="and" | "or" as operator, left=left, right=right) if (operator == "and") == outcome:
            return proves_not_null(left, outcome) | proves_not_null(right, outcome)
        case _:
            return frozenset()


def _is_null(expression: tree.Expression) -> bool:
    return isinstance(expression, tree.Constant) and expression.value is None


