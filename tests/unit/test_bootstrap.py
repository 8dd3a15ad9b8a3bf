"""Where demos come from: runs without a mistake, and where those are too few, calls of others that did their part."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lmgraph.evaluate import Example, Rollout, make_task
from lmgraph.program import Demo, Program
from lmgraph_optimizers.demos import DemosConfig
from lmgraph_optimizers.demos.bootstrap import BootstrapPlan, bootstrap
from lmgraph_optimizers.demos.pools import Pools, agrees, one_sided, rounded_off
from support.scripted import program_from, sort_program, write_rows
from support.training import failure, make_call, make_rollout

SOURCE = """
edition 1

enum Kind { fruit  tool }

record Seen { kind: Kind  note: str  sizes: list[int] }

record Row { word: str  kind: Kind  sizes: list[int]  people: int?  title: str  share: float  seen: Seen? }

module Look(word: str) -> (seen: Seen) { max_tokens: 9 }
module Count(word: str) -> (people: int?) { max_tokens: 9 }
module Title(word: str) -> (title: str, share: float, word: str) { max_tokens: 9 }

flow Read(word: str) -> (seen: Seen, people: int?, title: str) {
  look = Look(word)
  count = Count(word)
  made = Title(word)
  return (seen=look.seen, people=count.people, title=made.title)
}

dataset rows: Row = jsonl "rows.jsonl" { split: { train: 2, dev: 1, test: 1 } }

metric right(gold: Row, pred: Read.out) -> bool = gold.people == pred.people

objective rightness { flow: Read  data: rows  metric: right  range: [0, 1] }
"""
ROW: dict[str, Any] = {
    "word": "fig", "kind": "fruit", "sizes": [1, 2], "people": None, "title": "A fig", "share": 0.5, "seen": None
}  # fmt: skip


@pytest.fixture
def program(tmp_path: Path) -> Program:
    write_rows(tmp_path / "rows.jsonl", [{**ROW, "word": f"w{number}"} for number in range(4)])
    return program_from(tmp_path, SOURCE)


class Lab:
    """Runs score what ``scores`` says, row by row; each makes one call of ``module`` that gives ``outputs`` says."""

    def __init__(
        self, program: Program, scores: list[float], outputs: Any = None, *, module: str = "Title", failed: int = -1
    ) -> None:
        self.task = make_task(program)
        self.rows = [Example(str(row), ROW) for row in range(len(scores))]
        self.module = module
        self.events: list[dict[str, Any]] = []
        self._scores = scores
        self._outputs = outputs or (lambda row: {"title": f"t{row % 2}", "share": 0.5, "word": "fig"})
        self._failed = failed

    def status(self, message: str, share: float) -> None:
        pass

    def log(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})

    async def rollouts(self, program: Program, rows: list[Example], **given: Any) -> list[Rollout]:
        return [self._run(int(row.id)) for row in rows]

    def _run(self, row: int) -> Rollout:
        call = make_call(f"Read/{row}", module=self.module, inputs={"word": f"w{row}"}, outputs=self._outputs(row))
        failed = failure("parse", "Read") if row == self._failed else None
        return make_rollout(str(row), 0, self._scores[row], [call], failed)


async def found(
    program: Program,
    lab: Lab,
    stated: list[Demo] | None = None,
    more: Pools | None = None,
    **plan: Any,
) -> tuple[list[str | None], str]:
    """Ids of the rows that give demos, in order, and the note."""
    options = BootstrapPlan(**{"max_demos": 2, "rounds": 1, **plan})
    given: Any = lab
    pools: Pools
    pools, note = await bootstrap(program, lab.rows, {lab.module: stated or [], **(more or {})}, given, options)
    return [demo.example for demo in pools[lab.module]], note


async def test_runs_without_a_mistake_are_enough(program: Program) -> None:
    rows, note = await found(program, Lab(program, [1.0, 0.9, 0.0, 1.0]))
    assert rows == ["0", "3"]
    assert note == "Bootstrapping: 2 of 4 runs scored at least 1."


async def test_too_few_are_filled_from_runs_that_beat_the_mean(program: Program) -> None:
    lab = Lab(program, [0.2, 0.6, 1.0, 0.8, 0.7, 0.9, 0.1], failed=5)
    rows, note = await found(program, lab)
    assert rows == ["2", "3", "4"], "the failed run gives none, and 0.6 is below the mean of 0.614"
    assert note == (
        "Bootstrapping: 1 of 7 runs scored at least 1. Modules with too few demos got some of runs down to 0.7."
    )
    assert lab.events[-1]["least"] == 0.7


STATED = [Demo({}, {}, "labelled", "7")]


async def test_of_modules_that_rows_state_demos_of_none_is_filled(program: Program) -> None:
    rows, note = await found(program, Lab(program, [0.2, 0.6, 1.0, 0.8]), STATED, {"Count": []})
    assert rows == ["2"]
    assert note == "Bootstrapping: 1 of 4 runs scored at least 1."


async def test_nothing_is_run_where_rows_state_all(program: Program) -> None:
    rows, note = await found(program, Lab(program, [1.0]), STATED)
    assert (rows, note) == ([], "No run was needed to find demos.")
    asked = Lab(program, [1.0, 0.5])
    assert (await found(program, asked, STATED, threshold=0.5))[0] == ["0", "1"], "runs were asked for"
    module = program.graph.module("Title")
    others = tuple(one for one in program.graph.modules if one.name != "Title")
    reasons = replace(program, graph=replace(program.graph, modules=(*others, replace(module, reasons=True))))
    assert (await found(reasons, asked, STATED))[0] == ["0"], "no row states how it reasons"


async def test_what_the_row_states_decides_before_the_score(program: Program) -> None:
    people = [3, None, 4, None, 5]
    lab = Lab(program, [0.9, 0.0, 0.8, 0.2, 0.7], lambda row: {"people": people[row]}, module="Count")
    rows, _ = await found(program, lab)
    assert rows == ["3", "1"], "what gave another number than the row states is no demo, however its run scored"


async def test_a_wrong_answer_shows_the_form_where_there_is_no_right_one(program: Program) -> None:
    lab = Lab(program, [0.9, 0.0, 0.8, 0.2, 0.7], lambda row: {"people": row}, module="Count")
    rows, _ = await found(program, lab)
    assert rows == ["0", "2", "4"]


async def test_no_more_than_twice_what_a_prompt_shows(program: Program) -> None:
    rows, _ = await found(program, Lab(program, [0.5 + row / 100 for row in range(20)] + [0.0] * 20))
    assert rows == ["19", "18", "17", "16"]


@pytest.mark.parametrize("scores", [[0.1] * 7, [0.0] * 3, [math.nan] * 3], ids=["equal", "nothing", "no number"])
async def test_runs_that_are_no_better_than_others_teach_nothing(program: Program, scores: list[float]) -> None:
    rows, note = await found(program, Lab(program, scores))
    assert rows == []
    assert note.endswith(f"0 of {len(scores)} runs scored at least 1.")


async def test_a_threshold_that_was_given_holds(program: Program) -> None:
    rows, _ = await found(program, Lab(program, [0.2, 0.6, 0.8]), threshold=0.8)
    assert rows == ["2"]


async def test_a_score_that_is_no_number_counts_for_nothing(program: Program) -> None:
    rows, note = await found(program, Lab(program, [math.nan, 0.4, 0.2]))
    assert rows == ["1"]
    assert "0 of 3 runs" in note


SEEN = {"kind": "fruit", "note": "x", "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("module", "outputs", "expected"),
    [
        ("Look", {"seen": SEEN}, True),  # the row has no `seen` of a closed type, so its fields are compared
        ("Look", {"seen": {**SEEN, "note": "another text"}}, True),
        ("Look", {"seen": {**SEEN, "sizes": [2, 1]}}, False),
        ("Look", {"seen": {**SEEN, "kind": "tool"}}, False),
        ("Look", {"seen": None}, None),
        ("Count", {"people": None}, True),
        ("Count", {"people": 0}, False),
        ("Title", {"title": "B", "share": 0.1, "word": "y"}, None),  # texts, floats, and what the flow was given
    ],
)
def test_what_a_call_gave_is_compared_with_its_row(
    program: Program, module: str, outputs: dict[str, Any], expected: bool | None
) -> None:
    call = make_call("Read/a", module=module, outputs=outputs)
    assert agrees(program.graph, make_task(program), call, Example("0", ROW)) is expected


@pytest.mark.parametrize(
    ("kinds", "told"), [([], False), (["tool"], False), (["tool", "tool"], True), (["tool", "fruit", "tool"], False)]
)
def test_demos_that_all_give_the_same_answer_are_told_of(tmp_path: Path, kinds: list[str], told: bool) -> None:
    program = sort_program(tmp_path)
    demos = tuple(Demo({"word": f"w{number}"}, {"kind": kind}) for number, kind in enumerate(kinds))
    shown = program.with_params(program.params.with_module("Classify", demos=demos))
    sentences = one_sided(shown, ["Classify"])
    assert [sentence.startswith("All 2 demos of Classify give the same answer") for sentence in sentences] == [
        True
    ] * told


def test_demos_of_open_answers_are_not_compared(program: Program) -> None:
    demos = tuple(Demo({"word": str(number)}, {"people": 1}) for number in range(3))
    assert one_sided(program.with_params(program.params.with_module("Count", demos=demos)), ["Count"]) == []


def test_what_runs_never_gave_is_taken_from_rows(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    fruit, other, tool = (
        Demo({"word": word}, {"kind": kind}) for word, kind in (("fig", "fruit"), ("plum", "fruit"), ("saw", "tool"))
    )
    stated = {"Classify": [other, tool]}
    for found, expected in (
        ([fruit], [fruit, tool]),
        ([], []),
        ([fruit, tool], [fruit, tool]),
    ):
        assert rounded_off({"Classify": found}, stated, program.graph, 2) == {"Classify": expected}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_threshold_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        DemosConfig(threshold=value)
