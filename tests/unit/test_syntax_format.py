"""The canonical layout. tests/golden/fmt.md shows it; tests/property/test_format.py shows that it keeps meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.errors import CompileError, LmgraphError
from lmgraph.source import Source
from lmgraph.syntax import format as format_module
from lmgraph.syntax import tree
from lmgraph.syntax.format import WIDTH, format_source, format_tree
from lmgraph.syntax.parser import ParseResult, parse


def formatted(text: str) -> str:
    once = format_source(Source("p.lmg", text))
    assert format_source(Source("p.lmg", once)) == once
    return once


@pytest.mark.parametrize("name", ["hello.lmg", "retrieval.lmg", "banking77.lmg"])
def test_samples_are_canonical(name: str, samples: Path) -> None:
    text = (samples / name).read_text(encoding="utf-8")
    assert formatted(text) == text


@pytest.mark.parametrize("name", ["hover.lmg", "papillon.lmg", "triage.lmg"])
def test_samples_differ_in_blanks_only(name: str, samples: Path) -> None:
    text = (samples / name).read_text(encoding="utf-8")
    assert formatted(text).split() == text.split()


def test_one_line_or_many_as_the_author_began() -> None:
    assert formatted("lm a {b:1 c:2}") == "lm a { b: 1  c: 2 }\n"
    assert formatted("lm a {\nb:1 c:2}") == "lm a {\n  b: 1\n  c: 2\n}\n"
    assert formatted("lm a { b: {c:1 d:2} }") == "lm a { b: { c: 1, d: 2 } }\n"
    assert formatted("lm a {\n}") == "lm a {}\n"


def test_what_does_not_fit_is_broken() -> None:
    text = formatted("enum E { " + " ".join(f"member_number_{index}" for index in range(9)) + " }")
    assert text.startswith("enum E {\n  member_number_0\n")
    call = ", ".join(f"argument_{index}=value_{index}" for index in range(9))
    text = formatted(f"flow F(a: str) -> (b: str) {{ x = G({call}) return (b=x) }}")
    assert "  x = G(\n    argument_0=value_0,\n" in text
    assert "    argument_8=value_8,\n  )\n" in text
    chain = " + ".join(f"quite_a_long_name_{index}" for index in range(9))
    assert "\n  + quite_a_long_name_8\n" in formatted(f"metric m(a: R) -> float = {chain}")
    assert max(len(line) for line in text.split("\n")) <= WIDTH


def test_brackets_of_a_signature_open_alike() -> None:
    outputs = ", ".join(f'field_{index}: str "what it says"' for index in range(4))
    text = formatted(f"module Judge(claim: str) -> ({outputs}) {{}}")
    first, second, third, *_ = text.split("\n")
    assert second.index("(") == first.index("(") + 1
    assert third.index("field_1") == second.index("field_0")


def test_blank_lines() -> None:
    assert formatted("metric a(x: R) -> int = 1\nmetric b(x: R) -> int = 1") == (
        "metric a(x: R) -> int = 1\nmetric b(x: R) -> int = 1\n"
    )
    assert formatted("metric a(x: R) -> int = 1\n\n\n\nmetric b(x: R) -> int = 1").count("\n\n") == 1
    assert "}\n\nlm b" in formatted("lm a { c: 1 }\nlm b { c: 1 }")
    body = formatted("flow F() -> (a: int) {\n\n\n  b = 1\n\n\n  c = 2\n  d = 3\n\n}")
    assert "{\n  b = 1\n\n  c = 2\n  d = 3\n}" in body


def test_parentheses_only_where_they_count() -> None:
    def body(text: str) -> str:
        return formatted(f"metric m(a: R) -> float = {text}").partition(" = ")[2].rstrip()

    assert body("((a + b)) * (c)") == "(a + b) * c"
    assert body("a - (b - c)") == "a - (b - c)"
    assert body("(a - b) - c") == "a - b - c"
    assert body("(not a) == b") == "(not a) == b"
    assert body("(if a then b else c).d") == "(if a then b else c).d"
    assert body("-(-a)") == "--a"
    assert body("(f(a) catch b) + 1") == "(f(a) catch b) + 1"


def test_numbers_keep_their_digits() -> None:
    assert formatted("lm a { b: 0.50 c: 1e-5 d: (007) }") == "lm a { b: 0.50  c: 1e-5  d: 007 }\n"


def test_line_ends_and_marks_are_put_right() -> None:
    assert formatted("\ufeffedition 1\r\nlm a {\r\n  b: 1\t# c \r\n}") == "edition 1\n\nlm a {\n  b: 1  # c\n}\n"


def test_comments_only_is_no_program() -> None:
    with pytest.raises(CompileError, match="E0107"):
        format_source(Source("p.lmg", "# hello\n"))


def test_syntax_errors_are_raised() -> None:
    with pytest.raises(CompileError) as caught:
        format_source(Source("p.lmg", "lm a { b }\nlm c { d }"))
    assert len(caught.value.diagnostics) == 2
    assert "E0101" in str(caught.value)


def test_a_tree_without_text_is_written_too() -> None:
    file = tree.File(1, (tree.Lm(tree.Identifier("a"), tree.Block(())),))
    assert format_tree(file) == "edition 1\n\nlm a {}\n"


def test_a_fault_of_the_formatter_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_module, "format_tree", lambda file, text: "lm other {}\n")
    with pytest.raises(LmgraphError, match="nothing was written"):
        format_source(Source("p.lmg", "lm a {}"))


def test_parse_result_says_whether_it_is_ok() -> None:
    assert parse(Source("p.lmg", "lm a {}")).ok
    assert ParseResult(None, ()).ok
