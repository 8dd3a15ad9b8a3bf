"""Expressions: what each operator gives, and where there is no value."""

from __future__ import annotations

from typing import Any

import pytest

from lmgraph.graph.expressions import (
    IT,
    Apply,
    Choose,
    Const,
    Ensure,
    Expr,
    FieldValue,
    GetField,
    GetItem,
    MakeList,
    MakeRecord,
    Ref,
    ValueId,
)
from lmgraph.program.expressions import NoValue, compile_expression

SCOPE: dict[str, Any] = {
    "n": 3, "x": 2.5, "s": "abc", "b": True, "xs": [1, 2, 3], "r": {"a": 1, "b": {"c": "d"}}, "m": {"k": "v"},
    "none": None, "texts": ["p", "q", "p", "q"], "scores": [1.0, 3.0, None, 3.0],
}  # fmt: skip


def ref(name: str) -> Expr:
    return Ref(ValueId(name))


def apply(operator: Any, *operands: Any) -> Expr:
    return Apply(operator, tuple(one if hasattr(one, "kind") else Const(one) for one in operands))


def value(expression: Expr) -> Any:
    return compile_expression(expression)(SCOPE)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (Const("x"), "x"),
        (ref("n"), 3),
        (GetField(GetField(ref("r"), "b"), "c"), "d"),
        (GetItem(ref("xs"), Const(1)), 2),
        (GetItem(ref("m"), Const("k")), "v"),
        (MakeList((ref("n"), Const(4))), [3, 4]),
        (MakeRecord("R", (FieldValue("a", ref("n")),)), {"a": 3}),
        (Choose(ref("b"), Const("yes"), GetItem(ref("xs"), Const(9))), "yes"),
        (apply("+", ref("n"), 1), 4),
        (apply("+", ref("xs"), MakeList((Const(4),))), [1, 2, 3, 4]),
        (apply("-", ref("n"), ref("x")), 0.5),
        (apply("*", ref("x"), 2), 5.0),
        (apply("/", ref("n"), 2), 1.5),
        (apply("neg", ref("n")), -3),
        (apply("len", ref("s")), 3),
        (apply("not", ref("b")), False),
        (apply("in", 2, ref("xs")), True),
        (apply("in", "k", ref("m")), True),
        (apply("not in", "z", ref("s")), True),
        (apply("==", ref("none"), Const(None)), True),
        (apply("<=", ref("n"), ref("x")), False),
        (apply("and", ref("b"), Const(True), Const(False)), False),
        (apply("or", Const(False), Const(False), ref("b")), True),
        (apply("and", Const(False), apply("==", GetItem(ref("xs"), Const(9)), 1)), False),
        (apply("or", Const(True), apply("==", GetItem(ref("xs"), Const(9)), 1)), True),
        (apply("text", ref("s")), "abc"),
        (apply("text", ref("r")), '{"a": 1, "b": {"c": "d"}}'),
        (apply("text", ref("none")), "null"),
        (apply("text", ref("b")), "true"),
        (apply("best", ref("texts"), ref("scores")), "q"),
        (apply("vote", MakeList((Const(None), Const("b"), Const("a"), Const("a"), Const(None)))), "a"),
        (apply("vote", ref("texts")), "p"),
        (apply("vote", MakeList((ref("r"), Const(None), ref("r")))), SCOPE["r"]),
        (Ensure(ref("n"), apply(">", Ref(IT), 2), "it > 2"), 3),
    ],
)
def test_values(expression: Expr, expected: Any) -> None:
    found = value(expression)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (GetItem(ref("xs"), Const(3)), "index 3 is outside the list, which has 3 elements"),
        (GetItem(ref("m"), Const("z")), "no key 'z'"),
        (GetField(ref("none"), "a"), "no field `a` in null"),
        (GetField(ref("r"), "z"), "no field `z`"),
        (apply("/", ref("n"), 0), "division by zero"),
        (apply("*", 1e308, 10), "not finite"),
        (apply("/", 10**400, 3), "too large"),
        (apply("+", 10**400, 0.5), "too large"),
        (apply("best", ref("texts"), MakeList((Const(None),) * 4)), "no candidate has a score"),
        (apply("vote", MakeList((Const(None),))), "no candidate to choose"),
        (apply("best", ref("texts"), MakeList((Const(None),) * 4), GetItem(ref("xs"), Const(3))), "index 3 is outside"),
        (apply("vote", MakeList((Const(None),)), GetItem(ref("xs"), Const(3))), "index 3 is outside"),
        (Ensure(ref("n"), apply(">", Ref(IT), 5), "it > 5"), "must meet it > 5, got 3"),
    ],
)
def test_where_there_is_no_value(expression: Expr, words: str) -> None:
    with pytest.raises(NoValue, match=words):
        value(expression)


def test_the_best_is_the_first_of_equal_ones() -> None:
    candidates = MakeList(tuple(Const(text) for text in "abc"))
    assert value(apply("best", candidates, MakeList((Const(1), Const(2), Const(2))))) == "b"
    assert value(apply("best", candidates, MakeList((Const(False), Const(None), Const(False))))) == "a"


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(NoValue) as caught:
        compile_expression(Ensure(ref("s"), Const(False), "never"))({"s": "x" * 10_000})
    assert len(str(caught.value)) < 120
