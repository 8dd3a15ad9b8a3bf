"""Next steps for what people bring along from other languages: `while`, `;`, `&&`, quotes of other kinds.

Every hint looks at one stuck place and the text around it; no hint decides whether something is an error.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from lmgraph.source.diagnostic import Fix
from lmgraph.source.text import Span


@dataclass(frozen=True, slots=True)
class Hint:
    """The next step, with an edit where one edit mends it."""

    help: str
    fix: Fix | None = None


FOREIGN_WORDS = {
    "while": "a loop is `repeat max N { ... stop if condition }` with N written out",
    "for": "`[f(y) for y in ys]` maps over a list; a loop is `repeat max N { ... }`",
    "loop": "a loop is `repeat max N { ... stop if condition }`",
    "break": "`stop if condition` ends a loop",
    "continue": "`if condition { ... }` around the rest of the loop's body skips it",
    "elif": "write `else if`",
    "let": "a name is bound by `name = value`, and a name that changes by `var name = value`",
    "const": "a name is bound by `name = value`",
    "def": "`flow Name(...) -> (...) { ... }` wires modules; Python functions enter by `fn`, `tool` or `retriever`",
    "function": "`flow Name(...) -> (...) { ... }` wires modules; Python functions enter by `fn`",
    "func": "`flow Name(...) -> (...) { ... }` wires modules; Python functions enter by `fn`",
    "class": 'typed data is `record Name { field: type "description" }`',
    "struct": 'typed data is `record Name { field: type "description" }`',
    "type": "name a set of values by `enum`, or fields by `record`",
    "import": 'write `from "file.lmg" import Name`',
    "print": "there is no printing: return the value, or look at the trace of a run",
    "try": "`Call(...) catch fallback` gives a value where the call fails",
    "signature": "a step is `module Name(inputs) -> (outputs) { ... }`",
    "model": 'a model is `lm name { model: "..." }`',
    "prompt": 'an instruction is a text between `"""` at the start of a module\'s body',
    "async": "calls that do not depend on each other run in parallel by themselves",
    "await": "calls that do not depend on each other run in parallel by themselves",
}

_QUOTES = "\u2018\u2019\u201c\u201d\u00ab\u00bb\u201e'`"


def hint_for_character(text: str, span: Span) -> Hint | None:
    """For a character that begins no token."""
    char = text[span.start]
    if char in _QUOTES:
        return _quotes(text, span)
    if char == ";":
        return Hint("nothing separates statements: remove the `;`", Fix(span, "", "remove the `;`"))
    if char == "&":
        doubled = Span(span.file, span.start, span.start + 2 if text.startswith("&&", span.start) else span.end)
        return Hint("write `and`", Fix(doubled, "and", "write `and`"))
    if char == "!":
        return Hint("write `not`; unequal is `!=`", Fix(span, "not ", "write `not`"))
    if char.isspace():
        return Hint("replace this unusual space by a plain one", Fix(span, " ", "write a plain space"))
    if char.isalpha():
        return Hint("names are made of the letters a-z and A-Z, digits and `_`; strings may hold any text")
    if char == "%":
        return Hint("there is no remainder or formatting; Python code enters by `fn`")
    if char in "@$\\~^":
        return Hint("remove it; text with special signs stands between double quotes")
    return None


def _quotes(text: str, span: Span) -> Hint:
    closing = next((at for at in range(span.start + 1, len(text)) if text[at] in _QUOTES + "\n"), len(text))
    if closing >= len(text) or text[closing] == "\n":
        return Hint('strings stand between double quotes: `"text"`')
    inner = text[span.start + 1 : closing].replace("\\", "\\\\").replace('"', '\\"')
    fix = Fix(Span(span.file, span.start, closing + 1), f'"{inner}"', "use double quotes")
    return Hint("strings stand between double quotes", fix)


def hint_for_token(
    terminal: str, text: str, span: Span, accepts: Set[str], previous: tuple[str, str], inside: str
) -> Hint | None:
    """For a token that cannot stand where it stands.

    ``previous`` is the token before, terminal and text; ``inside`` the innermost unfinished keyword.
    """
    found = text[span.start : span.end]
    before, before_text = previous
    if terminal in ("NAME", "IMPORT", "FOR") and "NAME" not in accepts and found in FOREIGN_WORDS:
        return Hint(FOREIGN_WORDS[found])
    if terminal == "FOR":
        return Hint(FOREIGN_WORDS["for"])
    if before == "NAME" and before_text in FOREIGN_WORDS and "EQUAL" in accepts:
        return Hint(FOREIGN_WORDS[before_text])
    if terminal == "SLASH" and text[span.start - 1 : span.end + 1].count("/") > 1:
        return Hint("a comment starts with `#`")
    if terminal == "VBAR" and "PLUS" in accepts:
        return Hint("write `or`", Fix(Span(span.file, span.start, span.start + text.startswith("||", span.start) + 1),
                                      "or", "write `or`"))  # fmt: skip
    if terminal == "EQUAL" and "COMPARE" in accepts:
        return Hint("`==` compares; `=` only binds a name", Fix(span, "==", "write `==`"))
    if inside == "RELEASE" and "BECAUSE" in accepts:
        return Hint('a release says why it is safe: `because "reason"`')
    if inside == "THEN" and "ELSE" in accepts:
        return Hint("a conditional value has both parts: `if condition then a else b`")
    if inside in ("ASSERT", "CHECK") and "ELSE" in accepts:
        return Hint('`assert` and `check` end with a message: `else "what went wrong"`')
    return _shape(terminal, span, accepts, before, before_text, text)


def _shape(terminal: str, span: Span, accepts: Set[str], before: str, before_text: str, text: str) -> Hint | None:
    """Parts that are missing or in another language's order."""
    gap = Span(span.file, len(text[: span.start].rstrip()), len(text[: span.start].rstrip()))
    if accepts == {"COLON"} or (accepts == {"COLON", "DOT"} and before == "NAME"):
        if terminal in ("COMMA", "RPAR", "RBRACE", "STRING"):
            return Hint(f"write its type, as in `{before_text or 'name'}: str`")
        return Hint("between a name and its type or value stands `:`", Fix(gap, ":", "insert `:`"))
    if "ARROW" in accepts and "NAME" not in accepts:
        return Hint("a signature is `(inputs) -> (outputs)`, as in `(question: str) -> (answer: str)`")
    if before == "RETURN" and "LPAR" in accepts:
        return Hint("what is returned stands in parentheses: `return (name)` or `return (name=value)`")
    if before_text == "stub":
        return Hint("`stub` stands directly in the body of a `test`")
    if "ASSIGN" in accepts and terminal == "LPAR":
        return Hint("bind the result to a name: `result = Name(...)`")
    if "ASSIGN" in accepts and terminal in ("PLUS", "MINUS", "STAR", "SLASH"):
        return Hint(f"write `{before_text} := {before_text} {text[span.start]} ...`")
    if terminal == "COLON" and "COMMA" in accepts and "RPAR" in accepts:
        spaced = Span(span.file, span.start, span.end + len(text[span.end :]) - len(text[span.end :].lstrip(" ")))
        return Hint("an argument is written `name=value`", Fix(spaced, "=", "write `=`"))
    if terminal == "STRING" and "LONG_STRING" in accepts:
        return Hint('an instruction stands between `"""` and `"""`')
    if terminal == "LONG_STRING" and "STRING" in accepts:
        return Hint('`"""` is for instructions and descriptions of a whole declaration; use one double quote here')
    if terminal in ("NAME", "VAR", "IF", "RETURN", "REPEAT", "STOP", "ASSERT", "CHECK") and "FLOW" in accepts \
            and "NAME" not in accepts and text[span.end :].lstrip()[:1] in ("=", ":"):  # fmt: skip
        return Hint("statements stand in the body of a `flow` or a `test`")
    return None
