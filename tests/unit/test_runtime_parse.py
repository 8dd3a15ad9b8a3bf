"""Parsing: what a model wrote, read by type, strictly and tolerantly."""

from __future__ import annotations

import json
import re

import pytest

from lmgraph.graph.expressions import IT, Apply, Const, Expr, Ref
from lmgraph.graph.graph import ModuleSpec
from lmgraph.graph.types import (
    BOOL,
    FLOAT,
    INT,
    STR,
    Constraint,
    EnumMember,
    EnumType,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    Type,
    UnionType,
)
from lmgraph.runtime.engine import Choices, JsonSchema, Regex
from lmgraph.runtime.parse import OutputForm, ParseProblem

KIND = EnumType("Kind", (EnumMember("a", "play music"), EnumMember("b", "play"), EnumMember("c", "Stop")))
PAIR = (Field("kind", KIND), Field("n", ListType(INT)))


def form(*fields: Field, reasons: bool = False) -> OutputForm:
    return OutputForm.of(ModuleSpec("M", (), fields, "", reasons=reasons))


def one(type_: Type) -> OutputForm:
    return form(Field("out", type_))


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (STR, "  some text\n", "some text"),
        (INT, " -12 ", -12),
        (FLOAT, "3", 3.0),
        (BOOL, "true", True),
        (KIND, "play music", "play music"),
        (LiteralType(("yes", "no")), "no", "no"),
        (LiteralType((1, 2)), "2", 2),
    ],
)
def test_bare_outputs(type_: Type, text: str, value: object) -> None:
    assert one(type_).read(text) == {"out": value}


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (INT, "twelve"),
        (INT, "1.5"),
        (INT, ""),
        (INT, "1" * 5000),
        (FLOAT, "NaN"),
        (FLOAT, "Infinity"),
        (BOOL, "True"),
        (BOOL, "1"),
        (KIND, "Play Music"),
        (KIND, "stop"),
        (KIND, ""),
        (LiteralType((1, 2)), "3"),
    ],
)
def test_strict_refuses(type_: Type, text: str) -> None:
    with pytest.raises(ParseProblem, match="expected"):
        one(type_).read(text)


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (BOOL, "True.", True),
        (INT, " `7` ", 7),
        (KIND, "Play Music", "play music"),
        (KIND, '"stop"', "Stop"),
        (KIND, "The answer is: Stop!", "Stop"),
        (KIND, "I would say stop", "Stop"),
        (KIND, "stop\nbecause of the noise", "Stop"),
    ],
)
def test_tolerant_takes_what_was_plainly_meant(type_: Type, text: str, value: object) -> None:
    assert one(type_).read(text, tolerant=True) == {"out": value}


@pytest.mark.parametrize("text", ["either play or stop", "playing", "", "\n\nStop" * 0])
def test_tolerant_does_not_guess(text: str) -> None:
    with pytest.raises(ParseProblem):
        one(KIND).read(text, tolerant=True)


def test_json_outputs() -> None:
    assert form(*PAIR).read('{"kind": "play", "n": [1]}') == {"kind": "play", "n": [1]}
    around = 'Sure! Here it is: {"kind": "play", "n": []} Anything else?'
    assert form(*PAIR).read(around, tolerant=True) == {"kind": "play", "n": []}
    with pytest.raises(ParseProblem):
        form(*PAIR).read(around)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"kind": "play"}',
        '{"kind": "x", "n": []}',
        '{"kind": "play", "n": ["1"]}',
        '{"kind": "play", "n": [], "more": 1}',
        '{"n":' * 4000,
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("tolerant", [False, True])
def test_json_that_does_not_fit_is_one_problem(text: str, tolerant: bool) -> None:
    with pytest.raises(ParseProblem) as caught:
        form(*PAIR).read(text, tolerant=tolerant)
    assert len(str(caught.value)) < 400


def test_thinking_first_puts_reasoning_first_and_is_json() -> None:
    with_reasons = form(Field("kind", KIND), reasons=True)
    assert [field.name for field in with_reasons.fields] == ["reasoning", "kind"]
    assert with_reasons.bare is None
    assert with_reasons.read('{"reasoning": "hm", "kind": "play"}')["kind"] == "play"


def test_constraints_follow_types() -> None:
    assert one(KIND).constraint == Choices(("play music", "play", "Stop"))
    assert one(BOOL).constraint == Choices(("true", "false"))
    assert isinstance(one(INT).constraint, Regex)
    assert one(STR).constraint is None
    constraint = form(*PAIR).constraint
    assert isinstance(constraint, JsonSchema)
    assert json.loads(constraint.schema)["required"] == ["kind", "n"]


@pytest.mark.parametrize(
    ("fields", "outputs"),
    [
        ((Field("out", STR),), {"out": "hello"}),
        ((Field("out", INT),), {"out": -3}),
        ((Field("out", BOOL),), {"out": False}),
        ((Field("out", KIND),), {"out": "Stop"}),
        (PAIR, {"kind": "play music", "n": [1, 2]}),
    ],
)
def test_what_a_demo_shows_is_read_back(fields: tuple[Field, ...], outputs: dict[str, object]) -> None:
    written = form(*fields).write(outputs)
    assert form(*fields).read(written) == outputs


SEARCH = RecordType("Search", (Field("tool", LiteralType(("search",))), Field("query", STR)))
FINISH = RecordType("Finish", (Field("tool", LiteralType(("finish",))),))
ACTION = UnionType((SEARCH, FINISH))


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (OptionalType(STR), None),
        (OptionalType(STR), "text"),
        (MapType(INT), {"a": 1, "b c": 2}),
        (MapType(ListType(STR)), {}),
        (UnionType((INT, STR)), "seven"),
        (UnionType((INT, STR)), 7),
        (ACTION, {"tool": "search", "query": "x"}),
        (ACTION, {"tool": "finish"}),
        (ListType(ACTION), [{"tool": "finish"}]),
        (LiteralType((1, "one")), "one"),
    ],
)
def test_every_type_is_written_and_read_back(type_: Type, value: object) -> None:
    written = one(type_).write({"out": value})
    assert one(type_).read(written) == {"out": value}


@pytest.mark.parametrize(
    ("type_", "text", "words"),
    [
        (ACTION, '{"out": {"tool": "search"}}', "`out.search.query`: the field is missing"),
        (ACTION, '{"out": {"tool": "search", "query": "x", "k": 1}}', "`out.search.k`: there is no such field"),
        (ACTION, '{"out": {"tool": "other"}}', "told apart by its field 'tool', one of 'search', 'finish'"),
        (UnionType((INT, BOOL)), '{"out": "x"}', '`out`: should be int or bool, got "x"'),
        (MapType(INT), '{"out": {"a": "x"}}', "`out.a`"),
        (OptionalType(INT), '{"out": "null"}', "valid integer"),
    ],
)
def test_what_does_not_fit_is_named(type_: Type, text: str, words: str) -> None:
    with pytest.raises(ParseProblem, match=words):
        one(type_).read(text)


def held(type_: Type, operator: str, number: float, *, length: bool = False) -> Field:
    subject: Expr = Apply("len", (Ref(IT),)) if length else Ref(IT)
    return Field("out", type_, constraint=Constraint(Apply(operator, (subject, Const(number))), "what was written"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "fits", "does_not"),
    [
        (held(INT, "<", 4), "3", "4"),
        (held(FLOAT, ">=", 0.5), "0.5", "0.25"),
        (held(STR, "<=", 3, length=True), "abc", "abcd"),
        (held(KIND, "!=", 0), "play", None),
    ],
)
def test_a_bare_output_is_held_to_its_constraint(field: Field, fits: str, does_not: str | None) -> None:
    assert form(field).read(fits)
    if does_not is not None:
        with pytest.raises(ParseProblem, match="must meet what was written"):
            form(field).read(does_not)


def test_bounds_are_in_the_decode_constraint() -> None:
    assert form(held(INT, "==", 3)).constraint == Choices(("3",))
    many = form(held(INT, ">=", 3)).constraint
    assert isinstance(many, JsonSchema)
    assert json.loads(many.schema) == {"type": "integer", "minimum": 3}
    unit = form(held(FLOAT, "<", 1)).constraint
    assert isinstance(unit, JsonSchema)
    assert json.loads(unit.schema) == {"type": "number", "exclusiveMaximum": 1}
    for field, texts in (
        (held(STR, "<=", 3, length=True), {"": True, "abc": True, "abcd": False, " ab": False}),
        (held(STR, ">", 0, length=True), {"": False, "a": True, "a\nb": True, " a": False}),
    ):
        pattern = form(field).constraint
        assert isinstance(pattern, Regex)
        assert {text: bool(re.fullmatch(pattern.pattern, text)) for text in texts} == texts
    assert isinstance(form(held(INT, "!=", 3)).constraint, Regex), "no bound: any number"
