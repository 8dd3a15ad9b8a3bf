"""Next steps that the golden files do not show, and edits that really mend the program."""

from __future__ import annotations

import pytest

from lmgraph.source import Diagnostic, Source
from lmgraph.source.codes import CODES
from lmgraph.syntax.parser import parse

FLOW = "flow F(a: str) -> (b: str) {{ {} return (b=a) }}"


def diagnostics(text: str) -> tuple[Diagnostic, ...]:
    return parse(Source("p.lmg", text)).diagnostics


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(x): pass", "flow Name"),
        ("import other", 'from "file.lmg" import'),
        ("class A {}", "record"),
        ("x = 3", "body of a `flow`"),
        (FLOW.format("let x = 1"), "name = value"),
        (FLOW.format("for x in a { }"), "maps over a list"),
        (FLOW.format("print(a)"), "no printing"),
        (FLOW.format("// hello"), "comment starts with `#`"),
        (FLOW.format("a += 1"), "a := a +"),
        (FLOW.format("stub G -> (1)"), "body of a `test`"),
        (FLOW.format("release x = a"), "because"),
        (FLOW.format("x = if a then b"), "then a else b"),
        (FLOW.format("x = a % b"), "`fn`"),
        (FLOW.format("x = a @ b"), "remove it"),
        (FLOW.format("x = !a"), "`not`"),
        (FLOW.format("x = 'a"), "double quotes"),
        (FLOW.format('x = """a"""'), "one double quote"),
        ('module A(a: str) -> (b: str) { "Do." }', '`"""`'),
        ("module Antwört(a: str) -> (b: str) {}", "letters a-z"),
        ("modle A(a: str) -> (b: str) {}", "`module`"),
        ("record R { a: str, b }", "`b: str`"),
        ("metric m(a: R) -> float = (a", "`)`"),
    ],
)
def test_next_steps(text: str, words: str) -> None:
    (diagnostic,) = diagnostics(text)
    assert diagnostic.help is not None
    assert words in diagnostic.help


@pytest.mark.parametrize(
    "text",
    [
        "module A(a str) -> (b: str) {}",
        "modul A(a: str) -> (b: str) {}",
        "module A(a: str = 'it\"s') -> (b: str) {}",
        "module A(a: str = “x”) -> (b: str) {}",
        "module or(a: str) -> (b: str) {}",
        "enum E { not  other }",
        FLOW.format("x = a;"),
        FLOW.format("x = a && b"),
        FLOW.format("x = a || b"),
        FLOW.format("x = !a"),
        FLOW.format("x\u00a0= a"),
        FLOW.format("x = G(a: 1)"),
        FLOW.format("if a = 1 { }"),
        FLOW.format("retrun (b=a)"),
    ],
)
def test_fixes_mend_the_program(text: str) -> None:
    (diagnostic,) = diagnostics(text)
    fix = diagnostic.fix
    assert fix is not None
    mended = text[: fix.span.start] + fix.replacement + text[fix.span.end :]
    assert diagnostics(mended) == ()


def test_a_label_reads_alone() -> None:
    (diagnostic,) = diagnostics("module A(a str) -> (b: str) {}")
    assert diagnostic.primary.message == "expected `:`, found the name `str`"


@pytest.mark.parametrize(
    "code", [code for code in CODES if code.startswith("E01") and code not in ("E0108", "E0109", "E0110")]
)
def test_the_example_of_a_code_earns_it(code: str) -> None:
    assert code in [diagnostic.code for diagnostic in diagnostics(CODES[code].example)]
