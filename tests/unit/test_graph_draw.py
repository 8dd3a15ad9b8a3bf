"""Drawings: every value appears, and no text of a program is read as markup."""

from __future__ import annotations

import re

from lmgraph.compiler.compile import compile_source
from lmgraph.graph.draw import to_dot, to_mermaid, to_text
from lmgraph.graph.graph import Graph
from lmgraph.source import Source

PROGRAM = r'''
module Name(part: str) -> (name: str) {}
flow F(parts: list[str]) -> (all: list[str], odd: str) {
  all = [Name(part=p).name for p in parts]
  odd = "a\"]; x --> y <b>&amp;</b> \\" + "end\nsubgraph"
  return (all, odd)
}
flow G(part: str) -> (name: str) {
  out = Name(part)
  return (name=out.name)
}
'''


def graph() -> Graph:
    return compile_source(Source("program.lmg", PROGRAM), root=None).require()


def test_mermaid_labels_hold_no_markup() -> None:
    text = to_mermaid(graph())
    assert text.startswith("flowchart TD\n")
    for label in re.findall(r'"([^"]*)"', text):
        assert not re.search(r"[\"\[\]{}<>&;|`]", re.sub(r"#\d+;|<br/>", "", label)), label
    assert text.count("subgraph") - text.count("#") * 0 >= 3
    declared = set(re.findall(r"^\s*(?:subgraph )?(n\d+_\d+)[(\[]", text, re.MULTILINE))
    used = set(re.findall(r"^  (n\d+_\d+) --> (n\d+_\d+)$", text, re.MULTILINE))
    assert {name for edge in used for name in edge} <= declared


def test_dot_strings_are_closed() -> None:
    text = to_dot(graph())
    assert text.startswith('digraph "program" {\n')
    assert text.count("{") - text.count("}") == 0
    for line in text.splitlines():
        assert re.sub(r'"(?:[^"\\]|\\.)*"', "", line).count('"') == 0, line


def test_text_names_every_value() -> None:
    text = to_text(graph())
    for id in ("F/all", "F/all/p", "F/all/Name", "F/odd", "G/out"):
        assert id in text
    assert "longest chain of calls: F/all/Name" in text
