"""Expressions as people read them, and the values they read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lmgraph.graph.expression_text import expression_text, paths_read, short_name, short_text
from lmgraph.graph.nodes import (
    IT,
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
from support.graph_parts import apply, ref

A, B = ref("F/a"), ref("F/b")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Const('a "b"'), '"a \\"b\\""'),
        (Const(None), "null"),
        (Const("x" * 100), '"' + "x" * 58 + "…"),
        (GetField(A, "x"), "F/a.x"),
        (GetItem(A, apply("+", B, Const(1))), "F/a[F/b + 1]"),
        (MakeList((A, Const(1))), "[F/a, 1]"),
        (MakeRecord("R", (FieldValue("x", A), FieldValue("y", B))), "R(x=F/a, y=F/b)"),
        (apply("and", apply("<", A, B), apply("not", B)), "(F/a < F/b) and (not F/b)"),
        (apply("neg", apply("neg", A)), "-(-F/a)"),
        (apply("==", apply("len", A), Const(1)), "len(F/a) == 1"),
        (apply("text", A), "text(F/a)"),
        (apply("best", A, B), "best(F/a, F/b)"),
        (GetField(apply("vote", A), "x"), "vote(F/a).x"),
        (Choose(A, B, Const(1)), "if F/a then F/b else 1"),
        (apply("+", Choose(A, B, B), B), "(if F/a then F/b else F/b) + F/b"),
        (Ensure(A, apply(">", Ref(IT), Const(0)), "it > 0"), "F/a where it > 0"),
        (apply("+", Ensure(A, Const(True), "true"), B), "(F/a where true) + F/b"),
    ],
)
def test_text(expression: Expr, text: str) -> None:
    assert expression_text(expression) == text


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("F/x", "x"),
        ("F/x#2", "x"),
        ("F/if:answer", "answer"),
        ("F/if#12:answer", "answer"),
        ("F/hop/read/text", "text"),
        ("F/x.Judge", "Judge"),
        ("F/x.Judge#2", "Judge"),
        ("F/x#2.Judge", "Judge"),
        ("F/x.M.step", "M.step"),
        ("F/if.then/x", "x"),
        ("test:1/out", "out"),
        ("metric/gold", "gold"),
        ("it", "it"),
    ],
)
def test_short_names(value: str, name: str) -> None:
    assert short_name(ValueId(value)) == name


def paths(expression: Expr) -> list[str]:
    return [name for name, _ in paths_read(expression)]


def test_paths() -> None:
    out, x = ref("F/out", "hops"), ref("F/if:x", "notes")
    held = apply("and", apply("==", out, Const(1)), apply(">", apply("len", x), Const(0)))
    assert paths_read(held) == (("out.hops", out), ("x.notes", x))
    assert paths(Const(1)) == []
    assert paths(apply("+", A, A)) == ["a"]
    assert paths(apply("+", A, GetField(A, "x"))) == ["a", "a.x"]
    assert paths(GetField(GetItem(ref("F/xs"), Const(0)), "n")) == ["xs[0].n"]
    assert paths(GetField(GetItem(ref("F/xs"), ref("F/i")), "n")) == ["xs[i].n", "i"]
    assert paths(GetField(apply("best", A, B), "n")) == ["a", "b"]
    assert paths(GetItem(MakeList((A,)), B)) == ["a", "b"]
    assert paths(MakeRecord("R", (FieldValue("x", A), FieldValue("y", B)))) == ["a", "b"]
    assert paths(Choose(A, B, ref("F/c"))) == ["a", "b", "c"]
    assert paths(Ensure(A, Ref(IT), "it")) == ["a"]
    assert paths(apply("+", ref("F/x"), ref("F/if:x"))) == ["x", "x"]


def test_short_text() -> None:
    assert short_text(apply(">", apply("len", ref("F/if:x", "notes")), ref("F/n#2"))) == "len(x.notes) > n"


def test_deep_expressions() -> None:
    deep: Expr = A
    for _ in range(127):
        deep = apply("+", deep, B)
    assert expression_text(deep).startswith("(" * 126 + "F/a + F/b)")
    assert paths(deep) == ["a", "b"]


def test_reading_expressions_is_light() -> None:
    code = "import sys, lmgraph.graph.expression_text, lmgraph.graph.verify; print('networkx' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
