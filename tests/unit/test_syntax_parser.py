"""The grammar accepts what language.md says, with precise spans, and the shipped tables are those of the grammar."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lmgraph_grammar
from lmgraph.source import Source
from lmgraph.source.render import render
from lmgraph.syntax import parser, tree
from lmgraph.syntax.builder import TreeBuilder
from lmgraph.syntax.parser import parse
from lmgraph_grammar.build import tables_json


def parsed(text: str) -> tree.File:
    source = Source("p.lmg", text)
    result = parse(source)
    assert result.ok, render(result.diagnostics, {"p.lmg": source})
    assert result.tree is not None
    return result.tree


def expression(text: str) -> tree.Expression:
    metric = parsed(f"metric m(a: R) -> float = {text}").declarations[0]
    assert isinstance(metric, tree.Metric)
    assert not isinstance(metric.body, tree.PythonReference)
    return metric.body


def type_of(text: str) -> tree.TypeNode:
    record = parsed(f"record R {{ a: {text} }}").declarations[0]
    assert isinstance(record, tree.Record)
    return record.fields[0].type


def name(text: str) -> tree.Identifier:
    return tree.Identifier(text)


def ref(text: str) -> tree.Reference:
    return tree.Reference(text)


# -- samples and tables ----------------------------------------------------------------------------------------------


def test_samples_parse(samples: Path) -> None:
    for path in sorted(samples.glob("*.lmg")):
        assert parsed(path.read_text(encoding="utf-8")).edition == 1


def test_shipped_tables_are_fresh() -> None:
    assert lmgraph_grammar.tables_text() == tables_json(), "run python -m lmgraph_grammar.build"


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "{", '{"fingerprint": "other"}'])
def test_tables_that_do_not_fit_are_set_aside(text: str | None) -> None:
    assert parser._load_shipped(text, "fingerprint", TreeBuilder()) is None


def test_damaged_tables_with_the_right_fingerprint_are_set_aside() -> None:
    tables = json.loads(lmgraph_grammar.tables_text() or "")
    del tables["states"]
    assert parser._load_shipped(json.dumps(tables), tables["fingerprint"], TreeBuilder()) is None


def test_tables_built_in_memory_parse_alike(monkeypatch: pytest.MonkeyPatch, samples: Path) -> None:
    source = Source("hover.lmg", (samples / "hover.lmg").read_text(encoding="utf-8"))
    expected = parse(source).tree
    monkeypatch.setattr(parser, "tables_text", lambda: None)
    parser._front.cache_clear()
    try:
        assert parse(source).tree == expected
    finally:
        parser._front.cache_clear()


def test_cold_parse_uses_the_shipped_tables(samples: Path) -> None:
    program = (
        "import sys, time; start = time.perf_counter()\n"
        "from pathlib import Path\n"
        "from lmgraph.source import Source\n"
        "from lmgraph.syntax import parser\n"
        "parser.lark.Lark.__init__ = None\n"
        "assert parser.parse(Source('hello.lmg', Path(sys.argv[1]).read_text())).ok\n"
        "assert 'torch' not in sys.modules and 'pydantic' not in sys.modules\n"
        "print(time.perf_counter() - start)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(samples / "hello.lmg")], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) < 1.0  # about 0.13 s on an idle machine


def test_one_process_parses_many_files_with_their_own_names() -> None:
    for file in ("a.lmg", "b.lmg"):
        result = parse(Source(file, "lm x {}"))
        assert result.tree is not None
        assert result.tree.declarations[0].span.file == file


def test_parsing_is_linear() -> None:
    field = '  field_name: list[str] = [] "a description" where len(it) > 3 and it != other\n'
    small, large = (f"record R {{\n{field * count}}}\n" for count in (200, 2000))
    parsed(small)
    times: list[float] = []
    for text in (small, large):
        start = time.perf_counter()
        parsed(text)
        times.append(time.perf_counter() - start)
    assert times[1] < times[0] * 60


# -- declarations ----------------------------------------------------------------------------------------------------


def test_every_declaration() -> None:
    file = parsed(
        """
        edition 1
        from "other.lmg" import A, B as C
        enum E { a, b = "the label" "what it means" }
        enum F = lines "labels.txt"
        record R { "" "" }
        """.replace('record R { "" "" }', "record R { f: str, g: int? = null }")
        + '''
        lm small { model: "x" clearance: private nested: { a: 1, b: [1, 2,] } }
        tool send(text: str) -> bool = py "pkg.mail:send" { timeout: 3 }
        module M(a: str,) -> (b: str "said" where len(it) > 0,) { """Do.""" lm: small assert b != a else "same" }
        module B = M { max_tokens: 1e3 }
        flow Main(a: str) -> (b: str) { """Wiring.""" return (b=a) }
        dataset d: R = csv "rows.csv" { split: { train: 0.5 } }
        metric m(gold: R, pred: Main.out) -> bool = gold.f == pred.b
        metric n(gold: R, pred: Main.trace) -> float = py "pkg.metrics:n"
        objective o { flow: Main metric: [m, n] range: [-1.0, 1.0] }
        test "t" { stub M -> (b="x"), ("y") out = Main(a="z") assert out.b == "x" else "no" }
        moved Old -> M
        '''
    )
    kinds = [type(declaration).__name__ for declaration in file.declarations]
    assert kinds == (
        [
            "Import",
            "Enum",
            "Enum",
            "Record",
            "Lm",
            "Extern",
            "Module",
            "Instance",
            "Flow",
            "Dataset",
            "Metric",
            "Metric",
            "Objective",
            "Test",
            "Moved",
        ]
    )
    assert file.edition == 1
    imported = file.declarations[0]
    assert isinstance(imported, tree.Import)
    assert imported.names == (tree.ImportName(name("A"), None), tree.ImportName(name("B"), name("C")))
    enum = file.declarations[1]
    assert isinstance(enum, tree.Enum)
    assert enum.members[1] == tree.EnumMemberNode(name("b"), "the label", "what it means")
    small = file.declarations[4]
    assert isinstance(small, tree.Lm)
    assert small.block.entries[1].value == ref("private")
    module = file.declarations[6]
    assert isinstance(module, tree.Module)
    assert module.doc == "Do."
    assert [entry.key.text for entry in module.entries] == ["lm"]
    assert module.checks[0].message == "same"
    assert module.signature.outputs[0].description == "said"
    test = file.declarations[-2]
    assert isinstance(test, tree.Test)
    stub = test.body[0]
    assert isinstance(stub, tree.Stub)
    assert [len(answer) for answer in stub.answers] == [1, 1]


def test_every_statement() -> None:
    flow = parsed(
        """
        flow F(a: str) -> (b: str) {
          x: int = 1
          var y: list[str] = []
          y := y + [a]
          release z = a because "it is clean"
          if a == "x" { x = 2 } else if a == "y" { } else { stop if true }
          repeat max 3 as i { check i < 2 else "late" }
          repeat max 1 { }
          assert x > 0 else "positive"
          return (b=a, y)
        }
        """
    ).declarations[0]
    assert isinstance(flow, tree.Flow)
    kinds = [type(statement).__name__ for statement in flow.body]
    assert kinds == ["Bind", "Var", "Update", "Release", "If", "Repeat", "Repeat", "Assert", "Return"]
    branch = flow.body[4]
    assert isinstance(branch, tree.If)
    assert branch.otherwise is not None
    assert isinstance(branch.otherwise[0], tree.If)
    assert flow.body[-1] == tree.Return((tree.Argument(name("b"), ref("a")), tree.Argument(None, ref("y"))))


SOFT = [
    "edition",
    "from",
    "import",
    "as",
    "enum",
    "record",
    "lm",
    "tool",
    "retriever",
    "fn",
    "module",
    "flow",
    "metric",
    "dataset",
    "objective",
    "test",
    "moved",
    "py",
    "var",
    "release",
    "because",
    "repeat",
    "max",
    "stop",
    "stub",
    "assert",
    "check",
    "return",
]


@pytest.mark.parametrize("word", SOFT)
def test_soft_keywords_are_names(word: str) -> None:
    parsed(
        f"""
        enum E {{ {word} other }}
        record {word} {{ {word}: {word} = E.{word} "d" b: {word}.{word}? }}
        lm {word} {{ {word}: {word} {word}: {{ {word}: 1 }} }}
        fn {word}({word}: str) -> {word} = py "m:f"
        module {word}({word}: str) -> ({word}: str) {{ {word}: {word} }}
        flow {word}({word}: str) -> ({word}: str) {{
          {word} = {word}({word})
          var {word} = {word}.{word}
          {word} := [{word} for {word} in {word} if {word}]
          {word}: {word} = {word}({word}={word}) catch {word}
          if {word} {{ }}
          repeat max 2 as {word} {{ }}
          release {word} = {word} because "r"
          check {word} else "m"
          return ({word}, {word}={word})
        }}
        metric {word}({word}: R) -> float = {word}
        test "t" {{ stub {word} -> ({word}) {word} = 1 }}
        """
    )


# -- types and expressions -------------------------------------------------------------------------------------------


def test_types() -> None:
    text = tree.NamedType((name("str"),))
    assert type_of("str") == text
    assert type_of("Route.out") == tree.NamedType((name("Route"), name("out")))
    assert type_of("list[str]") == tree.GenericType(name("list"), (text,))
    assert type_of("map[str, str?]") == tree.GenericType(name("map"), (text, tree.OptionalTypeNode(text)))
    assert type_of('"a" | 3 | str?') == tree.UnionTypeNode(
        (tree.LiteralTypeNode("a"), tree.LiteralTypeNode(3), tree.OptionalTypeNode(text))
    )
    assert type_of("private list[str]?") == tree.OptionalTypeNode(
        tree.PrivateTypeNode(tree.GenericType(name("list"), (text,)))
    )


@pytest.mark.parametrize(
    ("loose", "strict"),
    [
        ("a or b and c", "a or (b and c)"),
        ("not a and b", "(not a) and b"),
        ("not a == b", "not (a == b)"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a / b / c", "(a / b) / c"),
        ("-a.b", "-(a.b)"),
        ("-a * b", "(-a) * b"),
        ("a < b + c", "a < (b + c)"),
        ("f(a) catch b or c", "f(a) catch (b or c)"),
        ("f(a) catch g(a) catch b", "f(a) catch (g(a) catch b)"),
        ("if a then b else c or d", "if a then b else (c or d)"),
        ("if a then f(b) catch c else d", "if a then (f(b) catch c) else d"),
        ("if a then b else f(c) catch d", "if a then b else (f(c) catch d)"),
        ("[f(y) catch z for y in ys if y]", "[(f(y) catch z) for y in ys if y]"),
        ("a.b(c)[d].e", "(((a.b)(c))[d]).e"),
        ("a not in b or c in d", "(a not in b) or (c in d)"),
    ],
)
def test_precedence(loose: str, strict: str) -> None:
    assert expression(loose) == expression(strict)


def test_comparisons_chain() -> None:
    assert expression("0 <= it < 1") == tree.Comparison((tree.Constant(0), ref("it"), tree.Constant(1)), ("<=", "<"))
    assert expression("(0 <= it) < 1") != expression("0 <= it < 1")
    assert expression("a not in b") == tree.Comparison((ref("a"), ref("b")), ("not in",))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("0.50", 0.5),
        ("1e-5", 1e-5),
        ("2.5E+3", 2500.0),
        ("true", True),
        ("false", False),
        ("null", None),
        (r'"a\n\t\"\\\u{e9}"', 'a\n\t"\\é'),
        ('""', ""),
    ],
)
def test_constants(text: str, value: object) -> None:
    constant = expression(text)
    assert isinstance(constant, tree.Constant)
    assert constant.value == value
    assert type(constant.value) is type(value)


def test_punned_named_and_positional_arguments() -> None:
    call = expression("F(test, a=b, c.d, 1,)")
    assert isinstance(call, tree.CallExpression)
    assert [argument.name for argument in call.arguments] == [None, name("a"), None, None]


# -- spans -----------------------------------------------------------------------------------------------------------


def test_spans_cover_exactly_the_text() -> None:
    text = 'metric m(a: R, b: list[str]? "d") -> float = (a.b + 1) * f(x=[2])\n'
    metric = parsed(text).declarations[0]
    assert isinstance(metric, tree.Metric)

    def shown(node: tree.Metric | tree.FieldNode | tree.Expression | tree.TypeNode | tree.Identifier) -> str:
        return text[node.span.start : node.span.end]

    body = metric.body
    assert isinstance(body, tree.Binary)
    assert isinstance(body.right, tree.CallExpression)
    assert shown(metric) == text.rstrip()
    assert shown(metric.name) == "m"
    assert shown(metric.signature.inputs[1]) == 'b: list[str]? "d"'
    assert shown(metric.signature.inputs[1].type) == "list[str]?"
    assert shown(body) == "(a.b + 1) * f(x=[2])"
    assert shown(body.left) == "(a.b + 1)"
    assert shown(body.right) == "f(x=[2])"
    assert shown(body.right.arguments[0].value) == "[2]"


def test_spans_after_recovery_count_from_the_start_of_the_file() -> None:
    text = "lm a { b }\nlm good { key: 1 }\n"
    result = parse(Source("p.lmg", text))
    assert len(result.diagnostics) == 1
    assert result.tree is not None
    good = result.tree.declarations[0]
    assert text[good.span.start : good.span.end] == "lm good { key: 1 }"


def test_equality_ignores_layout() -> None:
    assert parsed("lm a { b: 1 c: 2 }") == parsed("# hello\nlm a {\n  b: (1),\n\n  c: 2 # there\n}\n")
