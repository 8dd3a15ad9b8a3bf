"""Drawings: every value appears, control is shown, and no text of a program is read as markup."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lmgraph.graph.draw import to_dot, to_mermaid, to_text
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import CatchNode, Const, ExprNode, IfNode, MakeList, NodeId, Return
from lmgraph.graph.scene import Box, Part, scenes
from lmgraph.graph.types import STR, Field
from lmgraph.graph.walk import values_of, walk
from support.graph_parts import apply, call, flow, operands, ref, region, unnamed
from support.graph_samples import KEEP, every_kind

MARKUP = 'a"]; x --> y <b>&amp;</b> \\ end\nsubgraph`'


def marked() -> Graph:
    """Texts of the program that look like markup, in all places that drawings show."""
    out = ExprNode(NodeId("G/out"), Const(MARKUP), STR)
    held = IfNode(NodeId("G/if"), apply("==", ref("G/out"), Const(MARKUP)), region(), region(), ())
    made = flow("G", (), (Field("out", STR),), out, held, results=operands(out=ref("G/out")))
    return replace(every_kind(), name=MARKUP, flows=(made, *every_kind().flows))


def shapes(part: Part) -> list[Part]:
    return [part, *(one for inner in part.parts for one in shapes(inner))] if isinstance(part, Box) else [part]


# -- text ------------------------------------------------------------------------------------------------------------


def test_text_names_every_value() -> None:
    graph = every_kind()
    text = to_text(graph)
    for made in graph.flows:
        for node in walk(made.body):
            assert re.search(rf"^ +{re.escape(node.id)} = ", text, re.MULTILINE), node.id
            for value in values_of(node):
                assert value.rpartition(":")[2] in text


def test_text_tells_declarations() -> None:
    text = to_text(every_kind())
    for line in (
        "graph sample (edition 1), entry Main",
        "enum Verdict: yes, no, unknown",
        "record Row(claim: str, verdict: Verdict, private_note: private str)",
        "lm big: clearance private",
        "lm default: bound at run time",
        "fn normal(text: str) -> str: py texts:normal",
        "retriever search(query: str, k: int = 5) -> list[str]: "
        "py index:search, answers remembered, 2.5 seconds, reads index/pages.jsonl, at most k",
        "tool send(text: str) -> (id: str, at: int): py mail:send",
        "module Guess(claim: str) -> (verdict: Verdict): "
        "best_of, 3 samples, selected by vote, lm default, max_tokens 128",
        '  assert len(notes) > 0 else "there are notes"',
        '  check sure > 0.2 else "it is sure"',
        "moved Decide -> Judge",
        "metric right(gold: Row, out: Main.out) -> bool = gold.verdict in out.verdicts",
        "metric judged(gold: Row, pred: Verify.out) -> bool",
        "  judged/Keep = Keep(text=judged/gold.claim)",
        "  return judged/Keep.good",
        "metric short(gold: Row, pred: Verify.trace) -> float = py m:short",
        "  longest chain of calls: Main/verdicts/Verify (4 calls)",
    ):
        assert f"\n{line}\n" in f"\n{text}", line
    assert "sure: float where it >= 0.0" in text
    assert "react, tools search send, at most 4 steps" in text
    assert "derived from Answer" in text
    assert text.endswith("optimizes Judge.demos; judge big\n")


def test_text_of_nodes() -> None:
    text = to_text(every_kind())
    for line in (
        "  Verify/clean = fn normal(text=Verify/claim): str",
        "    Verify/hop/hits = retrieve search(query=Verify/claim, k=5): list[str]",
        "    Verify/told.then/send = tool send(text=Verify/open): send.out",
        "    Main/verdicts/Verify = flow Verify(claim=Main/verdicts/claim, strict=true)",
        '  Verify/if = if Verify/clean == ""',
        '    Verify/if.then/return = return verdict="not known", notes=[]',
        "  Verify/hop = loop at most 3 as Verify/hop/hop: (notes, done)",
        "    carry Verify/hop/notes = []: list[str]",
        "    carry Verify/hop/done = false: bool",
        "    yield notes=Verify/hop/notes + Verify/hop/read, done=Verify/hop/if:done",
        "    Verify/hop/stop = exit Verify/hop if Verify/hop/if:done "
        "with notes=Verify/hop/notes + Verify/hop/read, done=Verify/hop/if:done",
        '  Verify/assert = assert len(Verify/hop:notes) > 0 else "nothing was found"',
        '  Verify/open = release Verify/judged because "a verdict tells nothing": Verdict',
        "  Verify/judged = catch: Verdict",
        "  where it fails with Verify/judged.catch/message",
        "  Verify/told = if Verify/strict: str?",
        "  else",
        "    yield null",
        "  Main/verdicts = map Main/verdicts/claim in Main/claims if len(Main/verdicts/claim) > 0: list[Verdict]",
    ):
        assert f"\n{line}\n" in text, line


def test_text_of_a_condition_that_calls() -> None:
    text = to_text(every_kind())
    assert (
        "    Verify/hop/read = map Verify/hop/read/text in Verify/hop/hits: list[str]\n"
        "    where\n"
        "      Verify/hop/read/Keep = Keep(text=Verify/hop/read/text)\n"
        "      yield Verify/hop/read/Keep.good\n"
        "    each\n"
        "      Verify/hop/read/Distill ="
    ) in text


# -- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_show_every_value_once() -> None:
    graph = every_kind()
    for scene, made in zip(scenes(graph), graph.flows, strict=False):
        ids = [one.id for one in shapes(scene.box)]
        assert len(ids) == len(set(ids))
        for node in walk(made.body):
            assert set(values_of(node)) <= set(ids)
        assert {end for one in scene.arrows for end in (one.source, one.target)} <= set(ids)


def test_metrics_that_call_are_drawn() -> None:
    assert [one.box.label for one in scenes(every_kind())] == ["flow Main", "flow Verify", "metric judged"]


@pytest.mark.parametrize("graph", [every_kind(), marked()])
def test_mermaid_labels_hold_no_markup(graph: Graph) -> None:
    text = to_mermaid(graph)
    assert text.startswith("flowchart TD\n")
    for label in re.findall(r'"([^"]*)"', text):
        assert label
        assert not re.search(r"[\"\[\]{}<>&;|`\\\n]", re.sub(r"#\d+;", "", label)), label
    opened, closed = (re.findall(rf"^ +{word}", text, re.MULTILINE) for word in ("subgraph ", "end$"))
    assert len(opened) == len(closed)
    declared = re.findall(r"^\s*(?:subgraph )?(n\d+_\d+)[(\[{]", text, re.MULTILINE)
    used = re.findall(r"^  (n\d+_\d+) (?:-->|-\.->|-\. again \.->) (n\d+_\d+)$", text, re.MULTILINE)
    assert len(declared) == len(set(declared))
    assert {name for edge in used for name in edge} <= set(declared)
    assert len(used) == sum(len(one.arrows) for one in scenes(graph))
    assert len(used) == len(set(used))


@pytest.mark.parametrize("graph", [every_kind(), marked()])
def test_dot_strings_are_closed(graph: Graph) -> None:
    text = to_dot(graph)
    assert text.startswith('digraph "')
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert '"' not in bare
    assert bare.count("{") == bare.count("}")
    declared = set(re.findall(r"^\s*(n\d+_\d+) \[", text, re.MULTILINE))
    used = {name for edge in re.findall(r"(n\d+_\d+) -> (n\d+_\d+)", text) for name in edge}
    assert used <= declared


def test_pictures_show_control() -> None:
    mermaid, dot = to_mermaid(every_kind()), to_dot(every_kind())
    for label in ("loop hop", "at most 3", "try judged", "where it fails", "then", "flow Verify", "stop if done"):
        assert f'"{label}"' in mermaid
        assert f'label="{label}"' in dot
    assert "-. again .->" in mermaid
    assert "-.->" in mermaid
    assert dot.count("constraint=false") == 2
    assert 'label="if strict", shape=diamond' in dot


def test_bare_catches_and_branches_are_no_boxes() -> None:
    tried = CatchNode(
        NodeId("G/x"),
        region(call("G/x.try/Keep", KEEP, text=Const("")), results=unnamed(ref("G/x.try/Keep", "good"))),
        None,
        region(results=unnamed(MakeList(()))),
        STR,
    )
    leave = IfNode(NodeId("G/if"), ref("G/x"), region(Return(NodeId("G/if.then/return"), ())), region(), ())
    graph = Graph("g", flows=(flow("G", (), (), tried, leave, results=()),))
    text = to_dot(graph)
    assert re.findall(r'^ +label="(.*)";$', text, re.MULTILINE) == ["flow G", "try x", "then"]
    assert 'label="x"' in text


def test_deep_graphs_are_drawn() -> None:
    inner = call("F/x", KEEP, text=Const(""))
    node: IfNode = IfNode(NodeId("F/if"), Const(True), region(inner), region(), ())
    for number in range(125):
        node = IfNode(NodeId(f"F/if{number}"), Const(True), region(node), region(), ())
    graph = Graph("g", flows=(flow("F", (), (), node, results=()),))
    assert "F/x = Keep" in to_text(graph)
    assert '"x = Keep"' in to_mermaid(graph)
    assert '"x = Keep"' in to_dot(graph)
