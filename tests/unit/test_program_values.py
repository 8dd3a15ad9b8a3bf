"""Values against types: what fits, what does not, and what the message says."""

from __future__ import annotations

import pytest

from lmgraph.graph.types import (
    BOOL,
    FLOAT,
    INT,
    STR,
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
from lmgraph.program.json_schema import json_schema
from lmgraph.program.values import Misfit, Record, as_record, validate, validate_json

KIND = EnumType("Kind", (EnumMember("a", "an apple"), EnumMember("b", "b")))
INNER = RecordType("Inner", (Field("n", INT), Field("note", OptionalType(STR))))
OUTER = RecordType("Outer", (Field("kind", KIND), Field("items", ListType(INNER)), Field("size", INT, None, True, 3)))


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ("x", STR),
        (3, INT),
        (2.5, FLOAT),
        (True, BOOL),
        ("an apple", KIND),
        ([1, 2], ListType(INT)),
        ({"a": 1}, MapType(INT)),
        (None, OptionalType(STR)),
        ("yes", LiteralType(("yes", "no"))),
        (7, UnionType((STR, INT))),
    ],
)
def test_what_fits_stays(value: object, type_: Type) -> None:
    assert validate(value, type_) == value


def test_an_int_widens_to_float() -> None:
    value = validate(3, FLOAT)
    assert value == 3.0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ("3", INT),
        (3, STR),
        (True, INT),
        (1, BOOL),
        (float("nan"), FLOAT),
        (float("inf"), FLOAT),
        ("a", KIND),
        ([1, "2"], ListType(INT)),
        ({"a": "x"}, MapType(INT)),
        ((1, 2), ListType(INT)),
        ("maybe", LiteralType(("yes", "no"))),
        (None, STR),
    ],
)
def test_what_does_not_fit_is_refused(value: object, type_: Type) -> None:
    with pytest.raises(Misfit):
        validate(value, type_)


def test_defaults_are_filled_in_and_not_shared() -> None:
    record = RecordType("R", (Field("tags", ListType(STR), None, True, []),))
    first, second = validate({}, record), validate({}, record)
    first["tags"].append("x")
    assert second == {"tags": []}
    assert validate({"kind": "b", "items": [{"n": 1}]}, OUTER) == {
        "kind": "b",
        "items": [{"n": 1, "note": None}],
        "size": 3,
    }


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"kind": "b", "items": [{"n": 1}, {"n": "x"}]}, "items[1].n", "valid integer"),
        ({"kind": "c", "items": []}, "kind", "'an apple' or 'b'"),
        ({"kind": "b"}, "items", "missing"),
        ({"kind": "b", "items": [], "more": 1}, "more", "no such field"),
    ],
)
def test_a_misfit_names_the_place(value: object, path: str, words: str) -> None:
    with pytest.raises(Misfit) as caught:
        validate(value, OUTER)
    assert caught.value.path == path
    assert path in caught.value.message
    assert words in caught.value.message


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(Misfit) as caught:
        validate("x" * 10_000, KIND)
    assert len(caught.value.message) < 200


def test_json_text_is_read_strictly() -> None:
    assert validate_json('{"kind": "b", "items": []}', OUTER)["size"] == 3
    with pytest.raises(Misfit):
        validate_json('{"kind": "b", "items": []} and more', OUTER)


def test_json_schema_requires_every_field_in_order() -> None:
    schema = json_schema(OUTER)
    assert list(schema["properties"]) == schema["required"] == ["kind", "items", "size"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["kind"] == {"enum": ["an apple", "b"]}


def test_records_are_dicts_with_attributes() -> None:
    record = as_record({"a": {"b": [{"c": 1}]}})
    assert isinstance(record, Record)
    assert record.a.b[0].c == 1
    with pytest.raises(AttributeError, match="there are: a"):
        _ = record.missing
