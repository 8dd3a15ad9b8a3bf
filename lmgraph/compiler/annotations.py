"""Python annotations beside declared types. Read from the source's syntax tree: nothing is imported.

Only what plainly disagrees counts: a class of the author's own, a type variable or `Any` may stand for anything.
"""

from __future__ import annotations

import ast

from lmgraph.graph.types import (
    INT,
    STR,
    EnumType,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    ScalarType,
    Type,
    UnionType,
)

_SCALARS = {"str", "int", "float", "bool", "None", "complex", "bytes"}
_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "tuple", "Tuple", "set", "Set"}
_MAPS = {"dict", "Dict", "Mapping", "MutableMapping"}
_WIDER = {"int": ("float", "complex"), "float": ("complex",), "bool": ("int", "float")}
"""What takes values of a type besides the type itself."""


def takes(annotation: ast.expr | None, declared: Type) -> bool:
    """Whether a parameter with this annotation takes every value of the declared type; True where nothing tells."""
    options = _written(annotation)
    if options is None:
        return True
    match declared:
        case OptionalType(inner=inner):
            present = [one for one in options if not _is_none(one)]
            return _may_be_null(options) and any(_one_takes(one, inner) for one in present or options)
        case UnionType(options=declared_options):
            return all(takes(annotation, one) for one in declared_options)
        case LiteralType(values=values):
            scalars = {STR if isinstance(value, str) else INT for value in values}
            return all(any(_one_takes(one, scalar) for one in options) for scalar in scalars)
        case _:
            return any(_one_takes(one, declared) for one in options)


def gives(annotation: ast.expr | None, declared: Type) -> bool:
    """Whether every value that the annotation allows is of the declared type; True where nothing tells."""
    options = _written(annotation)
    if options is None:
        return True
    if isinstance(declared, OptionalType):
        return all(_is_none(one) or _one_gives(one, declared.inner) for one in options)
    return all(_one_gives(one, declared) for one in options)


def _one_takes(annotation: ast.expr, declared: Type) -> bool:
    name, arguments = _name(annotation), _arguments(annotation)
    if not _is_plain(name):
        return True
    match declared:
        case ScalarType(name=scalar):
            return name == scalar or name in _WIDER.get(scalar, ())
        case EnumType():
            return name == "str"
        case ListType(element=element):
            return name in _LISTS and (len(arguments) != 1 or takes(arguments[0], element))
        case MapType(value=value):
            return name in _MAPS and (len(arguments) != 2 or takes(arguments[1], value))
        case RecordType():
            return name in _MAPS
        case _:
            return True


def _one_gives(annotation: ast.expr, declared: Type) -> bool:
    name, arguments = _name(annotation), _arguments(annotation)
    if not _is_plain(name):
        return True
    match declared:
        case ScalarType(name=scalar):
            return name == scalar or (name == "int" and scalar == "float")
        case EnumType():
            return name == "str"
        case LiteralType(values=values):
            return name in {type(value).__name__ for value in values}
        case ListType(element=element):
            return name in _LISTS and (len(arguments) != 1 or gives(arguments[0], element))
        case MapType(value=value):
            return name in _MAPS and (len(arguments) != 2 or gives(arguments[1], value))
        case RecordType():
            return name in _MAPS
        case UnionType(options=options):
            return any(_one_gives(annotation, option) for option in options)
        case _:
            return True


def _is_plain(name: str | None) -> bool:
    """Whether the name is that of a type of Python's own that values of programs can be told from."""
    return name in _SCALARS or name in _LISTS or name in _MAPS


def _written(annotation: ast.expr | None) -> list[ast.expr] | None:
    """The options of the annotation, also where it is written as a text; None where there is nothing to read."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return None if annotation is None else _options(annotation)


def _options(annotation: ast.expr) -> list[ast.expr]:
    """`A | B`, `Optional[A]` and `Union[A, B]` as their options."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_options(annotation.left), *_options(annotation.right)]
    name = _name(annotation)
    if name == "Optional":
        return [*_arguments(annotation), ast.Constant(None)]
    if name == "Union":
        return [one for argument in _arguments(annotation) for one in _options(argument)]
    return [annotation]


def _may_be_null(options: list[ast.expr]) -> bool:
    return any(_is_none(one) or not _is_plain(_name(one)) for one in options)


def _is_none(annotation: ast.expr) -> bool:
    return isinstance(annotation, ast.Constant) and annotation.value is None


def _name(annotation: ast.expr) -> str | None:
    """The last part of the annotation's name: `list` of `list[str]` and of `typing.list`."""
    match annotation:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return _name(value)
        case ast.Constant(value=None):
            return "None"
        case _:
            return None


def _arguments(annotation: ast.expr) -> list[ast.expr]:
    if not isinstance(annotation, ast.Subscript):
        return []
    inside = annotation.slice
    return list(inside.elts) if isinstance(inside, ast.Tuple) else [inside]
