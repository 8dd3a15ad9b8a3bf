"""The compiler as a whole: what it gives back, which ids things have, and what it never does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmgraph.compiler.compile import Compilation, compile_path, compile_source
from lmgraph.errors import CompileError, ConfigError
from lmgraph.graph.dump import content_hash
from lmgraph.graph.graph import DEFAULT_LM, Graph
from lmgraph.graph.nodes import Const
from lmgraph.graph.walk import walk
from lmgraph.source import Source

TRIAGE = """
edition 1

enum Team { billing  other = "none of these" }
record Ticket { text: str  team: Team }

module Issues(text: str) -> (issues: list[str]) {
  \"\"\"
  List the problems.

    - each in its own words
  \"\"\"
}
module Route(issue: str, hint: str? = null) -> (team: Team) {}

flow Triage(text: str) -> (team: Team, all: list[Team]) {
  found = Issues(text)
  first = Route(issue=found.issues[0]).team
  both = Route(issue=text).team == Route(issue="a").team
  routed = [Route(issue=i).team for i in found.issues if both]
  return (team=Route(issue=text, hint="again").team, all=routed + [first, Team.other])
}

dataset tickets: Ticket = jsonl "tickets.jsonl" { split: { train: 0.5, dev: 10 } seed: 3 }
metric right(gold: Ticket, pred: Triage.out) -> bool = gold.team == pred.team
metric share(gold: Ticket, pred: Triage.out) -> float = if len(pred.all) > 0 then 1.0 / len(pred.all) else 0.0
objective good { flow: Triage  data: tickets  metric: [right, share]  weights: [0.5, -1]  optimize: [Route.weights] }
"""


def compiled(text: str, root: Path | None = None) -> Compilation:
    return compile_source(Source("program.lmg", text), root=root)


def graph_of(text: str) -> Graph:
    return compiled(text).require()


def codes(text: str) -> list[str]:
    return [one.code for one in compiled(text).diagnostics]


def test_ids_are_paths() -> None:
    graph = graph_of(TRIAGE)
    assert [node.id for node in walk(graph.flow("Triage").body)] == [
        "Triage/found",
        "Triage/first.Route",
        "Triage/first",
        "Triage/both.Route",
        "Triage/both.Route#2",
        "Triage/both",
        "Triage/routed",
        "Triage/routed/Route",
        "Triage/return.Route",
    ]
    assert [parameter.id for parameter in graph.flow("Triage").body.parameters] == ["Triage/text"]


def test_layout_comments_and_order_of_declarations_change_nothing() -> None:
    body = TRIAGE.replace("edition 1", "").strip()
    declarations = re.split(r"\n\n(?=[a-z])", body)
    moved = "edition 1\n" + "\n\n# a comment\n".join(reversed(declarations))
    spread = moved.replace("(text)", "(\n  text, # punned\n)").replace("  found =", "found\n  =")
    assert content_hash(graph_of(spread)) == content_hash(graph_of(TRIAGE))


def test_every_id_and_declaration_has_a_place() -> None:
    compilation = compiled(TRIAGE)
    graph = compilation.require()
    text = compilation.sources["program.lmg"].text
    names = ["Team", "Ticket", "Issues", "Triage", "tickets", "right", "good", "Triage/text", "Triage/routed/i"]
    for name in [*names, *(node.id for node in walk(graph.flow("Triage").body))]:
        assert name in compilation.spans, name
    shown = {name: text[span.start : span.end] for name, span in compilation.spans.items()}
    assert shown["Triage"] == "Triage"
    assert shown["Triage/routed/Route"] == "Route(issue=i)"
    assert shown["Triage/found"] == "found = Issues(text)"


def test_defaults_are_filled_and_instructions_dedented() -> None:
    graph = graph_of(TRIAGE)
    call = next(node for node in walk(graph.flow("Triage").body) if node.id == "Triage/routed/Route")
    assert call.kind == "lm.call"
    assert [(one.name, one.value) for one in call.arguments][1] == ("hint", Const(None))
    assert graph.module("Issues").instruction == "List the problems.\n\n  - each in its own words"
    assert graph.module("Route").instruction == ""


def test_the_default_lm_is_there_when_it_is_used() -> None:
    assert [lm.name for lm in graph_of(TRIAGE).lms] == [DEFAULT_LM]
    own = 'lm default { model: "a" }\nmodule M(a: str) -> (b: str) {}'
    assert graph_of(own).lm(DEFAULT_LM).model == "a"


def test_an_enum_member_becomes_its_label() -> None:
    result = graph_of(TRIAGE).flow("Triage").body.results[1].value
    assert "Const(value='none of these'" in repr(result)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("metric: right", (0.0, 1.0)),
        ("metric: [right, also]", (0.0, 1.0)),
        ("metric: [right, also] weights: [1, -0.5]", (-0.5, 1.0)),
        ("metric: [right, share] weights: [1, 2] range: [-1, 3]", (-1.0, 3.0)),
    ],
)
def test_the_range_follows_from_metrics_and_weights(objective: str, expected: tuple[float, float]) -> None:
    also = "metric also(gold: Ticket, pred: Triage.out) -> bool = true\n"
    text = TRIAGE[: TRIAGE.index("objective")] + also + f"objective good {{ flow: Triage data: tickets {objective} }}"
    spec = graph_of(text).objective("good")
    assert (spec.low, spec.high) == expected
    assert sum(spec.weights) == pytest.approx(1.0) or "weights" in objective


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("module M(a: str) -> (b: str) {}", "M"),
        ("module M(a: str) -> (b: str) {}\nmodule N(a: str) -> (b: str) {}", None),
        ("flow F(a: str) -> (b: str) { return (b=a) }", "F"),
        ("flow F(a: str) -> (b: str) { return (b=a) }\nflow G(a: str) -> (b: str) { return (b=a) }", None),
        (TRIAGE + "flow Other(a: str) -> (b: str) { return (b=a) }", "Triage"),
    ],
)
def test_the_entry(text: str, entry: str | None) -> None:
    assert graph_of(text).entry == entry


def test_a_lone_module_is_a_flow_that_metrics_can_read() -> None:
    text = """
    record Row { question: str  answer: str }
    module Answer(question: str) -> (answer: str) {}
    dataset rows: Row = jsonl "rows.jsonl"
    metric exact(gold: Row, pred: Answer.out) -> bool = gold.answer == pred.answer
    objective o { flow: Answer  data: rows  metric: exact }
    """
    graph = graph_of(text)
    assert graph.entry == "Answer"
    assert [node.id for node in graph.flow("Answer").body.nodes] == ["Answer/Answer"]
    assert graph.objective("o").flow == "Answer"


def test_labels_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("card arrival?\r\n\nC++\nC#\nif\n2nd try\nplain\n√\n", encoding="utf-8")
    text = 'enum E = lines "labels.txt"\nflow F(a: str) -> (e: E) { return (e=E.card_arrival) }'
    compilation = compiled(text, tmp_path)
    members = [(one.name, one.label) for one in compilation.require().enums[0].members]
    assert members == [
        ("card_arrival", "card arrival?"),
        ("C", "C++"),
        ("C_2", "C#"),
        ("if_", "if"),
        ("_2nd_try", "2nd try"),
        ("plain", "plain"),
        ("label_8", "√"),
    ]
    assert set(compilation.sources) == {"program.lmg", "labels.txt"}


def test_files_are_called_by_the_folder_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sub" / "sub"
    folder.mkdir(parents=True)
    (tmp_path / "sub" / "a.lmg").write_text('from "sub/a.lmg" import Row\nrecord Other { row: Row  wrong: Nope }\n')
    (folder / "a.lmg").write_text("record Row { text: Nope }\n")
    monkeypatch.chdir(tmp_path)
    found = compile_path(Path("sub/a.lmg"))
    assert [one.primary.span.file for one in found.diagnostics] == ["sub/a.lmg", "sub/sub/a.lmg"]
    assert set(found.sources) == {"sub/a.lmg", "sub/sub/a.lmg"}


def test_imports_nest_so_deep_and_no_deeper(tmp_path: Path) -> None:
    for number in range(70):
        text = f'from "f{number + 1}.lmg" import R{number + 1}\nrecord R{number} {{ text: str }}\n'
        (tmp_path / f"f{number}.lmg").write_text(text)
    found = compile_path(tmp_path / "f0.lmg")
    assert [one.code for one in found.diagnostics if one.severity == "error"] == ["E0108"]


def test_a_long_chain_of_flows_is_no_recursion() -> None:
    flows = [f"flow F{n}(a: str) -> (a: str) {{ x = F{n + 1}(a)  return (a=x.a) }}" for n in range(1200)]
    last = "flow F1200(a: str) -> (a: str) { return (a) }"
    assert compiled("\n".join([*flows, last])).graph is not None
    assert codes("\n".join([*flows, last.replace("return (a)", "x = F3(a)  return (a=x.a)")])) == ["E0205"]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "program"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("a\n")
    (root / "labels.txt").symlink_to(tmp_path / "secret.txt")
    found = compiled('enum E = lines "labels.txt"\nrecord R { e: E }', root)
    assert [one.code for one in found.diagnostics] == ["E0501"]


def test_labels_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    found = compiled('enum E = lines "labels.txt"\nrecord R { e: E }', tmp_path)
    assert [one.code for one in found.diagnostics] == ["E0501"]
    assert codes('enum E = lines "labels.txt"\nrecord R { e: E }') == ["E0501"]


def test_require_raises_with_every_diagnostic() -> None:
    compilation = compiled("record R { a: Nope  b: Neither }")
    assert compilation.graph is None
    with pytest.raises(CompileError) as caught:
        compilation.require()
    assert [one.code for one in caught.value.diagnostics] == ["E0201", "E0201"]
    assert "program.lmg:1:15" in str(caught.value)


def test_a_syntax_error_leaves_names_unchecked() -> None:
    assert codes("record R { a: Nope }\nrecord S {") == ["E0104"]


def test_one_root_cause_is_told_once() -> None:
    text = """
    module M(a: Nope) -> (b: Nope) {}
    flow F(a: Nope) -> (c: str) {
      x = M(a)
      y = [z.part + 1 for z in x.b.more if z.ok and len(z) > 2]
      w = if x.b == 3 then y else [x]
      return (c=w[0].d.e)
    }
    """
    assert codes(text) == ["E0201", "E0201", "E0201"]


def test_names_types_and_dead_statements_in_one_run() -> None:
    text = """
    enum Team { billing  other }
    module Route(issue: str) -> (team: Team) {}
    flow F(issue: str) -> (team: Team) {
      a = Route(isue=issue)
      b = Route(issue=3)
      c = Team.biling
      return (team=a.team)
      d = 1
    }
    """
    assert codes(text) == ["E0302", "E0301", "E0307", "E0401"]


def test_null_is_tracked_through_conditions() -> None:
    text = """
    record Note { text: str? }
    flow F(note: Note, more: list[Note]) -> (a: str, b: list[str], c: bool, d: str) {
      a = if note.text == null then "" else note.text
      b = [n.text for n in more if not (n.text == null)]
      c = note.text != null and len(note.text) > 0
      d = if note.text != null or len(a) > 0 then note.text else ""
      return (a, b, c, d)
    }
    """
    assert [(one.code, one.primary.span.start > text.index("d = if")) for one in compiled(text).diagnostics] == [
        ("E0308", True)
    ]


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        compile_path(tmp_path / "nothing.lmg")


def test_compiling_imports_nothing_heavy(samples: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from lmgraph.compiler.compile import compile_path
from lmgraph.graph.dump import dump
dump(compile_path(Path({str(samples / "hello.lmg")!r})).require())
heavy = {{"torch", "transformers", "pydantic", "networkx", "rich", "numpy"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_trace_that_a_metric_reads_may_be_a_value_of_its_own() -> None:
    text = """
module Read(text: str) -> (label: str) {}
record Row { text: str  label: str }
metric quick(gold: Row, pred: Read.trace) -> float = 1 / (1 + (pred catch pred).calls)
"""
    graph = compile_source(Source("program.lmg", text), root=None).require()
    body = graph.metric("quick").body
    assert body is not None
    assert [node.kind for node in walk(body)] == ["catch"]
