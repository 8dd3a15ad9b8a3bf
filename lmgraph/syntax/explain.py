"""Syntax errors in words: what was expected here, what stands here instead, and what to do. Codes E01xx.

Works on what the parser knew when it got stuck (`Stuck`) and on the text around it. General causes first (brackets,
strings, reserved words), then habits from other languages (habits.py), then plainly what was expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lmgraph.source.codes import CODES
from lmgraph.source.diagnostic import Diagnostic, Fix, Label
from lmgraph.source.suggest import suggest
from lmgraph.source.text import Source, Span
from lmgraph.syntax.expected import NAMELIKE, OPENERS, RESERVED, Context, found, in_words
from lmgraph.syntax.habits import FOREIGN_WORDS, Hint, hint_for_character, hint_for_token

_PASSED_OVER = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\[^\n])*"|#[^\n]*|[()\[\]{}]', re.DOTALL)
_PARTNER = {")": "(", "]": "[", "}": "{", "(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Stuck:
    """Where the parser could not go on."""

    source: Source
    text: str
    """The source's text as it was parsed."""
    start: int
    """Where the declaration in question starts."""
    end: int
    """Where the text that was parsed ends: the next declaration or the end of the file."""
    type: str
    """The terminal found; `$END` at the end of the text; empty where no terminal begins with this character."""
    span: Span
    accepts: frozenset[str]
    """The terminals that could have stood here."""
    values: tuple[Any, ...]
    """Tokens and nodes of the unfinished constructs, outermost first."""

    @property
    def found(self) -> str:
        return self.text[self.span.start : self.span.end]

    @property
    def previous(self) -> tuple[str, str]:
        """Terminal and text of the token before, both empty where there is none."""
        token = self.values[-1] if self.values else None
        if token is not None and not isinstance(token, str) and hasattr(token, "text"):
            return "NAME", token.text
        return (getattr(token, "type", ""), str(token)) if isinstance(token, str) else ("", "")


def explain(stuck: Stuck) -> Diagnostic:
    """The one diagnostic for the place where the parser got stuck."""
    return (
        _unclosed_string(stuck)
        or _bracket(stuck)
        or _reserved_word(stuck)
        or _edition(stuck)
        or _repeat_limit(stuck)
        or _character(stuck)
        or _unexpected(stuck)
    )


# -- whole files -----------------------------------------------------------------------------------------------------


def nothing_declared(source: Source) -> Diagnostic:
    at = len(source.text.rstrip())
    return _diagnostic(
        "E0107",
        Span(source.name, at, at),
        "this file declares nothing",
        help="declare a module, for example:\n"
        'module Answer(question: str) -> (answer: str) {\n  """Answer the question."""\n}',
    )


def too_large(source: Source, limit: int) -> Diagnostic:
    return _diagnostic(
        "E0109",
        Span(source.name, 0, 0),
        f"this file has {len(source.text):,} characters; a program may have {limit:,}",
        help="move data into files of its own and read them with `lines`, `jsonl` or `csv`",
    )


def not_text(source: Source, at: int) -> Diagnostic:
    return _diagnostic(
        "E0110",
        Span(source.name, at, at + 1),
        f"the character U+{ord(source.text[at]):04X} cannot be part of a program",
        help="check that this is the file you meant; if it is, save it anew as UTF-8 text without this character",
    )


def nested_too_deeply(span: Span, limit: int) -> Diagnostic:
    return _diagnostic(
        "E0108",
        span,
        f"this stands more than {limit} levels deep in its declaration",
        help="give an inner part a name of its own (`part = ...`) and use the name",
    )


# -- causes ----------------------------------------------------------------------------------------------------------


def _unclosed_string(stuck: Stuck) -> Diagnostic | None:
    if stuck.type or stuck.found != '"':
        return None
    start = stuck.span.start
    line_end = _line_end(stuck.text, start)
    if stuck.text.startswith('"""', start):
        return _diagnostic(
            "E0103",
            Span(stuck.source.name, start, start + 3),
            'the text that starts here has no closing `"""`',
            help='end the text with `"""`; within the text, three quotes in a row are written `\\"""`',
        )
    return _diagnostic(
        "E0103",
        Span(stuck.source.name, start, line_end),
        'this string has no closing `"` on its line',
        help='close the string with `"`; a quote inside it is written `\\"`, and a line break `\\n`',
    )


def _bracket(stuck: Stuck) -> Diagnostic | None:
    opened, closers = _open_brackets(stuck)
    if stuck.type == "$END" and opened:
        at = opened[-1]
        bracket = stuck.text[at]
        rest = stuck.end < len(stuck.text)
        last = len(stuck.text[: stuck.end].rstrip())
        ends = Span(stuck.source.name, stuck.end, _line_end(stuck.text, stuck.end)) if rest else None
        secondary = (
            Label(ends, "the next declaration starts here")
            if ends
            else Label(Span(stuck.source.name, last, last), "the file ends here")
        )
        return _diagnostic(
            "E0104",
            Span(stuck.source.name, at, at + 1),
            f"this `{bracket}` is never closed",
            secondary=(secondary,),
            help=f"write the missing `{_PARTNER[bracket]}`",
        )
    if stuck.found not in (")", "]", "}"):
        return None
    if not opened:
        outside = "" if closers else " in this declaration"
        return _diagnostic(
            "E0101",
            stuck.span,
            f"this `{stuck.found}` closes nothing: no bracket is open{outside}",
            help=f"remove it, or write the `{_PARTNER[stuck.found]}` that it should close",
        )
    bracket = stuck.text[opened[-1]]
    if bracket != _PARTNER[stuck.found]:
        return _diagnostic(
            "E0104",
            stuck.span,
            f"`{stuck.found}` stands here while `{bracket}` is still open",
            secondary=(Label(Span(stuck.source.name, opened[-1], opened[-1] + 1), f"this `{bracket}` is not closed"),),
            help=f"write `{_PARTNER[bracket]}` before this `{stuck.found}`",
        )
    return None


def _open_brackets(stuck: Stuck) -> tuple[list[int], int]:
    """Offsets of the brackets open where the parser stopped, outermost first; and how many were closed before."""
    opened: list[int] = []
    closed = 0
    for match in _PASSED_OVER.finditer(stuck.text, stuck.start, stuck.span.start):
        char = match[0]
        if char in ("(", "[", "{"):
            opened.append(match.start())
        elif char in (")", "]", "}") and opened:
            opened.pop()
            closed += 1
    return opened, closed


def _reserved_word(stuck: Stuck) -> Diagnostic | None:
    if stuck.type not in RESERVED or "NAME" not in stuck.accepts or "FLOAT" in stuck.accepts:
        return None
    after = stuck.text[stuck.span.end : stuck.end].lstrip()
    declares = stuck.previous[0] in OPENERS | {"VAR", "RELEASE", "AS", "FOR", "DOT", "STUB", "MOVED"}
    if _context(stuck) == "member":
        declares = True
    if not declares and not after.startswith((":", "=", ",", ")", "(", "}", '"', "->")):
        return None
    if stuck.type in ("IF", "ELSE") and not declares and after.startswith("("):
        return None
    word = stuck.found
    return _diagnostic(
        "E0102",
        stuck.span,
        f"`{word}` is a word of the language and cannot be a name",
        help=(
            f'choose another name; the label may stay: `{word}_ = "{word}"`'
            if _context(stuck) == "member"
            else f"choose another name, such as `{word}_`"
        ),
        fix=Fix(stuck.span, f"{word}_", f"rename it to `{word}_`, here and where it is used"),
    )


def _edition(stuck: Stuck) -> Diagnostic | None:
    if stuck.type != "EDITION" or "NAME" in stuck.accepts:
        return None
    return _diagnostic(
        "E0111",
        stuck.span,
        "the edition stands on the first line and only once",
        help="move `edition 1` to the first line of the file, or remove this one",
    )


def _repeat_limit(stuck: Stuck) -> Diagnostic | None:
    if stuck.accepts != {"INT"} or stuck.previous[0] != "MAX":
        return None
    return _diagnostic(
        "E0113",
        stuck.span,
        f"expected a whole number such as `4`, found {found(stuck.type, stuck.found)}",
        help="write the most rounds that may be needed; `stop if ...` ends the loop earlier",
    )


def _character(stuck: Stuck) -> Diagnostic | None:
    if stuck.type:
        return None
    char = stuck.found
    hint = hint_for_character(stuck.text, stuck.span) or Hint("remove it or replace it")
    named = f"`{char}`" if char.isprintable() and not char.isspace() else "this space"
    return _diagnostic(
        "E0105", stuck.span, f"{named} (U+{ord(char):04X}) has no meaning here" if not char.isascii()
        else f"{named} has no meaning here", help=hint.help, fix=hint.fix,
    )  # fmt: skip


def _unexpected(stuck: Stuck) -> Diagnostic:
    expected = in_words(stuck.accepts, _context(stuck))
    message = f"expected {expected}, found {found(stuck.type, stuck.found)}"
    if stuck.type == "$END" and stuck.end < len(stuck.text):
        message = f"expected {expected} before the next declaration"
    hint = _mistyped(stuck) or hint_for_token(
        stuck.type, stuck.text, stuck.span, stuck.accepts, stuck.previous, _inside(stuck)
    )
    hint = hint or Hint(f"write {expected} here" if expected else "remove it")
    span = stuck.span
    if stuck.type == "$END":
        at = len(stuck.text[: stuck.end].rstrip())
        span = Span(span.file, at, at)
    where = _enclosing(stuck, span.start)
    return _diagnostic("E0101", span, message, secondary=where, help=hint.help, fix=hint.fix)


def _mistyped(stuck: Stuck) -> Hint | None:
    """A keyword with a slip of the pen, where a keyword or sign was expected, or just before."""
    if stuck.type == "NAME" and not stuck.accepts & {"NAME"}:
        word, span = stuck.found, stuck.span
        candidates = [terminal.lower() for terminal in stuck.accepts if terminal in OPENERS | RESERVED | {"BECAUSE"}]
    elif stuck.previous[0] == "NAME" and _context(stuck) == "statement":
        node = stuck.values[-1]
        word, span = stuck.previous[1], node.span
        candidates = ["var", "release", "if", "repeat", "stop", "assert", "check", "return", "stub"]
    else:
        return None
    close = suggest(word, candidates, limit=1)
    if not close or word in FOREIGN_WORDS:
        return None
    return Hint(f"did you mean `{close[0]}`?", Fix(span, close[0], f"write `{close[0]}`"))


# -- surroundings ----------------------------------------------------------------------------------------------------


def _opener(stuck: Stuck) -> Any:
    """The keyword token of the unfinished declaration, or None."""
    return next(
        (value for value in stuck.values if isinstance(value, str) and getattr(value, "type", "") in OPENERS), None
    )


def _inside(stuck: Stuck) -> str:
    """The terminal of the innermost keyword whose construct is unfinished."""
    kinds = (getattr(value, "type", "") for value in reversed(stuck.values) if isinstance(value, str))
    return next((kind for kind in kinds if kind in NAMELIKE | RESERVED), "")


def _context(stuck: Stuck) -> Context:
    opener = _opener(stuck)
    if opener is None:
        return "declaration"
    kinds = [getattr(value, "type", "") for value in stuck.values if isinstance(value, str)]
    if kinds[-1:] != ["LBRACE"] and not (kinds and "LBRACE" in kinds and kinds[-1] in ("LBRACE", "COMMA")):
        return "name"
    kind: str = opener.type
    if kind in ("FLOW", "TEST"):
        return "setting" if "COLON" in kinds[kinds.index("LBRACE") :] else "statement"
    if kind == "ENUM":
        return "member"
    return "field" if kind == "RECORD" else "setting"


def _enclosing(stuck: Stuck, at: int) -> tuple[Label, ...]:
    """A pointer to the declaration, where it starts on another line."""
    opener = _opener(stuck)
    if opener is None:
        return ()
    start: int = opener.start_pos
    if "\n" not in stuck.text[start:at]:
        return ()
    name = next((value.text for value in stuck.values if hasattr(value, "text") and hasattr(value, "span")), "")
    end = start + len(opener)
    return (Label(Span(stuck.source.name, start, end), f"in this {opener}{f' `{name}`' if name else ''}"),)


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end - (text[end - 1 : end] == "\r")


def _diagnostic(
    code: str,
    span: Span,
    message: str,
    *,
    help: str,
    secondary: tuple[Label, ...] = (),
    fix: Fix | None = None,
) -> Diagnostic:
    return Diagnostic(code, CODES[code].title, Label(span, message), secondary, (), help, fix)
