"""Where demos come from: runs without a mistake, or the best there are where a module gets too few from those."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmgraph.evaluate import Example, Rollout
from lmgraph_optimizers.demos.bootstrap import BootstrapPlan, bootstrap
from lmgraph_optimizers.demos.pools import Pools
from support.scripted import sort_program
from support.training import failure, make_call, make_rollout

KINDS = ("animal", "tool")


class OneAnswerEach:
    """A lab whose runs score what ``scores`` says, row by row, the same in every pass."""

    def __init__(self, scores: list[float], failed: tuple[int, ...] = ()) -> None:
        self.task: Any = SimpleNamespace(objective=SimpleNamespace(low=0.0, high=1.0))
        self.events: list[dict[str, Any]] = []
        self._scores = scores
        self._failed = failed

    def status(self, message: str, share: float) -> None:
        pass

    def log(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})

    async def rollouts(self, program: Any, rows: list[Example], **given: Any) -> list[Rollout]:
        return [self._run(int(row.id)) for row in rows]

    def _run(self, row: int) -> Rollout:
        call = make_call(f"Sort/{row}", module="Classify", inputs={"word": f"w{row}"}, outputs={"kind": KINDS[row % 2]})
        failed = failure("parse", "Sort") if row in self._failed else None
        return make_rollout(str(row), 0, self._scores[row], [call], failed)


async def found(folder: Path, lab: OneAnswerEach, **plan: Any) -> tuple[Pools, str]:
    rows = [Example(str(row), {}) for row in range(len(lab._scores))]
    program = sort_program(folder / "program")
    given: Any = lab
    return await bootstrap(program, rows, ["Classify"], given, BootstrapPlan(**{"max_demos": 2, "rounds": 1, **plan}))


def rows_of(pools: Pools) -> list[str | None]:
    return [demo.example for demo in pools["Classify"]]


async def test_runs_without_a_mistake_are_enough(tmp_path: Path) -> None:
    pools, note = await found(tmp_path, OneAnswerEach([1.0, 0.9, 0.0, 1.0]))
    assert rows_of(pools) == ["0", "3"]
    assert note == "Bootstrapping: 2 of 4 runs scored at least 1."


async def test_too_few_are_filled_with_the_best_that_beat_the_mean(tmp_path: Path) -> None:
    lab = OneAnswerEach([0.2, 0.6, 1.0, 0.8, 0.7, 0.9, 0.1], failed=(5,))
    pools, note = await found(tmp_path, lab)
    assert rows_of(pools) == ["2", "3", "4"], "the failed run gives none, and 0.6 is below the mean of 0.614"
    assert note == (
        "Bootstrapping: 1 of 7 runs scored at least 1. Modules with too few demos got some of runs down to 0.7."
    )
    assert lab.events[-1]["least"] == 0.7


async def test_no_more_than_twice_what_a_prompt_shows(tmp_path: Path) -> None:
    pools, _ = await found(tmp_path, OneAnswerEach([0.5 + row / 100 for row in range(20)] + [0.0] * 20))
    assert rows_of(pools) == ["19", "18", "17", "16"]


@pytest.mark.parametrize("scores", [[0.1] * 7, [0.0] * 3, [math.nan] * 3], ids=["equal", "nothing", "no number"])
async def test_runs_that_are_no_better_than_others_teach_nothing(tmp_path: Path, scores: list[float]) -> None:
    pools, note = await found(tmp_path, OneAnswerEach(scores))
    assert rows_of(pools) == []
    assert note.endswith(f"0 of {len(scores)} runs scored at least 1.")


async def test_a_threshold_that_was_given_holds(tmp_path: Path) -> None:
    pools, _ = await found(tmp_path, OneAnswerEach([0.2, 0.6, 0.8]), threshold=0.8)
    assert rows_of(pools) == ["2"]


async def test_a_score_that_is_no_number_counts_for_nothing(tmp_path: Path) -> None:
    pools, note = await found(tmp_path, OneAnswerEach([math.nan, 0.4, 0.2]))
    assert rows_of(pools) == ["1"]
    assert "0 of 3 runs" in note
