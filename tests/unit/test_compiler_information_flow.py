"""Labels of values: what a leak's report says, what is listed, and what labels leave as it was."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmgraph.cli.app import app
from lmgraph.compiler.compile import Compilation, compile_source
from lmgraph.graph.dump import content_hash, dump, load
from lmgraph.graph.graph import Graph
from lmgraph.graph.labels_flow import MOST_CONTEXTS
from lmgraph.graph.labels_program import information_flow
from lmgraph.graph.nodes import ExprNode
from lmgraph.graph.walk import walk
from lmgraph.source import Source

GOLDEN = Path(__file__).parent.parent / "golden"
LMS = "lm cloud {}\nlm here { clearance: private }\nmodule Ask(text: str) -> (answer: str) { lm: cloud }\n"
KEEP = "module Keep(text: str) -> (answer: str) { lm: here }\n"


def compiled(text: str) -> Compilation:
    return compile_source(Source("program.lmg", text), root=None)


def codes(text: str) -> list[str]:
    return [one.code for one in compiled(text).diagnostics if one.severity == "error"]


def sections(name: str) -> list[str]:
    return re.split(r"^## ", (GOLDEN / name).read_text("utf-8"), flags=re.MULTILINE)[1:]


def test_enough_programs_leak_and_enough_do_not() -> None:
    leaking = sections("leaks.md")
    assert len(leaking) >= 30
    assert all(re.search(r"error\[E0[27]\d\d\]", one) for one in leaking)
    safe = sections("no_leaks.md")
    assert len(safe) >= 10
    assert all(one.rstrip().endswith("```text\nok\n```") for one in safe)


KINDS = {
    "direct": "an argument",
    "through a loop": "through a loop, round by round",
    "under a private if": "under a private if",
    "after a private stop": "after a private stop",
    "fan-out over a private list": "for each element of a private list",
    "rebinding": "another name for a private value",
    "a private demo": "demos from rows, whose answers are private",
    "private feedback": "what a public model writes",
    "a judge": "a judge",
    "a judge in a flow": "a judge inside a flow that a metric calls",
    "a caught failure": "a value that may be missing, where the run goes on",
    "a guarded tool": "a tool behind an assert, where the run goes on",
    "an unread failure": "a value that may be missing, and that no output needs",
    "a flow call": "a flow that calls a flow",
    "a record's field": "a field of a record",
    "a union": "inside a union",
}
"""A golden for each kind of leak that the compiler refuses. Proposers and shared adapters are refused when a run starts
(test_optimize_clearance.py), adapters of artifacts when they load (golden/learned.md), exports mask
(test_cli_trace.py), and caches tell machines apart (test_runtime_cache.py)."""


def test_every_kind_of_leak_has_a_golden() -> None:
    titles = {one.partition("\n")[0] for one in sections("leaks.md")}
    assert set(KINDS.values()) <= titles


def test_a_leaking_program_has_no_graph() -> None:
    text = LMS + "flow F(q: private str) -> (a: str) {\n  return (a=Ask(text=q).answer)\n}\n"
    assert compiled(text).graph is None
    assert compiled(text).tests == ()


def test_the_report_shows_the_way() -> None:
    text = (
        LMS + KEEP + "flow Loud(text: str) -> (text: str) {\n  return (text=text + \"!\")\n}\n"
        "flow F(q: private str) -> (a: str) {\n"
        "  kept = Keep(text=q)\n  loud = Loud(text=kept.answer)\n  out = Ask(text=loud.text)\n"
        "  return (a=out.answer)\n}\n"
    )  # fmt: skip
    (problem,) = [one for one in compiled(text).diagnostics if one.severity == "error"]
    assert text[problem.primary.span.start : problem.primary.span.end] == "loud.text"
    shown = [text[one.span.start : one.span.end] for one in problem.secondary]
    assert shown == ["q", "kept = Keep(text=q)", "kept.answer", "loud = Loud(text=kept.answer)", "cloud"]
    assert problem.secondary[0].message == "`q` of `F` is private"
    assert problem.help is not None
    assert "release" in problem.help


def test_each_caller_of_a_flow_sees_its_own_way() -> None:
    body = "  loud = Loud(text={1})\n  return (a=Ask(text=loud.text).answer)\n"
    flow = "flow {0}({1}: private str) -> (a: str) {{\n" + body + "}}\n"
    text = LMS + "flow Loud(text: str) -> (text: str) {\n  return (text)\n}\n" + flow.format("F", "mine")
    problems = compiled(text + flow.format("G", "yours")).diagnostics
    assert [one.secondary[0].message for one in problems if one.code == "E0701"] == [
        "`mine` of `F` is private",
        "`yours` of `G` is private",
    ]


def test_a_long_way_is_cut() -> None:
    steps = "".join(f'  x{number} = x{number - 1} + "!"\n' for number in range(1, 30))
    text = LMS + f"flow F(x0: private str) -> (a: str) {{\n{steps}  return (a=Ask(text=x29).answer)\n}}\n"
    (problem,) = [one for one in compiled(text).diagnostics if one.severity == "error"]
    messages = [one.message for one in problem.secondary]
    assert messages[0] == "`x0` of `F` is private"
    assert "`x29` is made from it" in messages
    assert len(messages) <= 6


def test_many_combinations_of_labels_stay_few() -> None:
    """A flow is looked at for each combination of its inputs' labels, up to a limit; beyond it, all are private."""
    inputs = [f"i{number}" for number in range(8)]
    callee = f"flow G({', '.join(f'{one}: str' for one in inputs)}) -> (a: str) {{\n  return (a=i0)\n}}\n"
    calls = []
    for mask in range(MOST_CONTEXTS + 8):
        given = ", ".join(f"{one}={'p' if mask >> bit & 1 else 'q'}" for bit, one in enumerate(inputs))
        calls.append(f"  c{mask} = G({given})\n")
    body = "".join(calls) + "  return (a=c0.a)\n"
    text = f"{callee}flow F(p: str, q: private str) -> (a: str) {{\n{body}}}\n"
    assert compiled(text).graph is not None


@pytest.mark.parametrize("limit", [2, 10, 1000])
def test_a_loop_is_looked_at_until_its_labels_stay(limit: int) -> None:
    names = [f"v{number}" for number in range(12)]
    variables = "".join(f'  var {name} = "{name}"\n' for name in names)
    shifts = "".join(f"    {one} := {other}\n" for one, other in pairwise(names))
    text = (
        LMS + f"flow F(q: private str) -> (a: str) {{\n{variables}  repeat max {limit} {{\n"
        f"    out = Ask(text=v0)\n{shifts}    v11 := q + out.answer\n  }}\n  return (a=v0)\n}}\n"
    )
    assert codes(text) == ["E0701"]


# -- what labels leave as it was -------------------------------------------------------------------------------------


def test_loops_in_loops_are_looked_at_together() -> None:
    """Each to its own end, this many would take hours."""
    head = """
        lm cloud { model: "elsewhere" }
        module Ask(text: str) -> (answer: str) { lm: cloud }
        flow F(ill: private bool, p: str) -> (a: str) {
          var seen: str = p
          var next: str = p
    """
    body = """
          other = Ask(text=seen)
          seen := next
          next := if ill then "ill" else other.answer
    """
    loops = "repeat max 2 { " * 24 + body + "} " * 24
    assert codes(f"{head}{loops} return (a=seen) }}") == ["E0701"]
    assert codes(f"{head}{loops.replace('if ill then', 'if p == next then')} return (a=seen) }}") == []


def test_graphs_without_labels_of_their_own_keep_their_text() -> None:
    graph = compiled(LMS + "flow F(q: str) -> (a: str) {\n  x = q\n  return (a=Ask(text=x).answer)\n}\n").require()
    assert "label" not in dump(Graph("g", externs=graph.externs))
    assert load(dump(graph)) == graph
    text = 'retriever look(q: str) -> private list[str] = py "a:b" { clearance: private }\n'
    text += "flow F(q: str) -> (a: str) {\n  x: private str = q\n  return (a=x)\n}\n"
    compilation = compile_source(Source("p.lmg", text), root=None)
    labelled = compilation.require()
    assert load(dump(labelled)) == labelled
    (look,) = labelled.externs
    assert (look.clearance, look.label) == ("private", "private")
    plain = replace(labelled, externs=(replace(look, clearance="public", label="public"),))
    assert '"clearance"' not in dump(plain)
    assert content_hash(plain) != content_hash(labelled)


def test_a_private_binding_has_a_node_of_its_own() -> None:
    text = "flow F(q: str) -> (a: str) {\n  x: private str = q\n  y = x\n  return (a=y)\n}\n"
    nodes = {node.id: node for node in walk(compiled(text).require().flow("F").body)}
    assert list(nodes) == ["F/x", "F/x.private", "F/y"]
    node = nodes["F/x.private"]  # type: ignore[index]
    assert isinstance(node, ExprNode)
    assert node.label == "private"


# -- what is listed --------------------------------------------------------------------------------------------------

LISTED = (
    LMS + KEEP + "record Row {\n  q: private str\n  a: private str\n}\n\n"
    "flow F(q: private str) -> (a: str) {\n  kept = Keep(text=q)\n"
    '  release safe = kept.answer because "it was asked to"\n  return (a=Ask(text=safe).answer)\n}\n\n'
    "metric same(gold: Row, pred: F.out) -> bool = gold.a == pred.a\n"
    'dataset rows: Row = jsonl "rows.jsonl"\n'
    "objective right {\n  flow: F\n  data: rows\n  metric: same\n}\n"
)


def test_what_is_found_of_a_program() -> None:
    found = information_flow(compiled(LISTED).require())
    assert found.leaks == ()
    ((release, taint),) = found.releases
    assert release.id == "F/safe"
    assert taint is not None
    assert [(one.kind, one.name, one.lm, one.fields) for one in found.given] == [("module", "Keep", "here", ("text",))]
    (channel,) = found.channels
    assert (channel.objective, channel.place, channel.seer) == ("right", "Ask", "lm cloud")
    assert channel.knobs == ("instruction", "demos", "weights")


def test_what_a_cleared_module_learns_may_stand_in_public_outputs() -> None:
    """It is asked with public values, so what it gives counts as public; its demos and weights are of private rows."""
    text = LISTED.replace("kept = Keep(text=q)", 'kept = Keep(text="hello")')
    found = information_flow(compiled(text).require())
    assert [(one.place, one.seer) for one in found.channels] == [("Ask", "lm cloud"), ("Keep", None)]


def test_explain_and_plan(tmp_path: Path) -> None:
    path = tmp_path / "program.lmg"
    path.write_text(LISTED, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"q": "a", "a": "b"}\n' * 10, encoding="utf-8")
    told = CliRunner().invoke(app, ["compile", str(path), "--explain"])
    assert told.exit_code == 0, told.output
    assert 'program.lmg:12: release safe = kept.answer because "it was asked to"' in told.stdout
    assert "made of the private F.q" in told.stdout
    assert "module Keep (lm here, clearance private): text" in told.stdout
    assert "private scores choose instruction, demos, weights of Ask" in told.stdout
    assert "a run that fails on private values may make fewer calls" in told.stdout
    assert "an engine that cannot hold a model to a form asks a module without retries once more" in told.stdout
    assert "a run of F: 2 calls of models, 256 tokens written, 2 calls one after the other" in told.stdout
    planned = CliRunner().invoke(app, ["plan", str(path)])
    assert planned.exit_code == 0, planned.output
    assert "objective right: flow F on rows (train 6, dev 2, test 2)" in planned.stdout
    assert "Keep: instruction, demos, weights (lm here, which may see private values)" in planned.stdout
    as_json = CliRunner().invoke(app, ["plan", str(path), "--json"])
    assert '"calls": 2' in as_json.stdout


def test_nothing_private_says_so(tmp_path: Path) -> None:
    path = tmp_path / "program.lmg"
    path.write_text("module Ask(text: str) -> (answer: str) {}\n", encoding="utf-8")
    told = CliRunner().invoke(app, ["compile", str(path), "--explain"])
    assert "nothing is private" in told.stdout
