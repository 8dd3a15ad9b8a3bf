"""Formatting any program keeps its tree and its comments, and formatting it again changes nothing.

Programs come from generated trees, and from the samples with comments and line breaks put in at random places.
Damaged samples show that the parser answers every text with a tree or with diagnostics.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmgraph.errors import CompileError
from lmgraph.source import Source
from lmgraph.source.render import render
from lmgraph.syntax import tree
from lmgraph.syntax.comments import Margin
from lmgraph.syntax.format import format_source, format_tree
from lmgraph.syntax.parser import parse
from lmgraph.syntax.strings import read_long_string, read_string, write_long_string, write_string

SAMPLES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (Path(__file__).parent.parent / "data/samples").glob("*.lmg")
}
SAMPLE = st.sampled_from(sorted(SAMPLES))

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NAME = st.one_of(
    st.sampled_from(["a", "notes", "Judge", "test", "check", "return", "module", "fn", "max", "x1", "because", "py"]),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(
        lambda name: (
            name
            not in [
                "true",
                "false",
                "null",
                "if",
                "then",
                "else",
                "and",
                "or",
                "not",
                "in",
                "for",
                "where",
                "private",
                "catch",
            ]
        )
    ),
)
IDENTIFIER = st.builds(tree.Identifier, NAME)
STRING = st.builds(tree.Constant, TEXT)


def tuples(strategy: st.SearchStrategy[Any], low: int = 0, high: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, min_size=low, max_size=high).map(tuple)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


PLAIN_TYPE = st.recursive(
    st.one_of(
        st.builds(tree.NamedType, tuples(IDENTIFIER, 1, 2)),
        st.builds(tree.LiteralTypeNode, st.one_of(TEXT, st.integers(0, 99))),
    ),
    lambda inner: st.one_of(
        st.builds(tree.GenericType, IDENTIFIER, tuples(inner, 1, 2)), st.builds(tree.PrivateTypeNode, inner)
    ),
    max_leaves=3,
)
OPTION = st.one_of(PLAIN_TYPE, st.builds(tree.OptionalTypeNode, PLAIN_TYPE))
TYPE = st.one_of(OPTION, st.builds(tree.UnionTypeNode, tuples(OPTION, 2, 3)))

LEAF = st.one_of(
    st.builds(tree.Reference, NAME),
    st.builds(
        tree.Constant,
        st.one_of(TEXT, st.integers(0, 10**17), st.floats(0, 1e300, allow_nan=False), st.booleans(), st.none()),
    ),
)


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    argument = st.builds(tree.Argument, optional(IDENTIFIER), inner)
    comparison = st.integers(1, 2).flatmap(
        lambda count: st.builds(
            tree.Comparison,
            tuples(inner, count + 1, count + 1),
            tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"]), count, count),
        )
    )
    return st.one_of(
        st.builds(tree.Attribute, inner, IDENTIFIER),
        st.builds(tree.Index, inner, inner),
        st.builds(tree.CallExpression, inner, tuples(argument)),
        st.builds(tree.ListExpression, tuples(inner)),
        st.builds(tree.Comprehension, inner, IDENTIFIER, inner, optional(inner)),
        st.builds(tree.Conditional, inner, inner, inner),
        comparison,
        st.builds(tree.Binary, st.sampled_from(["+", "-", "*", "/", "and", "or"]), inner, inner),
        st.builds(tree.Unary, st.sampled_from(["-", "not"]), inner),
        st.builds(tree.Catch, inner, inner),
    )


EXPRESSION = st.recursive(LEAF, larger, max_leaves=6)
ARGUMENTS = tuples(st.builds(tree.Argument, optional(IDENTIFIER), EXPRESSION))
FIELD = st.builds(tree.FieldNode, IDENTIFIER, TYPE, optional(LEAF), optional(TEXT), optional(EXPRESSION))
SIGNATURE = st.one_of(
    st.builds(tree.Signature, tuples(FIELD), tuples(FIELD, 1)),
    st.builds(tree.Signature, tuples(FIELD), st.just(()), TYPE),
)
BLOCK = st.recursive(
    st.builds(tree.Block, tuples(st.builds(tree.Entry, IDENTIFIER, LEAF))),
    lambda inner: st.builds(tree.Block, tuples(st.builds(tree.Entry, IDENTIFIER, st.one_of(inner, EXPRESSION)))),
    max_leaves=2,
)
ENTRY = st.builds(tree.Entry, IDENTIFIER, st.one_of(EXPRESSION, BLOCK, st.just(tree.Reference("private"))))
CHECKS = st.one_of(st.builds(tree.Assert, EXPRESSION, TEXT), st.builds(tree.Check, EXPRESSION, TEXT))
STATEMENT = st.recursive(
    st.one_of(
        st.builds(tree.Bind, IDENTIFIER, optional(TYPE), EXPRESSION),
        st.builds(tree.Var, IDENTIFIER, optional(TYPE), EXPRESSION),
        st.builds(tree.Update, IDENTIFIER, EXPRESSION),
        st.builds(tree.Release, IDENTIFIER, EXPRESSION, TEXT),
        st.builds(tree.Stop, EXPRESSION),
        st.builds(tree.Return, ARGUMENTS),
        CHECKS,
    ),
    lambda inner: st.one_of(
        st.builds(tree.If, EXPRESSION, tuples(inner), optional(tuples(inner))),
        st.builds(tree.Repeat, st.integers(0, 9), optional(IDENTIFIER), tuples(inner)),
    ),
    max_leaves=3,
)
SOURCE = st.builds(tree.FileSource, IDENTIFIER, STRING)
PYTHON = st.builds(tree.PythonReference, STRING)
MEMBER = st.builds(tree.EnumMemberNode, IDENTIFIER, optional(TEXT), optional(TEXT))
DECLARATION = st.one_of(
    st.builds(tree.Import, STRING, tuples(st.builds(tree.ImportName, IDENTIFIER, optional(IDENTIFIER)), 1)),
    st.builds(tree.Enum, IDENTIFIER, tuples(MEMBER, 1)),
    st.builds(tree.Enum, IDENTIFIER, st.just(()), SOURCE),
    st.builds(tree.Record, IDENTIFIER, optional(TEXT.map(str.strip)), tuples(FIELD)),
    st.builds(tree.Lm, IDENTIFIER, BLOCK),
    st.builds(
        tree.Extern, st.sampled_from(["tool", "retriever", "fn"]), IDENTIFIER, SIGNATURE, PYTHON, optional(BLOCK)
    ),
    st.builds(tree.Module, IDENTIFIER, SIGNATURE, optional(TEXT), tuples(ENTRY), tuples(CHECKS)),
    st.builds(tree.Instance, IDENTIFIER, IDENTIFIER, optional(BLOCK)),
    st.builds(tree.Flow, IDENTIFIER, SIGNATURE, optional(TEXT), tuples(STATEMENT)),
    st.builds(tree.Dataset, IDENTIFIER, TYPE, SOURCE, optional(BLOCK)),
    st.builds(tree.Metric, IDENTIFIER, SIGNATURE, st.one_of(EXPRESSION, PYTHON)),
    st.builds(tree.Objective, IDENTIFIER, BLOCK),
    st.builds(
        tree.Test,
        TEXT,
        tuples(st.one_of(STATEMENT, st.builds(tree.Stub, IDENTIFIER, tuples(ARGUMENTS, 1, 2)))),
    ),
    st.builds(tree.Moved, IDENTIFIER, IDENTIFIER),
)
FILE = st.builds(tree.File, st.sampled_from([None, 1]), tuples(DECLARATION, 1, 2))


@given(FILE)
def test_a_generated_tree_survives_being_written_and_parsed(file: tree.File) -> None:
    text = format_tree(file)
    result = parse(Source("generated.lmg", text))
    assert result.ok, render(result.diagnostics, {"generated.lmg": Source("generated.lmg", text)})
    assert result.tree == file
    assert format_source(Source("generated.lmg", text)) == text


@given(TEXT)
def test_any_text_survives_as_a_string(text: str) -> None:
    assert read_string(write_string(text)).text == text


@given(st.text(st.sampled_from(' \t\n\r"\\ab\u00a0'), max_size=12), st.integers(0, 4))
def test_any_text_survives_as_an_instruction(text: str, indent: int) -> None:
    assert read_long_string(("\n" + " " * indent).join(write_long_string(text))).text == text


_GAPS = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*|(?P<gap>(?<=[^\s])\s+(?=[^\s]))', re.DOTALL
)


@given(SAMPLE, st.integers(0, 2**32))
def test_comments_and_breaks_in_odd_places(name: str, seed: int) -> None:
    text = _shaken(SAMPLES[name], random.Random(seed))
    source = Source(name, text)
    before = parse(source)
    assert before.ok
    formatted = format_source(source)
    after = parse(Source(name, formatted))
    assert after.tree == before.tree
    assert sorted(Margin(formatted).total) == sorted(Margin(text).total)
    assert format_source(Source(name, formatted)) == formatted


def _shaken(text: str, choose: random.Random) -> str:
    """``text`` with comments, blank lines and line breaks in some of the gaps between its tokens."""
    fillers = ["\n", "\n\n\n", " # why\n", "\n  # above\n", "\n\n# apart\n\n", "  ", "\t", "\r\n"]

    def fill(match: re.Match[str]) -> str:
        if match["gap"] is None or choose.random() > 0.08:
            return match[0]
        return choose.choice(fillers) + match["gap"]

    return _GAPS.sub(fill, text)


@given(SAMPLE, st.integers(0, 2**32))
def test_damaged_programs_get_diagnostics_not_exceptions(name: str, seed: int) -> None:
    choose = random.Random(seed)
    text = SAMPLES[name]
    for _ in range(choose.randint(1, 4)):
        at = choose.randrange(len(text))
        cut = choose.randint(0, 6)
        text = (
            text[:at] + choose.choice(["", "{", ")", '"', '"""', " if ", "\n", ";", "é", "\0", "->"]) + text[at + cut :]
        )
    source = Source(name, text)
    result = parse(source)
    assert result.ok or render(result.diagnostics, {name: source})
    for diagnostic in result.diagnostics:
        assert 0 <= diagnostic.primary.span.start <= diagnostic.primary.span.end <= len(text)
        assert diagnostic.help
    if not result.ok:
        with pytest.raises(CompileError):
            format_source(source)


@given(st.text(max_size=80))
def test_any_text_is_answered(text: str) -> None:
    source = Source("any.lmg", text)
    result = parse(source)
    assert result.diagnostics or result.tree
    render(result.diagnostics, {"any.lmg": source}).encode("utf-8")
