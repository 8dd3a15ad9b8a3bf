"""Parsing: what a model wrote, read by type, strictly and tolerantly."""

from __future__ import annotations

import json

import pytest

from lmgraph.graph.graph import ModuleSpec, Strategy
from lmgraph.graph.types import BOOL, FLOAT, INT, STR, EnumMember, EnumType, Field, ListType, LiteralType, Type
from lmgraph.runtime.engine import Choices, JsonSchema, Regex
from lmgraph.runtime.parse import OutputForm, ParseProblem

KIND = EnumType("Kind", (EnumMember("a", "play music"), EnumMember("b", "play"), EnumMember("c", "Stop")))
PAIR = (Field("kind", KIND), Field("n", ListType(INT)))


def form(*fields: Field, strategy: Strategy = "predict") -> OutputForm:
    return OutputForm.of(ModuleSpec("M", (), fields, "", strategy))


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


def test_cot_puts_reasoning_first_and_is_json() -> None:
    with_reasons = form(Field("kind", KIND), strategy="cot")
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
