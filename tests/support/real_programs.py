"""The programs that there are, for the fuzzer and for tests, and how a program's text is cut into parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from lmgraph.source import Source, Span
from lmgraph.syntax import tree
from lmgraph.syntax.parser import parse
from support.large_program import many_parts

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "data" / "samples"
SNIPPETS = ROOT / "tests" / "data" / "fuzz" / "snippets.lmg"

_TOKEN = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\[^\n])*"|#[^\n]*|\s+|\w+|->|:=|[=!<>]=|.', re.DOTALL)
_DECLARATION = re.compile(
    r"^(?=(?:module|flow|metric|tool|retriever|fn|enum|record|lm|objective|dataset|test|from|moved)\b)", re.MULTILINE
)
_BLOCK = re.compile(r"[({\[]")
_SORTS: dict[type, str] = {
    **dict.fromkeys(get_args(tree.Expression), "expression"),
    **dict.fromkeys(get_args(tree.TypeNode), "type"),
    **dict.fromkeys(get_args(tree.Statement), "statement"),
    **dict.fromkeys(get_args(tree.Declaration), "declaration"),
    **dict.fromkeys((tree.FieldNode, tree.Entry, tree.Argument, tree.Signature, tree.Block), "part"),
}
"""Nodes of one sort may mostly stand for one another."""


@dataclass(frozen=True, slots=True)
class Program:
    """A real program, and the folder that its paths are relative to."""

    name: str
    text: str
    root: Path | None


def real_programs() -> list[Program]:
    """Programs on data, samples, snippets (thrice: they are many in little), those of golden tests, a large one."""
    files = [*sorted((ROOT / "programs").glob("*/*.lmg")), *sorted(SAMPLES.glob("*.lmg"))]
    found = [Program(file.relative_to(ROOT).as_posix(), file.read_text("utf-8"), file.parent) for file in files]
    for number, text in enumerate(SNIPPETS.read_text("utf-8").split("# ---\n")):
        found += [Program(f"{SNIPPETS.name}:{number}", text, SNIPPETS.parent)] * 3
    for file in sorted((ROOT / "tests" / "golden").glob("*.md")):
        fences = re.findall(r"^(`{3,})lmg\n(.*?)^\1$", file.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        found += [Program(f"{file.name}:{number}", text, SAMPLES) for number, (_, text) in enumerate(fences)]
    return [*found, Program("generated", many_parts(1), None)]


def tokens_of(text: str) -> list[str]:
    """The text in pieces: tokens, blanks, comments, and single characters where no token begins."""
    return _TOKEN.findall(text)


@lru_cache(maxsize=300)
def nodes_of(text: str) -> list[tuple[str, int, int]]:
    """Sort and place of every node of the declarations that parse."""
    found = parse(Source("", text)).tree
    return [*_places(found.declarations)] if found is not None else []


def _places(node: Any) -> Iterator[tuple[str, int, int]]:
    if isinstance(node, tuple):
        for item in node:
            yield from _places(item)
    elif is_dataclass(node) and not isinstance(node, Span):
        sort = _SORTS.get(type(node))
        if sort is not None:
            span: Span = node.span
            yield sort, span.start, span.end
        for field in fields(node):
            yield from _places(getattr(node, field.name))


def declarations_of(text: str) -> list[str]:
    """The text cut before each declaration."""
    return _DECLARATION.split(text)


def blocks_of(text: str) -> list[tuple[int, int]]:
    """Start and end of each bracket that is closed, strings and comments not looked at."""
    found: list[tuple[int, int]] = []
    open_places: list[int] = []
    for match in re.finditer(r"[()\[\]{}]", text):
        if _BLOCK.match(match[0]):
            open_places.append(match.start())
        elif open_places:
            found.append((open_places.pop(), match.end()))
    return found
