"""Learned parameters on a changed program: what loads, what is told, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.errors import GraphMismatch
from lmgraph.graph.graph import Graph
from lmgraph.program.fingerprints import fingerprints
from lmgraph.program.params import AdapterRef, Demo, NodeParams
from lmgraph.program.program import Program
from lmgraph.program.python_files import python_files
from lmgraph.program.rebind import Rebound, rebind
from lmgraph.source.text import Source
from support.scripted import program_from

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


def loaded(text: str, program: Program | None = None) -> NodeParams:
    """What `Sort` gets, where everything loads."""
    return rebind(program or learned(), graph(text)).require().modules["Sort"]


def codes(rebound: Rebound) -> list[str]:
    return [one.code for one in rebound.problems]


def refused(text: str, program: Program | None = None) -> str:
    """What is said where nothing loads."""
    rebound = rebind(program or learned(), graph(text))
    assert rebound.params is None
    with pytest.raises(GraphMismatch) as caught:
        rebound.require()
    return str(caught.value)


def with_adapter(text: str) -> Program:
    program = Program.default(graph(text))
    return program.with_params(program.params.with_adapter(AdapterRef("a", 1, Path("a"), "small", "00"), ("Sort",)))


# -- what loads ------------------------------------------------------------------------------------------------------


def test_a_program_that_did_not_change_gets_all_of_it() -> None:
    rebound = rebind(learned(), graph(FIRST))
    assert rebound.require() == learned().params
    assert (rebound.problems, rebound.notes) == ((), ())


def test_layout_comments_and_a_new_module_change_nothing_for_the_others() -> None:
    changed = "# a comment\n" + FIRST.replace("  sorted = Sort(text)", "  sorted =\n    Sort(text)")
    changed += "module Extra(text: str) -> (ok: bool) {}\nflow Other(text: str) -> (ok: bool) {\n"
    changed += "  out = Extra(text)\n  return (ok=out.ok)\n}\n"
    rebound = rebind(learned(), graph(changed))
    assert rebound.require().modules["Sort"] == learned().params.modules["Sort"]
    assert rebound.problems == ()
    assert rebound.notes == ("`Extra` is new: it starts from what its author wrote",)


def test_fields_in_another_order_load_and_are_noted() -> None:
    program = learned()
    program = program.with_params(program.params.with_module("Reply", instruction="Be kind."))
    rebound = rebind(program, graph(FIRST.replace("Reply(text: str, team: Team)", "Reply(team: Team, text: str)")))
    assert rebound.require().modules == program.params.modules
    assert rebound.problems == ()
    assert rebound.notes == ("the fields of `Reply` are in another order than when its parameters were learned",)


def test_a_moved_module_keeps_what_it_learned() -> None:
    rebound = rebind(learned(), graph(FIRST.replace("Sort", "Route") + "moved Sort -> Route\n"))
    params = rebound.require().modules["Route"]
    assert (params.demos, params.instruction) == ((DEMO,), "Pick one.")
    assert rebound.problems == ()
    assert rebound.notes == ("`Route` has the parameters of `Sort`",)


def test_names_that_moved_on_are_followed() -> None:
    moved = "moved Sort -> Middle\nmoved Middle -> Route\n"
    assert rebind(learned(), graph(FIRST.replace("Sort", "Route") + moved)).require().modules["Route"].demos == (DEMO,)
    middle = Program.default(graph(FIRST.replace("Sort", "Middle")))
    middle = middle.with_params(middle.params.with_module("Middle", demos=(DEMO,)))
    assert rebind(middle, graph(FIRST.replace("Sort", "Route") + moved)).require().modules["Route"].demos == (DEMO,)


def test_of_two_modules_that_became_one_the_learned_one_is_taken() -> None:
    both = FIRST + "module Other(text: str) -> (team: Team) {}\n"
    program = Program.default(graph(both))
    program = program.with_params(program.params.with_module("Sort", demos=(DEMO,)))
    changed = FIRST.replace("Sort", "Route") + "moved Other -> Route\nmoved Sort -> Route\n"
    assert rebind(program, graph(changed)).require().modules["Route"].demos == (DEMO,)
    program = program.with_params(program.params.with_module("Other", demos=(DEMO,)))
    assert "`Sort` moved to `Route`, which takes what `Other` learned" in refused(changed, program)
    assert codes(rebind(program, graph(changed.replace("moved Sort -> Route\n", "")))) == ["W0801", "W0802"]


def test_the_parts_that_a_strategy_makes_move_with_their_module(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("def look(q: str) -> str:\n    return q\n")
    text = """edition 1
retriever look(q: str) -> str = py "steps:look"
module Act(q: str) -> (text: str) { strategy: react  tools: [look]  max_steps: 2 }
"""
    program = program_from(tmp_path, text)
    program = program.with_params(program.params.with_module("Act.step", instruction="Look first."))
    changed = program_from(tmp_path, text.replace("Act", "Do") + "moved Act -> Do\n")
    rebound = rebind(program, changed.graph)
    assert rebound.require().modules["Do.step"].instruction == "Look first."
    assert rebound.problems == ()
    unsaid = rebind(program, program_from(tmp_path, text.replace("Act", "Do")).graph)
    assert [one.moved for one in unsaid.problems] == [("Act", "Do")]
    plain = text.replace("strategy: react  tools: [look]  max_steps: 2", "")
    assert codes(rebind(program, program_from(tmp_path, plain).graph)) == ["E0802"]


def test_renaming_a_neighbour_or_an_enum_says_nothing_of_a_module() -> None:
    program = learned()
    program = program.with_params(program.params.with_module("Reply", instruction="Be kind."))
    changed = FIRST.replace("Sort", "Route").replace("Team", "Group") + "moved Sort -> Route\n"
    rebound = rebind(program, graph(changed))
    assert rebound.problems == ()
    assert rebound.notes == ("`Route` has the parameters of `Sort`",)


# -- what is told ----------------------------------------------------------------------------------------------------


def test_an_author_who_rewrites_an_instruction_is_told_where_it_was_learned() -> None:
    changed = FIRST.replace("Name the team.", "Say which team it is.").replace("Answer.", "Answer in one sentence.")
    rebound = rebind(learned(), graph(changed))
    modules = rebound.require().modules
    assert modules["Sort"].instruction == "Pick one."
    assert modules["Reply"].instruction == "Answer in one sentence."
    (problem,) = rebound.problems
    assert (problem.code, problem.module) == ("W0801", "Sort")
    assert problem.notes == ('its instruction was "Name the team." and is "Say which team it is."',)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Sort(text: str)", 'Sort(text: str "a letter")'),
        ("billing", 'billing = "billing" "about money"'),
        ('"""Name the team.""" }', '"""Name the team.""" strategy: cot }'),
        ('"""Name the team.""" }', '"""Name the team.""" check team != Team.billing else "no" }'),
    ],
)
def test_descriptions_strategy_and_checks_make_parameters_stale(old: str, new: str) -> None:
    assert "W0801" in codes(rebind(learned(), graph(FIRST.replace(old, new))))


def test_stale_parameters_stay_stale_until_they_are_learned_anew() -> None:
    changed = graph(FIRST.replace("Name the team.", "Say which team it is."))
    once = Program.default(changed).with_params(rebind(learned(), changed).require())
    assert codes(rebind(once, changed)) == ["W0801"]


def test_another_model_makes_what_was_learned_without_weights_stale() -> None:
    first = FIRST.replace('team.""" }', 'team.""" lm: m }') + 'lm m { model: "small" }\n'
    program = Program.default(graph(first))
    program = program.with_params(program.params.with_module("Sort", demos=(DEMO,)))
    rebound = rebind(program, graph(first.replace('"small"', '"large"')))
    assert codes(rebound) == ["W0801"]
    assert rebound.problems[0].notes == ("then small, now large",)
    renamed = first.replace("lm: m }", "lm: n }").replace("lm m {", "lm n {")
    assert codes(rebind(program, graph(renamed))) == []


def test_clearance_for_more_is_no_news() -> None:
    first = FIRST.replace('team.""" }', 'team.""" lm: m }') + 'lm m { model: "small" }\n'
    program = Program.default(graph(first))
    program = program.with_params(program.params.with_module("Sort", demos=(DEMO,)))
    cleared = graph(first.replace('"small"', '"small"  clearance: private'))
    params = rebind(program, cleared).require()
    assert codes(rebind(program, cleared)) == []
    assert params.modules["Sort"].fingerprints == fingerprints(cleared)["Sort"]


def test_a_module_that_sits_otherwise_is_noted() -> None:
    program = learned()
    program = program.with_params(program.params.with_module("Reply", instruction="Be kind."))
    rebound = rebind(program, graph(FIRST.replace("team=sorted.team", "team=Team.billing")))
    assert rebound.problems == ()
    assert rebound.notes == ("`Reply` sits otherwise in `Desk` than when its parameters were learned",)


def test_a_deleted_module_is_left_out_with_a_warning() -> None:
    text = FIRST + "module Extra(text: str) -> (ok: bool) {}\n"
    program = Program.default(graph(text))
    program = program.with_params(program.params.with_module("Extra", instruction="Is it fine?"))
    rebound = rebind(program, graph(FIRST))
    assert codes(rebound) == ["W0802"]
    assert set(rebound.require().modules) == {"Sort", "Reply"}


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_renamed_module_without_moved_is_refused_and_named() -> None:
    said = refused(FIRST.replace("Sort", "Route"))
    assert "E0803" in said
    assert "`Sort` has learned parameters, and the program has no such module" in said
    assert "write `moved Sort -> Route`" in said


def test_where_several_modules_may_be_meant_all_are_named() -> None:
    said = refused(FIRST.replace("Sort", "Route") + "module Route2(text: str) -> (team: Team) {}\n")
    assert "new modules, with the same inputs and outputs: `Route`, `Route2`" in said
    other = FIRST.replace("Sort(text: str)", "Route(text: str, n: int = 1)").replace("Sort(", "Route(")
    assert "new modules, with other inputs or outputs: `Route`" in refused(other)


REPLY = 'module Reply(text: str, team: Team) -> (reply: str) { """Answer.""" lm: own }'


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("(reply: str)", "(reply: str, sure: bool)", "output `sure` is new: `bool`"),
        ("(text: str, team", "(text: str, urgent: bool = false, team", "input `urgent` is new: `bool`"),
        ("text: str, team: Team", "text: list[str], team: Team", "input `text` was `str` and is `list[str]`"),
        ("text: str, team: Team", "text: private str, team: Team", "input `text` was public and is private"),
        ("text: str, team: Team", "text: str", "input `team` is gone: it was `Team`"),
        ("(reply: str)", "(answer: str)", "output `answer` is new: `str`; output `reply` is gone: it was `str`"),
        ("(reply: str)", "(reply: str?)", "output `reply` was `str` and is `str?`"),
    ],
)
def test_a_changed_interface_is_refused_with_the_fields(old: str, new: str, told: str) -> None:
    assert old in REPLY
    text = FIRST.replace(REPLY, REPLY.replace(old, new)).replace("(reply: str) {\n", f"{outputs(new)} {{\n")
    if "list[str]" in new:
        text = text.replace("Reply(text, team", "Reply(text=[text], team")
    if "gone: it was `Team`" in told:
        text = text.replace(", team=sorted.team", "")
    if "answer" in new:
        text = text.replace("reply=out.reply", "reply=out.answer")
    said = refused(text)
    assert "E0802: the parameters of `Reply` were learned for other inputs or outputs" in said
    assert told in said


def outputs(new: str) -> str:
    return "(reply: str?)" if new == "(reply: str?)" else "(reply: str)"


def test_changes_inside_types_are_named_by_their_path() -> None:
    first = """edition 1
enum Kind { one two }
record Note { kind: Kind  size: int }
module Read(notes: list[Note]) -> (best: Note?, kinds: map[str, Kind]) {}
"""
    program = Program.default(graph(first))
    said = refused(first.replace("one two", "one three").replace("size: int", "size: float  more: str"), program)
    for told in (
        'input `notes[].kind` no longer allows "two" and now allows "three"',
        "input `notes[].size` was `int` and is `float`",
        "output `best.more` is new: `str`",
        'output `kinds[]` no longer allows "two" and now allows "three"',
    ):
        assert told in said


def test_nothing_loads_where_one_module_does_not_fit() -> None:
    changed = FIRST.replace('(reply: str) { "', '(reply: str, sure: bool) { "').replace("Sort", "Route")
    said = refused(changed)
    assert "E0802" in said
    assert "E0803" in said


def test_an_adapter_loads_on_its_base_model_only() -> None:
    first = FIRST.replace('team.""" }', 'team.""" lm: m }') + 'lm m { model: "small" }\n'
    program = with_adapter(first)
    assert rebind(program, graph(first)).require().adapters == program.params.adapters
    said = refused(first.replace('"small"', '"large"'), program)
    assert "E0804: the adapter of `Sort` was trained on small, and the model of its LM `m` is large" in said


def test_a_program_may_name_the_model_that_its_adapter_was_trained_on() -> None:
    first = FIRST.replace('team.""" }', 'team.""" lm: m }') + 'lm m { model: "other" }\n'
    rebound = rebind(with_adapter(first), graph(first.replace('"other"', '"small"')))
    assert (codes(rebound), rebound.params is not None) == ([], True)


def test_what_was_learned_from_private_values_goes_to_no_public_lm() -> None:
    program = learned()
    assert codes(rebind(program, graph(FIRST.replace("{ clearance: private }", "{ clearance: public }")))) == []
    program = program.with_params(program.params.with_module("Reply", instruction="Write to Ann."))
    said = refused(FIRST.replace("{ clearance: private }", "{ clearance: public }"), program)
    assert "E0805: what `Reply` learned may hold private values, and its LM `own` may see public ones only" in said


def test_params_that_do_not_fit_their_own_artifact_are_refused() -> None:
    program = learned()
    sort = program.params.modules["Sort"]
    forged = replace(sort, fingerprints=replace(sort.fingerprints, interface="0"))
    forged_program = program.with_params(replace(program.params, modules={**program.params.modules, "Sort": forged}))
    assert "not learned for the program that they came with either" in refused(FIRST, forged_program)


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
