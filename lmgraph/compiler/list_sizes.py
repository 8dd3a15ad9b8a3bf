"""How long lists are at most: sizes of values, by their types and by the expressions that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lmgraph.compiler.polynomials import ZERO, Polynomial, number, symbol
from lmgraph.graph.expressions import (
    Apply,
    Choose,
    Ensure,
    Expr,
    GetField,
    GetItem,
    MakeList,
    MakeRecord,
    Ref,
    ValueId,
)
from lmgraph.graph.types import Field, ListType, MapType, OptionalType, RecordType, Type
from lmgraph.program.constraints import bounds_of


@dataclass(frozen=True, slots=True)
class Size:
    """At most how long a value's lists are; a value without lists is `NONE`."""

    length: Polynomial = ZERO
    element: Size | None = None
    """Of any element of a list, or value of a map."""
    fields: Mapping[str, Size] = field(default_factory=dict)

    def field(self, name: str) -> Size:
        return self.fields.get(name, NONE)

    def mapped(self, change: Callable[[Polynomial], Polynomial]) -> Size:
        if self is NONE:
            return NONE
        element = None if self.element is None else self.element.mapped(change)
        return Size(change(self.length), element, {name: one.mapped(change) for name, one in self.fields.items()})

    def parts(self, path: str = "") -> Iterator[tuple[str, Polynomial]]:
        """Every length with its path."""
        yield path, self.length
        if self.element is not None:
            yield from self.element.parts(f"{path}[]")
        for name, one in self.fields.items():
            yield from one.parts(f"{path}.{name}")


NONE = Size()


def size_of_type(type: Type, path: str) -> Size:
    """Lists of which nothing is known: a symbol for the length of each, named after where it stands."""
    match type:
        case ListType(element=element):
            return Size(symbol(path), size_of_type(element, f"{path}[]"))
        case MapType(value=value):
            inner = size_of_type(value, f"{path}[]")
            return Size(ZERO, inner) if inner is not NONE else NONE
        case OptionalType(inner=inner_type):
            return size_of_type(inner_type, path)
        case RecordType(fields=fields):
            return size_of_fields(fields, path)
        case _:
            return NONE


def size_of_fields(fields: tuple[Field, ...], path: str) -> Size:
    found = {one.name: size_of_field(one, f"{path}.{one.name}") for one in fields}
    lists = {name: size for name, size in found.items() if size is not NONE}
    return Size(fields=lists) if lists else NONE


def size_of_field(field: Field, path: str) -> Size:
    """As its type says, or as its constraint does: `where len(it) <= 3`."""
    size = size_of_type(field.type, path)
    if field.constraint is not None and isinstance(field.type, ListType):
        _, most = bounds_of(field.constraint).length.whole()
        if most is not None:
            return Size(number(max(most, 0)), size.element)
    return size


def joined(one: Size, other: Size) -> Size:
    """A value that is one of the two."""
    return _both(one, other, Polynomial.at_most)


def _both(one: Size, other: Size, length: Callable[[Polynomial, Polynomial], Polynomial]) -> Size:
    if one is NONE and other is NONE:
        return NONE
    element = one.element or other.element
    if one.element is not None and other.element is not None:
        element = joined(one.element, other.element)
    names = {**one.fields, **other.fields}
    return Size(
        length(one.length, other.length), element, {name: joined(one.field(name), other.field(name)) for name in names}
    )


def size_of(expression: Expr, values: Mapping[ValueId, Size]) -> Size:
    match expression:
        case Ref(value=value):
            return values.get(value, NONE)
        case GetField(base=base, name=name):
            return size_of(base, values).field(name)
        case GetItem(base=base):
            return size_of(base, values).element or NONE
        case MakeList(items=items):
            element = NONE
            for item in items:
                element = joined(element, size_of(item, values))
            return Size(number(len(items)), element)
        case MakeRecord(fields=fields):
            found = {one.name: size_of(one.value, values) for one in fields}
            return Size(fields={name: size for name, size in found.items() if size is not NONE})
        case Apply(operator="+", operands=(left, right)):
            return _both(size_of(left, values), size_of(right, values), Polynomial.__add__)
        case Apply(operator="best" | "vote", operands=(candidates, *_)):
            return size_of(candidates, values).element or NONE
        case Choose(when_true=when_true, when_false=when_false):
            return joined(size_of(when_true, values), size_of(when_false, values))
        case Ensure(value=value):
            return size_of(value, values)
        case _:
            return NONE
