"""Fingerprints: what each of the five sees, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.graph.graph import Graph, LmSpec
from lmgraph.graph.types import STR, EnumMember, EnumType, Field, ListType, RecordType
from lmgraph.program import AdapterRef, Demo, Params, Program
from lmgraph.program.fingerprints import behaviour_hash, data_hash, fingerprints, interface_hash, lm_hash
from lmgraph.program.params import stamped
from lmgraph.program.positions import positions
from lmgraph.source import Source

TEXT = """edition 1
enum Team { billing  shipping }
module Sort(text: str) -> (team: Team) { \"\"\"Name the team.\"\"\" }
module Reply(text: str, team: Team, n: int = 0) -> (reply: str, ok: bool) {}
flow Desk(text: str, others: list[str]) -> (reply: str) {
  sorted = Sort(text)
  var reply = ""
  repeat max 3 {
    out = Reply(text=text + reply, team=sorted.team)
    reply := out.reply
    stop if out.ok
  }
  more = [Reply(text=other, team=Team.billing).reply for other in others]
  if len(more) > 2 {
    last = Sort(text=reply)
    reply := text
  }
  return (reply)
}
"""


def graph(text: str = TEXT) -> Graph:
    return compile_source(Source("program.lmg", text), root=None).require()


def test_positions_say_where_inputs_come_from_and_what_is_around() -> None:
    found = positions(graph())
    assert found["Sort"] == {
        "Desk": [((), ("text: input text",)), (("if Reply.reply, input others",), ("text: Reply.reply",))]
    }
    assert found["Reply"] == {
        "Desk": [
            (("loop",), ("n: ", "team: Sort.team", "text: Reply.reply, input text")),
            (("map input others",), ("n: ", "team: ", "text: input others")),
        ]
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("team=sorted.team", "team=Team.shipping"),
        ("text=text + reply", "text=reply"),
        ("for other in others", 'for other in ["a", "b"]'),
        ("    last = Sort(text=reply)\n    reply := text", "    reply := text"),
        ("  if len(more) > 2 {\n    last = Sort(text=reply)", "  last = Sort(text=reply)\n  if len(more) > 2 {"),
    ],
)
def test_the_graph_fingerprint_sees_a_call_that_sits_otherwise(old: str, new: str) -> None:
    before, after = fingerprints(graph()), fingerprints(graph(TEXT.replace(old, new)))
    changed = {name for name in before if before[name].graph != after[name].graph}
    assert changed
    assert {name: replace(one, graph={}) for name, one in before.items()} == {
        name: replace(one, graph={}) for name, one in after.items()
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max 3", "max 7"),
        ("sorted", "found"),
        ("text + reply", "reply + text"),
        ("len(more) > 2", "len(more) > 3"),
        ("text: str, others: list[str]", "others: list[str], text: str"),
    ],
)
def test_the_graph_fingerprint_does_not_see_names_and_numbers(old: str, new: str) -> None:
    assert fingerprints(graph(TEXT.replace(old, new))) == fingerprints(graph())


def test_behaviour_sees_descriptions_inside_types() -> None:
    def module(member: str | None, field: str | None) -> str:
        kind = EnumType("Kind", (EnumMember("a", "a", member),))
        note = RecordType("Note", (Field("kind", kind), Field("text", STR, field)))
        base = graph().module("Sort")
        return behaviour_hash(replace(base, inputs=(Field("notes", ListType(note)),)))

    assert len({module(None, None), module("one", None), module(None, "one"), module("one", "one")}) == 4


def test_behaviour_and_interface_do_not_see_the_order_of_fields() -> None:
    reply = graph().module("Reply")
    other = replace(reply, inputs=reply.inputs[::-1], outputs=reply.outputs[::-1])
    assert (behaviour_hash(other), interface_hash(other)) == (behaviour_hash(reply), interface_hash(reply))


def test_the_lm_is_its_model_and_clearance() -> None:
    small = LmSpec("m", "small")
    assert lm_hash(replace(small, name="n", engine="local", temperature=0.5)) == lm_hash(small)
    hashes = {lm_hash(lm) for lm in (small, replace(small, model="large"), replace(small, clearance="private"))}
    assert len(hashes) == 3
    assert lm_hash(LmSpec("m")) != lm_hash(LmSpec("n"))


def test_rows_are_the_same_in_any_order() -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert data_hash(rows) == data_hash([{"b": None, "a": 2}, rows[0]])
    assert data_hash(rows) != data_hash(rows[:1])
    assert data_hash([]) != data_hash([{}])


def test_what_is_learned_is_stamped_with_the_graph_and_the_rows_and_the_rest_is_not() -> None:
    before = Params.default(graph())
    demo = Demo({"text": "a"}, {"team": "billing"})
    once = stamped(before, before.with_module("Sort", demos=(demo,)), graph(), "rows-1")
    assert once.modules["Sort"].fingerprints.data == ("rows-1",)
    assert once.modules["Reply"] == before.modules["Reply"]
    ref = AdapterRef("a", 1, Path("a"), "small", "00")
    twice = stamped(once, once.with_adapter(ref, ("Sort", "Reply")), graph(), "rows-2")
    assert [twice.modules[name].fingerprints.data for name in ("Sort", "Reply")] == [("rows-1", "rows-2"), ("rows-2",)]
    moved = twice.with_adapter(replace(ref, version=2, folder=Path("b")), ("Sort", "Reply"))
    assert stamped(twice, moved, graph(), "rows-3").modules["Sort"].fingerprints.data == ("rows-1", "rows-2")


def test_learning_anew_makes_stale_parameters_fresh() -> None:
    changed = graph(TEXT.replace("Name the team.", "Which team?"))
    old = Params.default(graph()).with_module("Sort", instruction="Pick.")
    learned = stamped(old, old.with_module("Sort", instruction="Pick one."), changed, "rows")
    assert learned.modules["Sort"].fingerprints.behaviour == fingerprints(changed)["Sort"].behaviour
    assert Program.default(changed).params.modules["Sort"].fingerprints.data == ()
