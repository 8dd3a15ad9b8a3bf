"""Every node inside a node of the tree. Which fields of a class may hold nodes is found out once, when imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any

from lmgraph.source.text import Span
from lmgraph.syntax import tree

_NO_NODES = {"str", "str | None", "int | None", "int", "tuple[str, ...]", "str | int", "Span", "Identifier"}
"""Annotations of fields that hold no node besides names."""


def _parts_of(kind: Any) -> Callable[[Any], tuple[Any, ...]]:
    """Reads what a node of the class may hold nodes in, the last first."""
    names = [one.name for one in fields(kind) if one.type not in _NO_NODES and not str(one.type).startswith("Literal")]
    names.reverse()
    if not names or kind is tree.Constant:
        return lambda node: ()
    if len(names) == 1:
        only = attrgetter(names[0])
        return lambda node: (only(node),)
    return attrgetter(*names)


_PARTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    one: _parts_of(one)
    for one in vars(tree).values()
    if isinstance(one, type) and is_dataclass(one) and one not in (Span, tree.Identifier)
}


def walk(node: object) -> Iterator[Any]:
    """The node, or each node of a tuple, and every node inside, in source order; names (Identifier) are left out.

    Does not recurse: a chain of operators may be as deep as a file is long.
    """
    waiting = [node]
    while waiting:
        one = waiting.pop()
        parts = _PARTS.get(type(one))
        if parts is not None:
            yield one
            waiting.extend(parts(one))
        elif type(one) is tuple:
            waiting.extend(one[::-1])


def children(node: object) -> list[Any]:
    """The nodes directly inside the node, in source order; names (Identifier) are left out."""
    found: list[Any] = []
    parts = _PARTS.get(type(node))
    waiting: list[Any] = list(parts(node)) if parts is not None else []
    while waiting:
        one = waiting.pop()
        if type(one) in _PARTS:
            found.append(one)
        elif type(one) is tuple:
            waiting.extend(one[::-1])
    return found
