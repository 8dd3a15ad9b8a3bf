"""A small pretty printer after Wadler ("A prettier printer", 2003): documents of text, breaks and groups.

A group is set on one line where it fits, else all its own breaks become line breaks. Knows nothing of the language.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Break:
    """``flat`` where its group is set on one line, else a line break."""

    flat: str


@dataclass(frozen=True, slots=True)
class Hard:
    """Always a line break; the groups around it are never set on one line."""


@dataclass(frozen=True, slots=True)
class Suffix:
    """A comment to be put at the end of the present line, wherever that ends; breaks the groups around it."""

    text: str


@dataclass(frozen=True, slots=True)
class WhenBroken:
    """Text that stands only where the group around it is broken, such as a last comma."""

    text: str


@dataclass(frozen=True, slots=True)
class Nest:
    """Line breaks within are indented by ``columns`` more."""

    columns: int
    content: Document


@dataclass(frozen=True, slots=True)
class Group:
    content: Document
    broken: bool


Document: TypeAlias = str | tuple["Document", ...] | Break | Hard | Suffix | WhenBroken | Nest | Group

SPACE = Break(" ")
NOTHING = Break("")
HARD = Hard()


def group(*parts: Document, broken: bool = False) -> Group:
    """``parts`` on one line where they fit; ``broken`` asks for line breaks all the same."""
    return Group(parts, broken or any(_must_break(part) for part in parts))


def nest(columns: int, *parts: Document) -> Nest:
    return Nest(columns, parts)


def join(separator: Document, parts: Iterable[Document]) -> tuple[Document, ...]:
    joined: list[Document] = []
    for part in parts:
        if joined:
            joined.append(separator)
        joined.append(part)
    return tuple(joined)


def _must_break(document: Document) -> bool:
    if isinstance(document, tuple):
        return any(_must_break(part) for part in document)
    if isinstance(document, Nest):
        return _must_break(document.content)
    if isinstance(document, Group):
        return document.broken
    return isinstance(document, (Hard, Suffix))


_Command: TypeAlias = tuple[int, bool, Document]
"""Indentation, whether set on one line, and what to set."""


def set_lines(document: Document, width: int) -> str:
    """``document`` as text, in lines of at most ``width`` characters where the breaks allow it."""
    out: list[str] = []
    line: list[str] = []
    column = 0
    suffixes: list[str] = []
    stack: list[_Command] = [(0, False, document)]
    while stack:
        indent, flat, part = stack.pop()
        if isinstance(part, str):
            line.append(part)
            column += len(part)
        elif isinstance(part, tuple):
            stack.extend((indent, flat, one) for one in reversed(part))
        elif isinstance(part, Nest):
            stack.append((indent + part.columns, flat, part.content))
        elif isinstance(part, Group):
            fits = not part.broken and _fits((indent, True, part.content), stack, width - column)
            stack.append((indent, fits, part.content))
        elif isinstance(part, Suffix):
            suffixes.append(part.text)
        elif isinstance(part, WhenBroken):
            if not flat:
                line.append(part.text)
                column += len(part.text)
        elif isinstance(part, Break) and flat:
            line.append(part.flat)
            column += len(part.flat)
        else:
            out.append(_finished(line, suffixes))
            line, suffixes, column = [" " * indent], [], indent
    out.append(_finished(line, suffixes))
    return "\n".join(out)


def _finished(line: Sequence[str], suffixes: Sequence[str]) -> str:
    return "".join([*line, *(f"  {suffix}" for suffix in suffixes)]).rstrip(" ")


def _fits(first: _Command, rest: Sequence[_Command], room: int) -> bool:
    """Whether ``first``, set flat, and what follows it up to the next line break take at most ``room`` columns."""
    commands = [first]
    following = len(rest)
    while room >= 0:
        if not commands:
            if not following:
                return True
            following -= 1
            commands.append(rest[following])
        indent, flat, part = commands.pop()
        if isinstance(part, str):
            room -= len(part)
        elif isinstance(part, tuple):
            commands.extend((indent, flat, one) for one in reversed(part))
        elif isinstance(part, Nest):
            commands.append((indent, flat, part.content))
        elif isinstance(part, Group):
            commands.append((indent, flat and not part.broken, part.content))
        elif isinstance(part, Break) and flat:
            room -= len(part.flat)
        elif isinstance(part, (Break, Hard)):
            return True
    return False
