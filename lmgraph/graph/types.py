"""Types of the language, closed under the JSON forms of their values.

Values at run time are plain data: str, int, float, bool, None, lists, and dicts for records and maps. A value of an
enum is its label text. This module knows no syntax and no pydantic (program/values.py maps types to both).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from lmgraph.graph.expressions import ByKind, Expr

PrivacyLabel = Literal["public", "private"]

LATER = {"later": True}
"""Metadata of fields that came after the JSON form had its version: left out where they are at their default, so that
graphs that do not use them keep their text and their hash."""
ScalarName = Literal["str", "int", "float", "bool", "null"]


@dataclass(frozen=True, slots=True)
class ScalarType:
    name: ScalarName
    kind: Literal["scalar"] = "scalar"

    def __str__(self) -> str:
        return self.name


STR = ScalarType("str")
INT = ScalarType("int")
FLOAT = ScalarType("float")
BOOL = ScalarType("bool")
NULL = ScalarType("null")


@dataclass(frozen=True, slots=True)
class EnumMember:
    name: str
    label: str
    """The text a model writes and data holds."""
    description: str | None = None


@dataclass(frozen=True, slots=True)
class EnumType:
    name: str
    members: tuple[EnumMember, ...]
    kind: Literal["enum"] = "enum"

    def __str__(self) -> str:
        return self.name

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(member.label for member in self.members)


@dataclass(frozen=True, slots=True)
class LiteralType:
    """A closed set of texts or ints: `"a" | "b"`."""

    values: tuple[str | int, ...]
    kind: Literal["literal"] = "literal"

    def __str__(self) -> str:
        return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in self.values)


@dataclass(frozen=True, slots=True)
class ListType:
    element: Type
    kind: Literal["list"] = "list"

    def __str__(self) -> str:
        return f"list[{self.element}]"


@dataclass(frozen=True, slots=True)
class MapType:
    """`map[str, T]`"""

    value: Type
    kind: Literal["map"] = "map"

    def __str__(self) -> str:
        return f"map[str, {self.value}]"


@dataclass(frozen=True, slots=True)
class OptionalType:
    inner: Type
    kind: Literal["optional"] = "optional"

    def __str__(self) -> str:
        return f"{self.inner}?"


@dataclass(frozen=True, slots=True)
class UnionType:
    options: tuple[Type, ...]
    kind: Literal["union"] = "union"

    def __str__(self) -> str:
        return " | ".join(str(option) for option in self.options)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a field's value must meet: `where 0.0 <= it <= 1.0`."""

    condition: Expr
    """Over `it` alone; a bool."""
    text: str
    """As the author wrote it: messages show it, and prompts."""


@dataclass(frozen=True, slots=True)
class Field:
    """A named, typed place in a record or signature."""

    name: str
    type: Type
    description: str | None = None
    has_default: bool = False
    default: Any = None
    """A plain value (module docstring); only with ``has_default``. Equality only: never hashed."""
    label: PrivacyLabel = "public"
    constraint: Constraint | None = None

    def __hash__(self) -> int:
        return hash((self.name, self.type))


@dataclass(frozen=True, slots=True)
class RecordType:
    """A declared record, or the outputs of a module or flow under the name `M.out`."""

    name: str
    fields: tuple[Field, ...]
    kind: Literal["record"] = "record"

    def __str__(self) -> str:
        return self.name

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)


Type: TypeAlias = Annotated[
    ScalarType | EnumType | LiteralType | ListType | MapType | OptionalType | UnionType | RecordType, ByKind()
]


def assignable(value: Type, target: Type) -> bool:
    """Whether every value of type ``value`` may stand where ``target`` is expected. int widens to float."""
    if value == target:
        return True
    match value, target:
        case ScalarType("int"), ScalarType("float"):
            return True
        case UnionType(options=options), _:
            return all(assignable(option, target) for option in options)
        case OptionalType(inner=inner), OptionalType(inner=target_inner):
            return assignable(inner, target_inner)
        case _, OptionalType(inner=target_inner):
            return value == NULL or assignable(value, target_inner)
        case _, UnionType(options=options):
            return any(assignable(value, option) for option in options)
        case LiteralType(values), LiteralType(allowed):
            return set(values) <= set(allowed)
        case LiteralType(values), ScalarType("str"):
            return all(isinstance(item, str) for item in values)
        case LiteralType(values), ScalarType("int" | "float"):
            return all(isinstance(item, int) for item in values)
        case ListType(element), ListType(target_element):
            return assignable(element, target_element)
        case MapType(item), MapType(target_item):
            return assignable(item, target_item)
        case _:
            return False
