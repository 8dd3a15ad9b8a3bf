"""Whatever the text, the parser answers with a tree or with diagnostics, soon and without an exception."""

from __future__ import annotations

import random
import time

import pytest

from lmgraph.source import Source
from lmgraph.source.render import render
from lmgraph.syntax.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_ERRORS, parse

HEAD = "metric m(a: R) -> float = "
MANY = 5_000


def codes(text: str) -> list[str]:
    source = Source("p.lmg", text)
    result = parse(source)
    render(result.diagnostics, {"p.lmg": source}).encode("utf-8")
    return [diagnostic.code for diagnostic in result.diagnostics]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["E0107"]),
        ("\n \t\r\n", ["E0107"]),
        ("edition 1", ["E0107"]),
        ("# only this", ["E0107"]),
        ("\ufeff", ["E0107"]),
        ("\ufeffedition 1\nlm a {}", []),
        ("edition 1\r\nlm a {\r\n  b: 1 # c\r\n}\r\n", []),
        ("edition 1\rlm a { b: 1 }\r", []),
        ("lm a\0 {}", ["E0110"]),
        ("\ud800", ["E0110"]),
        ("lm a { b: \x1b }", ["E0110"]),
        ("lm a {} \ufeff", ["E0105"]),
        ("lm a {} \u200b", ["E0105"]),
    ],
)
def test_odd_texts(text: str, expected: list[str]) -> None:
    assert codes(text) == expected


def test_size_cap() -> None:
    assert codes("#" * (MAX_CHARACTERS + 1)) == ["E0109"]
    assert codes("#" * MAX_CHARACTERS) == ["E0107"]


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "not " * MANY + "a",
        HEAD + "-" * MANY + "1",
        HEAD + "+".join(["1"] * MANY),
        HEAD + "a" + ".b" * MANY,
        HEAD + "f" + "()" * MANY,
        HEAD + "[" * MANY + "]" * MANY,
        HEAD + "if a then b else " * MANY + "c",
        HEAD + "f() catch " * MANY + "c",
        "record R { a: " + "list[" * MANY + "int" + "]" * MANY + " }",
        "record R { a: " + "private " * MANY + "int }",
        "flow F() -> (a: str) { " + "if a {} else " * MANY + "{} }",
        "lm a { b: " + "{ c: " * MANY + "1" + "}" * MANY + " }",
    ],
    ids=["not", "minus", "sum", "dots", "calls", "lists", "if", "catch", "types", "private", "else-if", "blocks"],
)
def test_deep_nesting_is_refused(text: str) -> None:
    assert codes(text) == ["E0108"]


def test_parentheses_nest_at_will() -> None:
    # They leave no trace in the tree, so nothing after the parser has to descend into them.
    assert codes(HEAD + "(" * 100_000 + "1" + ")" * 100_000) == []
    assert codes(HEAD + "(" * 100_000) == ["E0104"]


def test_depth_up_to_the_cap() -> None:
    assert codes(HEAD + "-" * (MAX_DEPTH - 1) + "1") == []
    assert codes(HEAD + "-" * (MAX_DEPTH + 1) + "1") == ["E0108"]


def test_a_declaration_too_deep_hides_no_other_error() -> None:
    deep = HEAD + "-" * 500 + "1\n"
    assert codes(deep + "lm a { b }\n" + deep) == ["E0108", "E0101", "E0108"]


@pytest.mark.parametrize(
    "piece", ['"', '"""\n', "#", "module x\n", "\\", "{", ")", "\n", "module ", 'test "', "a", "é", '"""module A(']
)
def test_a_megabyte_of_garbage(piece: str) -> None:
    start = time.perf_counter()
    found = codes((piece * MAX_CHARACTERS)[:MAX_CHARACTERS])
    assert found
    assert len(found) <= MAX_ERRORS
    assert time.perf_counter() - start < 10


def test_random_garbage() -> None:
    choose = random.Random(7)
    alphabet = ' \n"#{}()[]:=,.abmodule flow->|?\\é'
    for _ in range(200):
        assert codes("".join(choose.choices(alphabet, k=choose.randint(1, 200))))


def test_errors_are_capped() -> None:
    assert len(codes("lm a { b }\n" * 100)) == MAX_ERRORS
    assert len(codes(r'lm a { b: "\q" }' * 100)) == MAX_ERRORS
