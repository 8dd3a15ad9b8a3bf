"""What the checker knows of types beyond graph/types.py: the unknown type, joins, comparability, words for types."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraph.graph.types import (
    FLOAT,
    INT,
    NULL,
    STR,
    EnumType,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    Type,
    UnionType,
    assignable,
)

UNKNOWN = RecordType("?", ())
"""The type of what was reported already: it fits everywhere, so that one mistake is reported once."""

NUMBERS = (INT, FLOAT)


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
    """`assignable`; everything fits where one side was reported already, and outputs fit equal outputs."""
    return mentions_unknown(value) or mentions_unknown(target) or assignable(value, target) or _equal(value, target)


def _equal(value: Type, target: Type) -> bool:
    """Whether both are outputs with the same fields: those of a module and of one that was made from it, say."""
    match value, target:
        case RecordType(), RecordType():
            both = (value, target)
            return all(one.name.endswith(".out") for one in both) and _shape(value) == _shape(target)
        case OptionalType(inner=inner), OptionalType(inner=wanted):
            return _equal(inner, wanted)
        case _, OptionalType(inner=wanted):
            return _equal(value, wanted)
        case ListType(element=element), ListType(element=wanted):
            return _equal(element, wanted)
        case MapType(value=item), MapType(value=wanted):
            return _equal(item, wanted)
        case _:
            return False


def _shape(record: RecordType) -> tuple[tuple[str, Type], ...]:
    return tuple((field.name, field.type) for field in record.fields)


def present(found: Type) -> Type:
    """The type without null."""
    return found.inner if isinstance(found, OptionalType) else found


def join(left: Type, right: Type) -> Type | None:
    """The smallest type that holds the values of both, or None where there is no useful one."""
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if _equal(right, left):
        return left
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
    if isinstance(left, MapType) and isinstance(right, MapType):
        value = join(left.value, right.value)
        return MapType(value) if value is not None else None
    if isinstance(left, UnionType) or isinstance(right, UnionType):
        return union_of([*_options(left), *_options(right)])
    return None


def union_of(options: Sequence[Type]) -> Type:
    """The union of the options, each once; one option stands for itself."""
    distinct = tuple(dict.fromkeys(inner for option in options for inner in _options(option)))
    return distinct[0] if len(distinct) == 1 else UnionType(distinct)


def _options(found: Type) -> tuple[Type, ...]:
    return found.options if isinstance(found, UnionType) else (found,)


def comparable(left: Type, right: Type) -> bool:
    """Whether `==` between the two can be true and can be false, as far as types tell."""
    if mentions_unknown(left) or mentions_unknown(right):
        return True
    if left == NULL or right == NULL:
        return isinstance(left if right == NULL else right, OptionalType)
    left, right = present(left), present(right)
    if isinstance(left, UnionType) or isinstance(right, UnionType):
        return any(comparable(one, other) for one in _options(left) for other in _options(right))
    if isinstance(left, EnumType) or isinstance(right, EnumType):
        return left == right or STR in (left, right)
    if isinstance(left, LiteralType) and isinstance(right, LiteralType):
        return bool(set(left.values) & set(right.values))
    if isinstance(left, ListType) and isinstance(right, ListType):
        return comparable(left.element, right.element)
    return assignable(left, right) or assignable(right, left)


def is_number(found: Type) -> bool:
    if isinstance(found, UnionType):
        return all(is_number(option) for option in found.options)
    return found in NUMBERS or (
        isinstance(found, LiteralType) and all(isinstance(value, int) for value in found.values)
    )


def is_text(found: Type) -> bool:
    if isinstance(found, UnionType):
        return all(is_text(option) for option in found.options)
    return found == STR or (isinstance(found, LiteralType) and all(isinstance(value, str) for value in found.values))


def described(found: Type) -> str:
    """A type as a message shows it: a long literal is cut."""
    text = "null" if found == NULL else str(found)
    return text if len(text) <= 60 else f"{text[:57]}..."


def a_type(found: Type) -> str:
    """ "an `int`", "a `Team`": a value of the type, in the words of a message."""
    text = described(found)
    return f"{'an' if text[:1] in 'aeiouAEIOU' else 'a'} `{text}`"
