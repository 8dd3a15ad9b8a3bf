"""Learned parameters on a changed program: what loads, what is told, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.errors import GraphMismatch
from lmgraph.graph.graph import Graph
from lmgraph.program.params import Demo
from lmgraph.program.program import Program
from lmgraph.program.python_files import python_files
from lmgraph.program.rebind import rebind
from lmgraph.source.text import Source

FIRST = """edition 1
enum Team { billing shipping }
lm own { clearance: private }
module Sort(text: str) -> (team: Team) { \"\"\"Name the team.\"\"\" }
module Reply(text: str, team: Team) -> (reply: str) { \"\"\"Answer.\"\"\" lm: own }
flow Desk(text: str) -> (reply: str) {
  sorted = Sort(text)
  out = Reply(text, team=sorted.team)
  return (reply=out.reply)
}
"""

DEMO = Demo({"text": "where is my parcel"}, {"team": "shipping"}, "labelled")


def graph(text: str) -> Graph:
    return compile_source(Source("program.lmg", text), root=None).require()


def learned() -> Program:
    program = Program.default(graph(FIRST))
    return program.with_params(program.params.with_module("Sort", instruction="Pick one.", demos=(DEMO,)))


def test_a_program_that_did_not_change_gets_all_of_it() -> None:
    program = learned()
    rebound = rebind(program, graph(FIRST))
    assert rebound.params == program.params
    assert rebound.notes == ()


def test_layout_comments_and_a_new_module_change_nothing_for_the_others() -> None:
    changed = "# a comment\n" + FIRST.replace("  sorted = Sort(text)", "  sorted =\n    Sort(text)")
    changed += "module Extra(text: str) -> (ok: bool) {}\nflow Other(text: str) -> (ok: bool) {\n"
    changed += "  out = Extra(text)\n  return (ok=out.ok)\n}\n"
    rebound = rebind(learned(), graph(changed))
    assert rebound.params.modules["Sort"] == learned().params.modules["Sort"]
    assert rebound.notes == ("`Extra` is new: it starts from what its author wrote",)


def test_a_moved_module_keeps_what_it_learned() -> None:
    changed = FIRST.replace("Sort", "Route") + "moved Sort -> Route\n"
    rebound = rebind(learned(), graph(changed))
    assert rebound.params.modules["Route"].demos == (DEMO,)
    assert rebound.params.modules["Route"].instruction == "Pick one."
    assert rebound.notes == ("`Route` has the parameters of `Sort`",)


def test_a_renamed_module_without_moved_is_refused_and_named() -> None:
    with pytest.raises(GraphMismatch) as caught:
        rebind(learned(), graph(FIRST.replace("Sort", "Route")))
    assert "`Sort` is not in the program (write `moved Sort -> Route`?)" in str(caught.value)


def test_an_author_who_rewrites_an_instruction_is_told_where_it_was_learned() -> None:
    changed = FIRST.replace("Name the team.", "Say which team it is.").replace("Answer.", "Answer in one sentence.")
    rebound = rebind(learned(), graph(changed))
    assert rebound.params.modules["Sort"].instruction == "Pick one."
    assert rebound.params.modules["Reply"].instruction == "Answer in one sentence."
    assert rebound.notes == ("`Sort` is stale: its author changed it after these parameters were learned",)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("(reply: str)", "(reply: str, sure: bool)", "output `sure` is new"),
        ("text: str, team: Team", "text: list[str], team: Team", "input `text` was `str` and is `list[str]`"),
        ("text: str, team: Team", "text: private str, team: Team", "input `text` was public and is private"),
    ],
)
def test_a_changed_interface_is_refused_with_the_fields(old: str, new: str, told: str) -> None:
    module = 'module Reply(text: str, team: Team) -> (reply: str) { """Answer.""" lm: own }'
    text = FIRST.replace(module, module.replace(old, new))
    if "list[str]" in new:
        text = text.replace("Reply(text, team", "Reply(text=[text], team")
    with pytest.raises(GraphMismatch) as caught:
        rebind(learned(), graph(text))
    assert "`Reply` changed: " + told in str(caught.value)


def test_nothing_loads_where_one_module_does_not_fit() -> None:
    changed = FIRST.replace('(reply: str) { "', '(reply: str, sure: bool) { "').replace("Sort", "Route")
    with pytest.raises(GraphMismatch) as caught:
        rebind(learned(), graph(changed))
    assert "`Reply` changed" in str(caught.value)
    assert "`Sort` is not in the program" in str(caught.value)


def test_python_files_follow_relative_imports(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text("from .text import cut\nfrom . import store\nimport json\n")
    (tmp_path / "text.py").write_text("from .search import nothing\n")
    (tmp_path / "store.py").write_text("")
    (tmp_path / "other.py").write_text("")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "deep.py").write_text("")
    assert sorted(python_files("search:bm25", tmp_path)) == ["search.py", "store.py", "text.py"]
    assert python_files("pkg.deep:f", tmp_path) == ["pkg/__init__.py", "pkg/deep.py"]
    assert python_files("missing:f", tmp_path) == ["missing.py"]
