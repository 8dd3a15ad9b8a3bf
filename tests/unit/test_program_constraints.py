"""Constraints: checked wherever a value is read, in the schema as far as it goes, in words for prompts."""

from __future__ import annotations

from typing import Any

import pytest

from lmgraph.graph.expressions import IT, Apply, Const, Expr, Ref
from lmgraph.graph.types import FLOAT, INT, STR, Constraint, Field, ListType, MapType, OptionalType, RecordType, Type
from lmgraph.program.constraints import constraint_text
from lmgraph.program.json_schema import field_json_schema
from lmgraph.program.values import Misfit, validate, validate_json

HERE = Ref(IT)
LENGTH = Apply("len", (HERE,))


def compare(operator: Any, left: Any, right: Any) -> Expr:
    sides = (one if hasattr(one, "kind") else Const(one) for one in (left, right))
    return Apply(operator, tuple(sides))


def both(*parts: Expr) -> Expr:
    return Apply("and", parts)


def constraint(condition: Expr) -> Constraint:
    return Constraint(condition, "what was written")


UNIT = both(compare("<=", 0.0, HERE), compare("<=", HERE, 1.0))
EVEN_SO = both(UNIT, compare("!=", HERE, 0.5))
NEGATIVE = compare(">=", HERE, Apply("neg", (Const(3),)))


@pytest.mark.parametrize(
    ("type_", "condition", "keywords", "words"),
    [
        (FLOAT, UNIT, {"minimum": 0.0, "maximum": 1.0}, "from 0 to 1"),
        (FLOAT, compare(">", HERE, 0.0), {"exclusiveMinimum": 0.0}, "more than 0"),
        (
            FLOAT,
            both(compare(">", 2, HERE), compare(">=", HERE, 1)),
            {"minimum": 1, "exclusiveMaximum": 2},
            "at least 1 and less than 2",
        ),
        (FLOAT, both(compare(">=", HERE, 1), compare(">", HERE, 1)), {"exclusiveMinimum": 1}, "more than 1"),
        (FLOAT, EVEN_SO, {"minimum": 0.0, "maximum": 1.0}, "where what was written"),
        (INT, compare(">", HERE, 0), {"minimum": 1}, "more than 0"),
        (
            INT,
            both(compare(">", HERE, 0), compare("<", HERE, 4)),
            {"minimum": 1, "maximum": 3},
            "more than 0 and less than 4",
        ),
        (INT, compare("<=", HERE, 2.5), {"maximum": 2}, "at most 2.5"),
        (INT, NEGATIVE, {"minimum": -3}, "at least -3"),
        (INT, compare("==", HERE, 7), {"minimum": 7, "maximum": 7}, "exactly 7"),
        (
            STR,
            both(compare(">", LENGTH, 0), compare("<=", LENGTH, 80)),
            {"minLength": 1, "maxLength": 80},
            "from 1 to 80 characters",
        ),
        (STR, compare(">", LENGTH, 0), {"minLength": 1}, "at least 1 character"),
        (STR, compare("==", LENGTH, 5), {"minLength": 5, "maxLength": 5}, "exactly 5 characters"),
        (STR, compare("!=", HERE, ""), {}, "where what was written"),
        (ListType(STR), compare("<=", LENGTH, 4), {"maxItems": 4}, "at most 4 elements"),
        (ListType(STR), compare("in", "a", HERE), {}, "where what was written"),
        (ListType(STR), Apply("or", (compare(">", LENGTH, 1),) * 2), {}, "where what was written"),
        (MapType(INT), compare("<=", LENGTH, 4), {}, "where what was written"),
    ],
)
def test_what_can_be_said(type_: Type, condition: Expr, keywords: dict[str, Any], words: str) -> None:
    schema = field_json_schema(Field("f", type_, constraint=constraint(condition)))
    assert {name: schema.get(name) for name in keywords} == keywords
    assert schema == {**field_json_schema(Field("f", type_)), **keywords}
    assert constraint_text(type_, constraint(condition)) == words


def test_a_bound_holds_the_value_that_is_there() -> None:
    field = Field("f", OptionalType(INT), constraint=constraint(compare(">", HERE, 0)))
    assert field_json_schema(field) == {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}


RECORD = RecordType("R", (Field("share", FLOAT, None, True, 7.0, constraint=constraint(UNIT)),))


def test_values_are_held_to_it_and_defaults_are_the_authors() -> None:
    assert validate({"share": 1}, RECORD) == {"share": 1.0}
    assert validate({}, RECORD) == {"share": 7.0}
    for read, value in ((validate, {"share": 1.5}), (validate_json, '{"share": 1.5}')):
        with pytest.raises(Misfit) as caught:
            read(value, RECORD)  # type: ignore[operator]
        assert caught.value.path == "share"
        assert caught.value.message == "`share`: must meet what was written, got 1.5"


def test_one_inside_a_list_is_named() -> None:
    with pytest.raises(Misfit, match=r"`\[1\].share`: must meet"):
        validate([{"share": 0.5}, {"share": 2}], ListType(RECORD))


def test_braces_in_its_text_are_text() -> None:
    odd = RecordType("R", (Field("x", STR, constraint=Constraint(compare("==", HERE, "{a}"), 'it == "{a} {b}"')),))
    with pytest.raises(Misfit, match=r'must meet it == "\{a\} \{b\}", got "x"'):
        validate({"x": "x"}, odd)


def test_null_where_numbers_are_compared_does_not_meet_it() -> None:
    record = RecordType("R", (Field("x", OptionalType(INT), constraint=constraint(compare(">", HERE, 0))),))
    with pytest.raises(Misfit, match="must meet"):
        validate({"x": None}, record)
