"""Demos that rows state, also of modules behind others: the flow with every module answered by the row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lmgraph
from lmgraph.evaluate import make_task
from lmgraph.graph import Graph
from lmgraph.graph.graph import LmSpec
from lmgraph.program import Demo, Program
from lmgraph.testing import tiny_program
from lmgraph_optimizers.demos.labels import AT_ONCE, labelled
from support.scripted import program_from, write_rows

ROOT = Path(__file__).parents[2]
HEAD = """
edition 1

enum Kind { fruit  tool }

record Seen { kind: Kind  sizes: list[int] where len(it) <= 2 }

record Row { word: str  kind: Kind  sizes: list[int]  people: int?  words: list[str]  kinds: list[Kind] }

module Look(word: str) -> (seen: Seen) { max_tokens: 9 }
module Sort(word: str) -> (kind: Kind) { max_tokens: 9 }
module Count(word: str, kind: Kind) -> (people: int?) { max_tokens: 9 }
module Think(word: str) -> (thought: str) { max_tokens: 9 }
module Judge(word: str, thought: str) -> (kind: Kind) { max_tokens: 9 }
"""
TAIL = """
dataset rows: Row = jsonl "rows.jsonl" { split: { train: "rows.jsonl", dev: "rest.jsonl", test: "rest.jsonl" } }

metric right(gold: Row, pred: Read.out) -> bool = gold.kind == gold.kind

objective rightness { flow: Read  data: rows  metric: right  range: [0, 1] }
"""
ROW: dict[str, Any] = {
    "word": "fig", "kind": "fruit", "sizes": [1], "people": 3, "words": ["fig", "saw"], "kinds": ["fruit", "tool"]
}  # fmt: skip


async def demos(folder: Path, flow: str, rows: list[dict[str, Any]], extra: str = "") -> dict[str, list[Demo]]:
    """Of every module of the flow, by module."""
    write_rows(folder / "rows.jsonl", rows)
    write_rows(folder / "rest.jsonl", [ROW, ROW])
    program = program_from(folder, HEAD + extra + flow + TAIL)
    task = make_task(program)
    modules = program.graph.modules_of(task.flow)
    return await labelled(program, task, list(task.train), tuple(modules))


def pairs(found: list[Demo]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(dict(demo.inputs), dict(demo.outputs)) for demo in found]


async def real(name: str, count: int) -> tuple[Program, dict[str, list[Demo]], dict[str, dict[str, Any]]]:
    program = lmgraph.compile_file(ROOT / "programs" / name / "program.lmg")
    task = make_task(program)
    rows = list(task.train)[:count]
    found = await labelled(program, task, rows, tuple(program.graph.modules_of(task.flow)))
    return program, found, {row.id: dict(row.values) for row in rows}


async def test_a_step_for_each_message_and_the_step_behind_it() -> None:
    _, found, rows = await real("support", 12)
    told = {row: list(zip(values["messages"], values["intents"], strict=True)) for row, values in rows.items()}
    shown = [(demo.inputs["message"], demo.outputs["intent"]) for demo in found["Label"]]
    assert shown == [pair for row in told.values() for pair in row]
    for demo in found["Route"]:
        row = rows[str(demo.example)]
        assert (demo.inputs["intents"], demo.outputs["team"]) == (row["intents"], row["team"])
        assert demo.origin == "labelled"
    assert len(found["Route"]) == 12


async def test_a_step_is_shown_the_rows_that_reach_it() -> None:
    _, found, rows = await real("extract", 30)
    assert len(found["Read"]) == 30
    for name, kind in (("ReadRating", "rate"), ("ReadTable", "book")):
        reached = [row for row, values in rows.items() if values["kind"] == kind]
        assert [demo.example for demo in found[name]] == reached != []
    for demo in found["ReadRating"]:
        row = rows[str(demo.example)]
        assert (demo.inputs["numbers"], demo.outputs["rating"]) == (row["numbers"], row["rating"])


async def test_a_record_field_by_field_and_its_constraints(tmp_path: Path) -> None:
    flow = "flow Read(word: str) -> (kind: Kind) { look = Look(word)  return (kind=look.seen.kind) }"
    long = {**ROW, "word": "saw", "kind": "tool", "sizes": [1, 2, 3]}
    found = await demos(tmp_path, flow, [ROW, long])
    assert pairs(found["Look"]) == [({"word": "fig"}, {"seen": {"kind": "fruit", "sizes": [1]}})]


async def test_a_name_that_is_returned_counts_before_the_name_of_the_output(tmp_path: Path) -> None:
    extra = "module Two(word: str) -> (kind: Kind, other: Kind) { max_tokens: 9 }\n"
    flow = "flow Read(word: str) -> (kind: Kind) { two = Two(word)  return (kind=two.other) }"
    found = await demos(tmp_path, flow, [ROW], extra)
    assert pairs(found["Two"]) == [({"word": "fig"}, {"kind": "fruit", "other": "fruit"})]


async def test_a_row_whose_answers_lead_elsewhere_gives_none(tmp_path: Path) -> None:
    flow = """flow Read(word: str) -> (kind: Kind) {
      sorted = Sort(word)
      turned = if sorted.kind == Kind.fruit then Kind.tool else sorted.kind
      return (kind=turned)
    }"""
    found = await demos(tmp_path, flow, [ROW, {**ROW, "word": "saw", "kind": "tool"}])
    assert [demo.inputs["word"] for demo in found["Sort"]] == ["saw"], "of the other its output is not what it states"


async def test_null_is_an_answer_where_the_module_may_give_it(tmp_path: Path) -> None:
    flow = """flow Read(word: str) -> (kind: Kind, people: int?) {
      sorted = Sort(word)
      counted = Count(word, kind=sorted.kind)
      return (kind=sorted.kind, people=counted.people)
    }"""
    found = await demos(tmp_path, flow, [ROW, {**ROW, "word": "saw", "people": None}])
    assert [demo.outputs for demo in found["Count"]] == [{"people": 3}, {"people": None}]
    sure = flow.replace("Count(", "Sure(").replace("people: int?", "people: int")
    extra = "module Sure(word: str, kind: Kind) -> (people: int) { max_tokens: 9 }\n"
    found = await demos(tmp_path, sure, [ROW, {**ROW, "word": "saw", "people": None}], extra)
    assert [demo.inputs["word"] for demo in found["Sure"]] == ["fig"]
    assert [demo.inputs["word"] for demo in found["Sort"]] == ["fig", "saw"], "it stood before that one"


async def test_what_no_row_states_ends_the_run_there(tmp_path: Path) -> None:
    flow = """flow Read(word: str) -> (kind: Kind) {
      thinking = Think(word)
      sorted = Sort(word)
      judged = Judge(word, thought=thinking.thought)
      return (kind=judged.kind)
    }"""
    found = await demos(tmp_path, flow, [ROW])
    assert {name: len(pool) for name, pool in found.items()} == {"Think": 0, "Sort": 1, "Judge": 0}


async def test_a_fallback_for_what_no_row_states_is_no_input_to_show(tmp_path: Path) -> None:
    flow = """flow Read(word: str) -> (kind: Kind) {
      thought = Think(word).thought catch "nothing"
      judged = Judge(word, thought)
      return (kind=judged.kind)
    }"""
    found = await demos(tmp_path, flow, [ROW])
    assert {name: len(pool) for name, pool in found.items()} == {"Think": 0, "Judge": 0}


async def test_elements_that_a_map_leaves_out_have_no_answer(tmp_path: Path) -> None:
    flow = """flow Read(words: list[str]) -> (kinds: list[Kind]) {
      kinds = [Sort(word=w).kind for w in words if len(w) > 2]
      return (kinds)
    }"""
    row = {**ROW, "words": ["fig", "ax", "saw"], "kinds": ["fruit", "tool"]}
    short = {**ROW, "words": ["fig", "saw"], "kinds": ["fruit"]}
    long = {**ROW, "words": ["fig"], "kinds": ["fruit", "tool"]}
    found = await demos(tmp_path, flow, [row, short, long])
    fig, saw = ({"word": "fig"}, {"kind": "fruit"}), ({"word": "saw"}, {"kind": "tool"})
    assert pairs(found["Sort"]) == [fig, saw, fig], "of too few labels those that there are, of too many none"


async def test_calls_at_two_places_are_not_told_apart(tmp_path: Path) -> None:
    flow = """flow Read(words: list[str], word: str) -> (kinds: list[Kind]) {
      one = Sort(word)
      kinds = [Sort(word=w).kind for w in words if one.kind == Kind.fruit]
      return (kinds)
    }"""
    extra_free = await demos(tmp_path, flow, [ROW])
    assert extra_free["Sort"] == [], "by its name alone each call would be of kind fruit, and the row says otherwise"


def has_acted(folder: Path) -> bool:
    return any(folder.glob("*.acted"))


async def test_no_tool_acts(tmp_path: Path) -> None:
    (tmp_path / "acts.py").write_text("def send(kind):\n    open(__file__ + '.acted', 'w').close()\n    return kind\n")
    extra = 'tool send(kind: str) -> str = py "acts:send"\n'
    flow = """flow Read(word: str) -> (kind: Kind, sent: str) {
      sorted = Sort(word)
      sent = send(kind="x" + word)
      return (kind=sorted.kind, sent)
    }"""
    found = await demos(tmp_path, flow, [ROW], extra)
    assert len(found["Sort"]) == 1
    assert not has_acted(tmp_path)


async def test_a_step_that_reasons_is_shown_the_answer(tmp_path: Path) -> None:
    extra = "module Muse(word: str) -> (kind: Kind) { strategy: cot  max_tokens: 9 }\n"
    flow = "flow Read(word: str) -> (kind: Kind) { mused = Muse(word)  return (kind=mused.kind) }"
    found = await demos(tmp_path, flow, [ROW], extra)
    assert pairs(found["Muse"]) == [({"word": "fig"}, {"kind": "fruit"})]


async def test_what_the_flow_reads_is_no_answer(tmp_path: Path) -> None:
    extra = "module Echo(word: str) -> (word: str) { max_tokens: 9 }\n"
    flow = "flow Read(word: str) -> (word: str) { echoed = Echo(word)  return (word=echoed.word) }"
    assert (await demos(tmp_path, flow, [ROW], extra))["Echo"] == []


def private(graph: Graph, name: str, *hidden: str) -> Graph:
    dataset = graph.dataset(name)
    fields = tuple(replace(one, label="private") if one.name in hidden else one for one in dataset.record.fields)
    return replace(graph, datasets=(replace(dataset, record=replace(dataset.record, fields=fields)),))


@pytest.mark.parametrize("hidden", ["word", "kind"])
async def test_private_rows_are_demos_for_cleared_models_only(hidden: str) -> None:
    program, task = tiny_program()
    shut = private(program.graph, "words", hidden)
    cleared = replace(shut, lms=(LmSpec("default", clearance="private"),))
    for graph, count in ((program.graph, 4), (shut, 0), (cleared, 4)):
        changed = replace(program, graph=graph)
        assert len((await labelled(changed, task, list(task.train[:4]), ("Classify",)))["Classify"]) == count


async def test_a_private_part_of_a_record_is_private() -> None:
    program, _, _ = await real("extract", 1)
    task = make_task(program)
    dataset = program.graph.dataset("utterances")
    rating = next(one for one in dataset.record.fields if one.name == "rating")
    inner = rating.type.inner  # type: ignore[union-attr]
    secret = replace(inner, fields=tuple(replace(one, label="private") for one in inner.fields))
    hidden = replace(rating, type=replace(rating.type, inner=secret))  # type: ignore[call-arg]
    fields = tuple(hidden if one.name == "rating" else one for one in dataset.record.fields)
    shut = replace(program.graph, datasets=(replace(dataset, record=replace(dataset.record, fields=fields)),))
    modules = tuple(
        replace(one, outputs=(replace(one.outputs[0], type=secret),)) if one.name == "ReadRating" else one
        for one in shut.modules
    )
    found = await labelled(
        replace(program, graph=replace(shut, modules=modules)), task, list(task.train[:9]), ("Read", "ReadRating")
    )
    assert found["Read"]
    assert found["ReadRating"] == []


async def test_rows_that_lead_nowhere_are_not_all_run(tmp_path: Path) -> None:
    (tmp_path / "finds.py").write_text(
        "def find(word):\n    open(__file__ + '.asked', 'a').write('x')\n    return word\n"
    )
    extra = 'retriever find(word: str) -> str = py "finds:find"\n'
    flow = """flow Read(word: str) -> (kind: Kind) {
      found = find(word)
      thinking = Think(word=found)
      judged = Judge(word, thought=thinking.thought)
      return (kind=judged.kind)
    }"""
    found = await demos(tmp_path, flow, [{**ROW, "word": f"w{row}"} for row in range(AT_ONCE + 9)], extra)
    assert found["Judge"] == []
    assert len(text_of(tmp_path / "finds.py.asked")) == AT_ONCE


def text_of(path: Path) -> str:
    return path.read_text()


async def test_what_a_private_answer_may_have_led_to_is_not_shown() -> None:
    program, _, _ = await real("support", 1)
    task = make_task(program)
    shut = replace(program, graph=private(program.graph, "tickets", "intents"))
    found = await labelled(shut, task, list(task.train[:4]), ("Label", "Route"))
    assert json.dumps(found) == '{"Label": [], "Route": []}'
