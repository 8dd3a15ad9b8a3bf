"""What constraints say in a schema is what llguidance, which the local engine decodes under, holds a model to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmgraph.graph.expressions import IT, Apply, Const, Ref
from lmgraph.graph.types import (
    FLOAT,
    INT,
    STR,
    Constraint,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    Type,
    UnionType,
)
from lmgraph.program.json_schema import field_json_schema
from lmgraph.runtime.engine import JsonSchema, Regex
from lmgraph.runtime.parse import OutputForm

llguidance = pytest.importorskip("llguidance")

SEARCH = RecordType("Search", (Field("tool", LiteralType(("search",))), Field("query", STR)))
FINISH = RecordType("Finish", (Field("tool", LiteralType(("finish",))),))


def accepts(grammar: Any, text: str) -> bool:
    tokenizer = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = tokenizer.tokenize_str(text)
    return bool(matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) and matcher.is_accepting())


def field(type_: Type, *bounds: tuple[Any, float], length: bool = False) -> Field:
    subject: Any = Apply("len", (Ref(IT),)) if length else Ref(IT)
    conditions = tuple(Apply(operator, (subject, Const(number))) for operator, number in bounds)
    return Field("f", type_, constraint=Constraint(Apply("and", conditions), "as written") if bounds else None)


@pytest.mark.parametrize(
    ("held", "texts"),
    [
        (field(FLOAT, (">=", 0.0), ("<=", 1.0)), {"0": True, "0.5": True, "1.0": True, "1.1": False, "-1": False}),
        (field(FLOAT, (">", 0.0)), {"0": False, "0.0": False, "0.1": True, "-0.1": False}),
        (field(FLOAT, (">", 0.5), ("<", 2)), {"0.5": False, "0.51": True, "1.99": True, "2": False}),
        (field(INT, (">", 0), ("<=", 50)), {"0": False, "1": True, "50": True, "51": False}),
        (field(INT, (">=", -3)), {"-4": False, "-3": True, "1000": True}),
        (field(STR, (">", 0), ("<=", 3), length=True), {'""': False, '"abc"': True, '"abcd"': False, '"日本"': True}),
        (field(ListType(STR), (">", 0), ("<", 3), length=True), {"[]": False, '["a"]': True, '["a","b","c"]': False}),
        (field(OptionalType(INT), (">", 0)), {"0": False, "1": True, "null": True}),
        (field(MapType(INT)), {"{}": True, '{"a":1}': True, '{"a":"x"}': False}),
        (field(UnionType((SEARCH, FINISH))), {'{"tool":"finish"}': True, '{"tool":"search"}': False}),
    ],
)
def test_a_decoder_is_held_to_what_the_schema_says(held: Field, texts: dict[str, bool]) -> None:
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(field_json_schema(held)))
    assert {text: accepts(grammar, text) for text in texts} == texts


@pytest.mark.parametrize(
    ("held", "texts"),
    [
        (field(STR, (">", 0), ("<=", 5), length=True), {"": False, "two w": True, "a\nb": True, " a": False}),
        (field(STR, ("<=", 2), length=True), {"": True, "日本": True, "abc": False}),
        (field(FLOAT, ("<", 1)), {"0.5": True, "1": False}),
        (field(INT, (">", 300)), {"300": False, "301": True}),
    ],
)  # fmt: skip
def test_bare_outputs_are_held_too(held: Field, texts: dict[str, bool]) -> None:
    constraint = OutputForm((held,)).constraint
    if isinstance(constraint, Regex):
        grammar = llguidance.LLMatcher.grammar_from_regex(constraint.pattern)
    else:
        assert isinstance(constraint, JsonSchema)
        grammar = llguidance.LLMatcher.grammar_from_json_schema(constraint.schema)
    assert {text: accepts(grammar, text) for text in texts} == texts
