"""The TextMate grammar colours every keyword of the language where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

GRAMMAR = Path(__file__).parents[2] / "grammar"
TEXTMATE = json.loads((GRAMMAR / "editors" / "lmg.tmLanguage.json").read_text("utf-8"))

PLACES = {
    "edition": "edition 1",
    "from": 'from "a.lmg" import A as B',
    "import": 'from "a.lmg" import A as B',
    "as": 'from "a.lmg" import A as B',
    "moved": "moved A -> B",
    "enum": "enum E { a  b }",
    "record": "record R { a: str }",
    "lm": 'lm small { model: "a" }',
    "tool": 'tool send(text: str) -> bool = py "mail:send"',
    "retriever": 'retriever search(q: str) -> list[str] = py "index:search"',
    "fn": 'fn normal(text: str) -> str = py "texts:normal"',
    "py": 'fn normal(text: str) -> str = py "texts:normal"',
    "module": "module M(a: str) -> (b: str) {}",
    "flow": "flow F(a: str) -> (b: str) {",
    "dataset": 'dataset d: R = jsonl "rows.jsonl"',
    "metric": "metric m(gold: R, pred: F.out) -> bool = gold.a == pred.a",
    "objective": "objective o { flow: F }",
    "test": 'test "it works" {',
    "stub": '  stub M -> (b="x")',
    "var": "  var x: int = 0",
    "release": '  release open = x because "it is public"',
    "because": '  release open = x because "it is public"',
    "if": "  if a { x := 1 } else { x := 2 }",
    "else": "  if a { x := 1 } else { x := 2 }",
    "then": "  x = if a then 1 else 2",
    "repeat": "  repeat max 3 as i {",
    "max": "  repeat max 3 as i {",
    "stop": "    stop if done",
    "assert": '  assert ok else "no"',
    "check": '  check ok else "no"',
    "return": "  return (b=x)",
    "for": "  xs = [f(y) for y in ys if y not in zs]",
    "in": "  xs = [f(y) for y in ys if y not in zs]",
    "not": "  xs = [f(y) for y in ys if y not in zs]",
    "and": "  x = a and b or c",
    "or": "  x = a and b or c",
    "where": "  sure: float where it > 0.0",
    "private": "  note: private str",
    "catch": "  x = M(a) catch null",
    "null": "  x = M(a) catch null",
    "true": "  x = true",
    "false": "  x = false",
}  # fmt: skip


def keywords() -> set[str]:
    rules = re.sub(r"//.*", "", (GRAMMAR / "lmgraph_grammar" / "lmg.lark").read_text("utf-8"))
    return set(re.findall(r'"([a-z]+)"', rules))


def patterns(included: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """The patterns in the order in which an editor tries them, includes followed."""
    for one in included:
        name = one.get("include")
        if isinstance(name, str):
            yield from patterns([TEXTMATE["repository"][name.removeprefix("#")]])
        elif isinstance(inner := one.get("patterns"), list) and "begin" not in one:
            yield from patterns(inner)
        else:
            yield one


def scopes(line: str) -> dict[str, str]:
    """What each piece of the line is coloured as, by its text; a string is one piece."""
    found: dict[str, str] = {}
    at = 0
    while at < len(line):
        best: tuple[int, re.Match[str], dict[str, object]] | None = None
        for one in patterns(TEXTMATE["patterns"]):
            rule = str(one["match"]) if "match" in one else f'{one["begin"]}[^"]*(?:{one["end"]})'
            match = re.compile(rule).search(line, at)
            if match is not None and match.end() > match.start() and (best is None or match.start() < best[0]):
                best = (match.start(), match, one)
        if best is None:
            return found
        _, match, one = best
        captures = one.get("captures")
        if isinstance(captures, dict):
            for number, scope in captures.items():
                found[match[int(number)]] = scope["name"]
        else:
            found[match[0]] = str(one["name"])
        at = match.end()
    return found


def test_there_is_a_place_for_every_keyword() -> None:
    assert set(PLACES) == keywords()


@pytest.mark.parametrize("keyword", sorted(PLACES))
def test_keywords_are_coloured(keyword: str) -> None:
    assert re.match(r"keyword|storage|constant\.language", scopes(PLACES[keyword]).get(keyword, "none")), keyword


def test_names_are_no_keywords() -> None:
    assert scopes("objective o { flow: F }")["flow"] == "variable.parameter.lmg"
    assert scopes("  x = M(test=1)")["test"] == "variable.parameter.lmg"
    assert scopes("  x = Judge(claim)")["Judge"] == "entity.name.function.lmg"
    assert scopes('  x = "if a then b" # for c')['"if a then b"'] == "string.quoted.double.lmg"
    assert "for" not in scopes('  x = "if a then b" # for c')


def test_declared_names_are_types() -> None:
    for line in ("module M(a: str) -> (b: str) {}", "module M = N {}", "moved M -> N", "  stub M -> (b=1)"):
        assert scopes(line)["M"] == "entity.name.type.lmg", line


def test_brackets_and_words_agree_with_the_language() -> None:
    settings = json.loads((GRAMMAR / "editors" / "language-configuration.json").read_text("utf-8"))
    assert settings["comments"]["lineComment"] == "#"
    assert re.fullmatch(settings["wordPattern"], "some_Name2")
