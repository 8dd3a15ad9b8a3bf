"""From source text to a tree, or to every syntax error of the file. The only module that imports lark.

The parse tables come ready-made with the grammar package; where they do not fit (another lark, an edited grammar)
they are built in memory. A file with an error is cut at its declarations and each is parsed alone, so that one
mistake hides no other. Knows nothing of names or types.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from threading import Lock
from typing import Any, TypeAlias, cast

import lark
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.grammar import Rule
from lark.lexer import TerminalDef
from lark.utils import TextSlice

from lmgraph.source.diagnostic import Diagnostic
from lmgraph.source.text import Source, Span
from lmgraph.syntax import explain, tree
from lmgraph.syntax.builder import TreeBuilder
from lmgraph_grammar import grammar_text, tables_text

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 128
MAX_ERRORS = 20
"""More syntax errors than this are not told: they are rarely independent."""

TABLES_FORMAT = 1
LARK_OPTIONS: dict[str, Any] = {
    "parser": "lalr", "lexer": "basic", "keep_all_tokens": True, "maybe_placeholders": False,
}  # fmt: skip

_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_OPENING = (
    r"(?:module|flow|metric|tool|retriever|fn|enum|record|lm|objective)[ \t]+[A-Za-z_]\w*[ \t]*[({=]"
    r'|dataset[ \t]+\w+[ \t]*:|test[ \t]+"|from[ \t]+"|moved[ \t]+\w+[ \t]*->'
)
_LIKELY_OPENING = (
    r"(?:module|flow|metric|tool|retriever|fn|enum|record|lm|objective|dataset|test|from|moved)[ \t]+[A-Za-z_\"]"
)
_SKIMMED = re.compile(
    rf'"""(?:[^"\\\n]|\\.|"(?!"")|\n(?!{_OPENING}))*"""'
    rf'|"(?:[^"\\\n]|\\.)*"|#[^\n]*|^(?P<opening>{_LIKELY_OPENING})',
    re.MULTILINE,
)
"""Strings and comments, to be passed over, and the start of a declaration at the start of a line."""


@dataclass(frozen=True, slots=True)
class ParseResult:
    """What came of a file."""

    tree: tree.File | None
    """The declarations that parsed, in order. None where the file is no text or is too large."""
    diagnostics: tuple[Diagnostic, ...]
    """Syntax errors in source order; empty for a correct file."""

    @property
    def ok(self) -> bool:
        return not self.diagnostics


Range: TypeAlias = tuple[int, int]
"""Offsets of a part of a text, half-open."""


def parse(source: Source, known: Mapping[Range, tree.File] | None = None) -> ParseResult:
    """Parse one file. Never raises for any text; reports at most `MAX_ERRORS` errors.

    ``known`` are what `parse_part` made of some of the text's `declaration_ranges`: they are not parsed again.
    """
    refused = refusal(source)
    if refused is not None:
        return ParseResult(None, (refused,))
    file, problems = _parse_text(source, without_mark(source.text), known or {})
    if not file.declarations and not problems:
        problems = [explain.nothing_declared(source)]
    return ParseResult(file, tuple(problems[:MAX_ERRORS]))


def without_mark(text: str) -> str:
    """The text with a blank in place of a byte order mark, so that offsets stay."""
    return " " + text[1:] if text.startswith("\ufeff") else text


def parse_part(source: Source, text: str, start: int, end: int) -> tree.File | None:
    """The declarations of ``text[start:end]``, one of its `declaration_ranges`; None where anything is wrong there."""
    front = _front()
    with front.lock:
        front.builder.file = source.name
        front.builder.problems.clear()
        try:
            part = front.parse(text, start, end)
        except UnexpectedInput:
            return None
        wrong = front.builder.problems or any(_first_too_deep(one) is not None for one in part.declarations)
    return None if wrong else part


def _parse_text(source: Source, text: str, known: Mapping[Range, tree.File]) -> tuple[tree.File, list[Diagnostic]]:
    front = _front()
    whole = Span(source.name, 0, len(text))
    with front.lock:
        front.builder.file = source.name
        front.builder.problems.clear()
        try:
            if known:
                # Where what stands before parses, the file does exactly where the rest does: that fails early.
                front.parse(text, _first_unknown(text, known), len(text))
                front.builder.problems.clear()
            parts = [front.parse(text, 0, len(text))]
            errors: list[Diagnostic] = []
        except UnexpectedInput:
            front.builder.problems.clear()
            parts, errors = _parse_by_declarations(front, source, text, known)
        problems = [*front.builder.problems, *errors]
    declarations: list[tree.Declaration] = []
    for declaration in (one for part in parts for one in part.declarations):
        too_deep = _first_too_deep(declaration)
        if too_deep is None:
            declarations.append(declaration)
        else:
            problems.append(explain.nested_too_deeply(too_deep, MAX_DEPTH))
    problems.sort(key=lambda problem: problem.primary.span.start)
    edition = parts[0].edition if parts else None
    return tree.File(edition, tuple(declarations), whole), problems


def _first_unknown(text: str, known: Mapping[Range, tree.File]) -> int:
    return next((start for start, end in declaration_ranges(text) if (start, end) not in known), len(text))


def _parse_by_declarations(
    front: _Front, source: Source, text: str, known: Mapping[Range, tree.File]
) -> tuple[list[tree.File], list[Diagnostic]]:
    """Parse each declaration alone: the ones that parse, and one error for each other."""
    parts: list[tree.File] = []
    errors: list[Diagnostic] = []
    for start, end in declaration_ranges(text):
        noted = len(front.builder.problems)
        try:
            parts.append(known.get((start, end)) or front.parse(text, start, end))
        except UnexpectedInput as error:
            del front.builder.problems[noted:]
            errors.append(explain.explain(_stuck(error, source, text, start, end)))
            if len(errors) >= MAX_ERRORS:
                break
    return parts, errors


def declaration_ranges(text: str) -> Iterator[Range]:
    """Where declarations start, as far as the layout shows it, up to the next one; together the whole text."""
    starts = [match.start() for match in _SKIMMED.finditer(text) if match.lastgroup == "opening"]
    first = starts[0] if starts else len(text)
    # What precedes the first declaration goes with it, unless it cannot: then it is in error by itself.
    lead = re.fullmatch(r"(?:\s|#[^\n]*)*(?:edition\s+[0-9]+)?(?:\s|#[^\n]*)*", text[:first]) if starts else None
    edges = [0, *starts[1:]] if lead else [0, *starts]
    return zip(edges, [*edges[1:], len(text)], strict=True)


def _stuck(error: UnexpectedInput, source: Source, text: str, start: int, end: int) -> explain.Stuck:
    state: Any = error.interactive_parser
    values = tuple(state.parser_state.value_stack)
    accepts = frozenset(state.accepts())
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        token = error.token
        span = Span(source.name, token.start_pos or 0, token.end_pos or 0)
        return explain.Stuck(source, text, start, end, token.type, span, accepts, values)
    if isinstance(error, UnexpectedCharacters):
        at = error.pos_in_stream or 0
        return explain.Stuck(source, text, start, end, "", Span(source.name, at, at + 1), accepts, values)
    return explain.Stuck(source, text, start, end, "$END", Span(source.name, end, end), accepts, values)


# -- what is refused before parsing and after ------------------------------------------------------------------------


def refusal(source: Source) -> Diagnostic | None:
    """Why the text is not looked into; None where it is."""
    if len(source.text) > MAX_CHARACTERS:
        return explain.too_large(source, MAX_CHARACTERS)
    foreign = _NOT_TEXT.search(source.text)
    return explain.not_text(source, foreign.start()) if foreign else None


def _first_too_deep(declaration: tree.Declaration) -> Span | None:
    """The span of a node more than `MAX_DEPTH` levels below ``declaration``; the walk itself does not recurse."""
    stack: list[tuple[Any, int]] = [(declaration, 0)]
    while stack:
        node, depth = stack.pop()
        if type(node) is tuple:
            stack.extend((child, depth) for child in node)
            continue
        names = _NODE_FIELDS.get(type(node))
        if names is None:
            continue
        if depth > MAX_DEPTH:
            span: Span = node.span
            return span
        # A chain of comparisons is one node here, and becomes a chain of nodes, as one of `+` is already.
        inner = depth + (len(node.operators) if type(node) is tree.Comparison else 1)
        stack.extend((getattr(node, name), inner) for name in names)
    return None


def _node_fields() -> dict[type, tuple[str, ...]]:
    """Which fields of each class may hold nodes."""
    classes = [one for one in vars(tree).values() if isinstance(one, type) and is_dataclass(one)]
    leaves = (tree.Identifier, tree.Constant, tree.Reference)
    return {
        one: () if one in leaves else tuple(field.name for field in fields(one) if field.name != "span")
        for one in classes
    }


_NODE_FIELDS = _node_fields()


# -- lark ------------------------------------------------------------------------------------------------------------


class _Front:
    """One loaded parser with the builder it calls. One parse at a time: hold ``lock``."""

    def __init__(self) -> None:
        self.builder = TreeBuilder()
        self.lock = Lock()
        self._lark = _load(self.builder)

    def parse(self, text: str, start: int, end: int) -> tree.File:
        """The tree of ``text[start:end]``, with offsets into ``text``. Raises lark's own errors."""
        # With a transformer at work lark returns what its start rule built, not the Tree that its types promise.
        return cast(tree.File, cast(object, self._lark.parse(TextSlice(text, start, end))))


@cache
def _front() -> _Front:
    return _Front()


def build_tables() -> dict[str, Any]:
    """The parse tables of the present grammar as plain data, checked for conflicts. Needs interegular."""
    built = lark.Lark(grammar_text(), strict=True, **LARK_OPTIONS)
    data, memo = built.memo_serialize([TerminalDef, Rule])
    # Not strict when loaded: that needs a package which only the check needs.
    data["options"]["strict"] = False
    return {"fingerprint": _fingerprint(grammar_text()), "data": data, "memo": memo}


def _fingerprint(grammar: str) -> str:
    """What the tables depend on."""
    parts = [str(TABLES_FORMAT), lark.__version__, json.dumps(LARK_OPTIONS, sort_keys=True), grammar]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _load(builder: TreeBuilder) -> lark.Lark:
    grammar = grammar_text()
    loaded = _load_shipped(tables_text(), _fingerprint(grammar), builder)
    return loaded or lark.Lark(grammar, transformer=builder, **LARK_OPTIONS)


def _load_shipped(text: str | None, fingerprint: str, builder: TreeBuilder) -> lark.Lark | None:
    """The parser of the shipped tables, or None where they are missing, damaged or made for something else."""
    try:
        tables = json.loads(text or "null")
        if tables["fingerprint"] != fingerprint:
            return None
        parser = tables["data"]["parser"]["parser"]
        parser["tokens"] = {int(number): name for number, name in parser["tokens"].items()}
        parser["states"] = {
            int(state): {int(token): action for token, action in actions.items()}
            for state, actions in tables["states"].items()
        }
        memo = {int(number): item for number, item in tables["memo"].items()}
        loader: Any = lark.Lark
        loaded: lark.Lark = loader._load_from_dict(tables["data"], memo, transformer=builder)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return loaded
