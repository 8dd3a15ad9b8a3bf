"""Grammar terminals in a reader's words: what may stand here, and what was found instead. Knows nothing of causes."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal


def _terminals(names: str) -> frozenset[str]:
    return frozenset(names.split())


RESERVED = _terminals("TRUE FALSE NULL IF THEN ELSE AND OR NOT IN FOR WHERE PRIVATE CATCH")
"""Keywords that are never names."""

OPENERS = _terminals("FROM ENUM RECORD LM TOOL RETRIEVER FN MODULE FLOW METRIC DATASET OBJECTIVE TEST MOVED")
"""Keywords that open a declaration."""

NAMELIKE = OPENERS | _terminals(
    "NAME EDITION IMPORT AS PY VAR RELEASE BECAUSE REPEAT MAX STOP STUB ASSERT CHECK RETURN"
)
"""What the rule `name` accepts."""

SIGNS = {
    "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}", "COMMA": ",", "COLON": ":",
    "DOT": ".", "EQUAL": "=", "VBAR": "|", "QMARK": "?", "PLUS": "+", "MINUS": "-", "STAR": "*", "SLASH": "/",
    "ARROW": "->", "ASSIGN": ":=",
}  # fmt: skip

_EXPRESSION = _terminals("FLOAT INT STRING TRUE FALSE NULL NOT MINUS LPAR LSQB IF") | NAMELIKE
_TYPE = frozenset({"PRIVATE", "STRING", "INT"}) | NAMELIKE
_STATEMENT = NAMELIKE | {"IF"}
_CONTINUES = _terminals("PLUS MINUS STAR SLASH COMPARE AND OR NOT IN CATCH DOT LPAR LSQB")
_TYPE_CONTINUES = _terminals("QMARK VBAR DOT LSQB EQUAL STRING WHERE")
_LITERALS = {"STRING": "a string in double quotes", "INT": "a whole number", "FLOAT": "a number"}

Context = Literal["declaration", "statement", "setting", "field", "member", "name"]


def in_words(accepts: Set[str], context: Context) -> str:
    """What may stand here, such as "`:`", "a type" or "`,` or `)`"."""
    rest = set(accepts)
    words: list[str] = []
    # A finished expression or type could always go on; what is missing is most likely what follows it.
    if "PLUS" in rest and rest - _CONTINUES:
        rest -= _CONTINUES
    if "QMARK" in rest and rest - _TYPE_CONTINUES:
        rest -= _TYPE_CONTINUES
    if rest >= {"FLOAT", "TRUE"}:
        rest -= _EXPRESSION
        words.append("a value")
    elif rest >= {"PRIVATE", "NAME"}:
        rest -= _TYPE
        words.append("a type")
    elif "NAME" in rest:
        words.append(_name_in_words(rest, context))
        rest -= _STATEMENT
    elif rest >= OPENERS:
        rest -= OPENERS | {"EDITION"}
        words.append("a declaration")
    signs = sorted(word_of(terminal) for terminal in rest if terminal not in ("$END", "LONG_STRING"))
    if "$END" in rest and not words:
        words.append("the end of the file")
    words[:0] = signs
    return one_of(words[:6])


def _name_in_words(accepts: Set[str], context: Context) -> str:
    if "IF" in accepts:
        return "a statement"
    if context == "setting":
        return "a setting such as `key: value`"
    if context == "field":
        return "a field such as `name: str`"
    if context == "member":
        return "a member's name"
    return "a name"


def word_of(terminal: str) -> str:
    """One terminal: "`:`", "`else`", "a string in double quotes"."""
    if terminal in SIGNS:
        return f"`{SIGNS[terminal]}`"
    if terminal in _LITERALS:
        return _LITERALS[terminal]
    if terminal == "COMPARE":
        return "a comparison such as `==`"
    return f"`{terminal.lower()}`"


def found(terminal: str, text: str) -> str:
    """What stands there: "the name `str`", "the end of the file", "`}`"."""
    if terminal == "$END":
        return "the end of the file"
    if terminal == "NAME":
        return f"the name `{_short(text)}`"
    if terminal == "STRING":
        return f"the string {_short(text)}"
    if terminal == "LONG_STRING":
        return 'a text between `"""`'
    if terminal in ("INT", "FLOAT"):
        return f"the number {_short(text)}"
    if terminal in NAMELIKE or terminal in RESERVED:
        return f"the word `{text}`"
    return f"`{_short(text)}`"


def one_of(words: list[str]) -> str:
    """ "a", "a or b", "a, b or c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"
