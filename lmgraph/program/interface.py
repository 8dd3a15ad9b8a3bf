"""How two versions of a module differ: field by field in their inputs and outputs, and in what their author says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lmgraph.graph.graph import ModuleSpec
from lmgraph.graph.types import EnumType, Field, ListType, MapType, OptionalType, RecordType, Type
from lmgraph.program.fingerprints import closed_type

MOST_LABELS = 6
"""Labels of an enum that a message names."""

Change = Literal["new", "gone", "type", "label", "values"]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One difference between the interfaces of two versions of a module."""

    side: Literal["input", "output"]
    field: str
    """Its name, with a path into records: `claim.source`; `notes[]` are the elements of `notes`."""
    change: Change
    before: str | None
    """Type or label in the first version, or the values of an enum that only the first has; None where it has none."""
    after: str | None
    """In the second."""

    def __str__(self) -> str:
        name = f"{self.side} `{self.field}`"
        match self.change:
            case "new":
                return f"{name} is new: {self.after}"
            case "gone":
                return f"{name} is gone: it was {self.before}"
            case "values":
                lost, gained = (
                    self.before and f"no longer allows {self.before}",
                    self.after and f"now allows {self.after}",
                )
                return f"{name} {' and '.join(filter(None, (lost, gained)))}"
            case "type" | "label":
                return f"{name} was {self.before} and is {self.after}"


def field_changes(old: ModuleSpec, new: ModuleSpec) -> tuple[FieldChange, ...]:
    """What differs in inputs and outputs, in the order of the new version, what is gone last; empty where the
    interfaces are equal. Order, descriptions and names of types do not count."""
    found = [FieldChange("input", *one) for one in _fields(old.inputs, new.inputs, "")]
    return (*found, *(FieldChange("output", *one) for one in _fields(old.outputs, new.outputs, "")))


_Found = tuple[str, Change, str | None, str | None]


def _fields(old: Sequence[Field], new: Sequence[Field], path: str) -> Iterator[_Found]:
    before = {field.name: field for field in old}
    for field in new:
        name = path + field.name
        known = before.pop(field.name, None)
        if known is None:
            yield name, "new", None, _written(field)
            continue
        if known.label != field.label:
            yield name, "label", known.label, field.label
        yield from _types(known.type, field.type, name)
    for field in before.values():
        yield path + field.name, "gone", _written(field), None


def _types(old: Type, new: Type, name: str) -> Iterator[_Found]:
    if closed_type(old) == closed_type(new):
        return
    match old, new:
        case EnumType(), EnumType():
            yield name, "values", _labels(old, new), _labels(new, old)
        case RecordType(), RecordType():
            yield from _fields(old.fields, new.fields, f"{name}.")
        case (ListType(element=before), ListType(element=after)) | (MapType(value=before), MapType(value=after)):
            yield from _types(before, after, f"{name}[]")
        case OptionalType(inner=before), OptionalType(inner=after):
            yield from _types(before, after, name)
        case _ if str(old) == str(new):
            yield name, "type", f"`{closed_type(old)}`", f"`{closed_type(new)}`"
        case _:
            yield name, "type", f"`{old}`", f"`{new}`"


def _labels(one: EnumType, other: EnumType) -> str | None:
    """The labels that only ``one`` has."""
    only = [f'"{label}"' for label in one.labels if label not in other.labels]
    shown = only if len(only) <= MOST_LABELS else [*only[:MOST_LABELS], f"{len(only) - MOST_LABELS} more"]
    return ", ".join(shown) or None


def _written(field: Field) -> str:
    private = "private " if field.label == "private" else ""
    return f"`{private}{field.type}`"


def behaviour_changes(old: ModuleSpec, new: ModuleSpec) -> tuple[str, ...]:
    """What the author says otherwise, in words: `instruction was "Sort it." and is "Sort them."`."""
    found: list[str] = []
    if old.instruction != new.instruction:
        found.append(f"its instruction was {_quoted(old.instruction)} and is {_quoted(new.instruction)}")
    if old.strategy != new.strategy:
        found.append(f"its strategy was `{old.strategy}` and is `{new.strategy}`")
    known = {field.name: field for field in (*old.inputs, *old.outputs)}
    for field in (*new.inputs, *new.outputs):
        before = known.get(field.name)
        if before is not None and before.description != field.description:
            words = f"{_quoted(before.description)} and is {_quoted(field.description)}"
            found.append(f"the description of `{field.name}` was {words}")
    return tuple(found)


def _quoted(text: str | None) -> str:
    if not text:
        return "empty"
    line = " ".join(text.split())
    return f'"{line if len(line) <= 60 else line[:59] + "…"}"'
