"""Privacy labels of values: which parts of a value are private, and the way each of them took.

A `Shape` follows a value's type: a list has a label of its own (how many elements there are), and one for what is in
it; a record has labels by field. `graph/labels_flow.py` finds the shapes of a program's values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lmgraph.graph.types import Field, ListType, MapType, OptionalType, RecordType, Type, UnionType

OriginKind = Literal["input", "output", "result", "field", "binding"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The declaration that makes a value private: `private` stands there."""

    kind: OriginKind
    owner: str
    """The flow, module, extern or record; of a binding, its id."""
    name: str = ""
    """The input, output or field; nothing for a result without a name and for a binding."""


@dataclass(frozen=True, slots=True, eq=False)
class Taint:
    """One step on the way of a private value, the last one first."""

    place: str
    """What the value became part of: an id of a node or value, or a declaration's name."""
    how: Literal["declared", "value", "decides", "rows"]
    """`decides`: not the value itself, but what happens because of it. `rows`: it stands in rows that are scored."""
    origin: Origin
    before: Taint | None = None

    def way(self) -> tuple[Taint, ...]:
        """Every step, from the declaration on."""
        steps: list[Taint] = []
        step: Taint | None = self
        while step is not None:
            steps.append(step)
            step = step.before
        return tuple(reversed(steps))


def declared(place: str, origin: Origin) -> Taint:
    return Taint(place, "declared", origin)


def then(before: Taint, place: str, how: Literal["value", "decides", "rows"] = "value") -> Taint:
    """The next step after ``before``; nothing new where a value stays at its place."""
    return before if before.place == place and before.how == how else Taint(place, how, before.origin, before)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Which parts of a value are private. What is not told is public."""

    own: Taint | None = None
    """Of all of it: also of what lies inside."""
    items: Shape | None = None
    """Of the elements of a list or the values of a map."""
    fields: Mapping[str, Shape] = field(default_factory=dict)
    """Of the fields of a record."""

    def field(self, name: str) -> Shape:
        return _under(self.fields.get(name, PUBLIC), self.own)

    def element(self) -> Shape:
        """What an element of the list holds; that it is there follows from the list's own label."""
        return _under(self.items or PUBLIC, self.own)

    def any(self) -> Taint | None:
        """The first part that is private."""
        if self.own is not None or self is PUBLIC:
            return self.own
        inside = self.items.any() if self.items is not None else None
        if inside is not None:
            return inside
        return next((found for one in self.fields.values() if (found := one.any()) is not None), None)


PUBLIC = Shape()
Signature: TypeAlias = tuple[object, ...] | bool


def _under(shape: Shape, taint: Taint | None) -> Shape:
    if taint is None or shape.own is not None:
        return shape
    return Shape(taint, shape.items, shape.fields) if shape is not PUBLIC else Shape(taint)


def under(shape: Shape, *taints: Taint | None) -> Shape:
    """The value where the first of the taints that is one decided something about it."""
    for taint in taints:
        if taint is not None:
            return _under(shape, taint)
    return shape


def join(one: Shape, other: Shape) -> Shape:
    """A value that is one of the two, or made of both. The way of the first stays."""
    if other is PUBLIC or one is other:
        return one
    if one is PUBLIC:
        return other
    items = one.items or other.items
    if one.items is not None and other.items is not None:
        items = join(one.items, other.items)
    fields = dict(one.fields)
    for name, shape in other.fields.items():
        fields[name] = join(fields[name], shape) if name in fields else shape
    return Shape(one.own or other.own, items, fields)


def joined(shapes: Iterable[Shape]) -> Shape:
    found = PUBLIC
    for shape in shapes:
        found = join(found, shape)
    return found


def make_list(element: Shape) -> Shape:
    """A list whose length is public."""
    return PUBLIC if element is PUBLIC else Shape(items=element)


def make_record(fields: Mapping[str, Shape]) -> Shape:
    private = {name: shape for name, shape in fields.items() if shape is not PUBLIC}
    return Shape(fields=private) if private else PUBLIC


def mapped(shape: Shape, change: Callable[[Taint], Taint]) -> Shape:
    """The shape with a further step on the way of each of its parts."""
    if shape is PUBLIC:
        return PUBLIC
    return Shape(
        None if shape.own is None else change(shape.own),
        None if shape.items is None else mapped(shape.items, change),
        {name: mapped(one, change) for name, one in shape.fields.items()},
    )


def at(shape: Shape, place: str, how: Literal["value", "decides", "rows"] = "value") -> Shape:
    """The shape, come to a place."""
    return mapped(shape, lambda taint: then(taint, place, how))


def signature(shape: Shape) -> Signature:
    """Equal where the same parts are private, whatever way they took."""
    if shape is PUBLIC:
        return False
    if shape.own is not None:
        return True
    inside = () if shape.items is None else signature(shape.items)
    return (inside, *((name, signature(one)) for name, one in sorted(shape.fields.items())))


class Declared:
    """What the types of a graph say: the shapes of values that nothing else is known of."""

    def __init__(self) -> None:
        self._records: dict[str, Shape] = {}

    def type(self, type: Type) -> Shape:
        match type:
            case RecordType():
                return self.record(type)
            case ListType(element=inner) | MapType(value=inner):
                return make_list(self.type(inner))
            case OptionalType(inner=inner):
                return self.type(inner)
            case UnionType(options=options):
                # A flow cannot read the fields of a union, so it is private as a whole.
                return under(PUBLIC, *(self.type(option).any() for option in options))
            case _:
                return PUBLIC

    def record(self, record: RecordType) -> Shape:
        """Names of records are unique in a graph."""
        if record.name not in self._records:
            kind: OriginKind = "output" if record.name.endswith(".out") else "field"
            owner = record.name.removesuffix(".out")
            self._records[record.name] = self.fields(record.fields, kind, owner)
        return self._records[record.name]

    def fields(self, fields: Iterable[Field], kind: OriginKind, owner: str) -> Shape:
        return make_record({one.name: self.field(one, kind, owner) for one in fields})

    def field(self, field: Field, kind: OriginKind, owner: str) -> Shape:
        inside = self.type(field.type)
        if field.label == "public":
            return inside
        separator = "/" if kind == "input" else "."
        return under(inside, declared(f"{owner}{separator}{field.name}", Origin(kind, owner, field.name)))
