"""What the fuzzer puts into programs: odd characters, numbers and names, words of the grammar, and constructs."""

from __future__ import annotations

import re

from lmgraph_grammar import grammar_text

CHARACTERS = (
    "\x00", "\x07", "\x1b", "\x7f", "\x85", "\r", "\t", "\v", "\f", "\n", " ", "\ufeff", "\u00a0", "\u00ad", "\u0301",
    "\u200b", "\u200d", "\u202e", "\u2028", "\u2029", "\ufffd", "\uffff", "\ud800", "\udfff", "\U0001f600",
    "\U0010ffff",
    "é", "ß", "ı", "ſ", "К", "٣", "１", "中", "“", "’", "«", '"', "'", "`", "\\", "#", "{", "}", "(", ")", "[", "]",
    ";", "&", "|", "!", "%", "$", "@", "~", "^", "?", ":", "=", "-", ">", "<", "/", "*", ".", ",", "_", "0", "9", "e",
    "u{", '"""', "\\u{110000}", "\\u{D800}", "\\x", "->", ":=", "||", "//",
)  # fmt: skip
NUMBERS = (
    "0", "1", "-1", "2", "0.0", "1.0", "1.5", "1e308", "1e309", "1e-320", "0.1", "999999999999999999",
    "9999999999999999999", "1" * 400, "1000001", "128", "2147483648",
)  # fmt: skip
NAMES = (
    "str", "int", "float", "bool", "list", "map", "len", "it", "text", "vote", "finish", "steps", "reasoning",
    "default", "tool", "test", "max", "out", "trace", "None", "__class__", "a" * 300,
)  # fmt: skip

WRAPPERS = {
    "expression": (
        "(@)", "[@]", "[@][0]", "(not @)", "(-@)", "(@ + 1)", "(1 < @ < 2)", "(@ == @)", "(true == @ == true)",
        "len(@)", "(if @ then 1 else 2)", "(if true then @ else @)", "(if true then @ else null)", "[x for x in @]",
        "F(@)", "[@ for x in @]", "[y for y in [1] if @]", "(@ catch @)", "(1 catch @)", "(@ and @)", "(true or @)",
        "@.text", "(@ in [@])",
    ),
    "type": ("list[@]", "@?", "map[str, @]", "@ | str", "@ | @", "private @"),
    "statement": (
        "if true { @ }", "if true { @ } else { @ }", "repeat max 2 { @ }", "repeat max 2 as i { @ stop if true }",
    ),
}  # fmt: skip
"""Constructs around a node, which stands where the signs are."""


def grammar_words() -> list[str]:
    """Keywords and signs of the language."""
    rules = "\n".join(line for line in grammar_text().splitlines() if "/" not in line and not line.startswith("//"))
    return sorted(set(re.findall(r'"([^"\s]+)"', rules)) | {'"text"', '"""text"""', "name", "1", "0.5"})
