"""Counts as parameters of the search: which values are tried, and which of equally good ones stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmgraph.evaluate import make_task
from lmgraph.optimize import Lab, OptimizeResult, StageSpec, optimize
from lmgraph.optimize.study import Study
from lmgraph.program import Program, artifact
from lmgraph.runtime import Runtime
from lmgraph.testing import ScriptedEngine, last_user_turn
from lmgraph_optimizers.prompt import Prompt, PromptConfig
from lmgraph_optimizers.prompt.space import Space, bounds, halves
from support.search_program import COUNTS, SEARCH, next_query, search_program

BOUND, K = "Search.hop.bound", "Search.found.k"


def space(program: Program) -> Space:
    return Space.of(program, make_task(program), ("Next",))


async def searched(program: Program, folder: Path, trials: int = 16) -> OptimizeResult:
    task = make_task(program)
    engine = ScriptedEngine(lambda prompt, request: next_query(last_user_turn(prompt)))
    options: dict[str, Any] = {"trials": trials, "minibatch": 3, "full_every": 4, "proposer": "none"}
    async with Runtime(everything=engine) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(folder, "k"), stage="1-prompt")
        return await Prompt(PromptConfig(**options)).optimize(program, task, lab)


@pytest.mark.parametrize(
    ("most", "tried"),
    [
        (1, [1]),
        (3, [3, 2, 1]),
        (8, [8, 7, 6, 5, 4, 3, 2, 1]),
        (15, [15, 13, 11, 9, 7, 5, 3, 1]),
        (9, [9, 8, 7, 6, 4, 3, 2, 1]),
    ],
)
def test_bounds_that_are_tried(most: int, tried: list[int]) -> None:
    assert bounds(most) == tried


@pytest.mark.parametrize(("most", "tried"), [(1, [1]), (4, [4, 2, 1]), (7, [7, 3, 1])])
def test_numbers_that_are_tried(most: int, tried: list[int]) -> None:
    assert halves(most) == tried


def test_only_what_is_declared_is_searched_and_the_own_value_comes_first(tmp_path: Path) -> None:
    program = search_program(tmp_path / "a")
    assert space(program).counts == {BOUND: [3, 2, 1], K: [4, 2, 1]}
    assert not space(program).is_empty
    tuned = program.with_params(program.params.with_count(BOUND, 2))
    assert space(tuned).counts == {BOUND: [2, 3, 1], K: [4, 2, 1]}
    closed = search_program(tmp_path / "b", SEARCH.replace(COUNTS, "[Next.temperature]"))
    assert space(closed).counts == {}


def test_a_choice_is_applied_and_told(tmp_path: Path) -> None:
    found = space(search_program(tmp_path))
    assert found.sizes() == {BOUND: 3, K: 3}
    assert found.applied({BOUND: 1, K: 2}).params.counts == {BOUND: 2, K: 1}
    assert found.applied({K: 1}).params.counts == {K: 2}
    assert found.told({BOUND: 1, K: 2}) == "Search.hop.bound 2; Search.found.k 1"


async def test_of_equal_scores_the_cheaper_stays(tmp_path: Path) -> None:
    """One round finds the page, so two more are to no gain. After it nothing reads how many pages were found."""
    result = await searched(search_program(tmp_path / "p", title="a0"), tmp_path / "study")
    assert result.program.params.counts == {BOUND: 1}
    assert "Chosen: Search.hop.bound 1. Training rows: 1.000, the start 1.000." in result.notes


async def test_what_the_score_needs_is_kept(tmp_path: Path) -> None:
    """The page stands third among those of the second round."""
    result = await searched(search_program(tmp_path / "p", title="b2"), tmp_path / "study")
    assert result.program.params.counts == {BOUND: 2}


async def test_a_bound_that_no_row_comes_near_stays(tmp_path: Path) -> None:
    text = SEARCH.replace("    found =", '    stop if len(titles) > 0 or question != ""\n    found =')
    result = await searched(search_program(tmp_path / "p", text, title="a0"), tmp_path / "study")
    assert result.program.params.counts == {}
    assert "Nothing scored above the start on the training rows, so it stays as it is." in result.notes


async def test_a_whole_run_keeps_what_scores_the_same_for_less(tmp_path: Path) -> None:
    program = search_program(tmp_path / "p", title="a0")
    engine = ScriptedEngine(lambda prompt, request: next_query(last_user_turn(prompt)))
    stages = [StageSpec("prompt", {"trials": 6, "minibatch": 3, "full_every": 3, "proposer": "none"})]
    async with Runtime(everything=engine) as runtime:
        done = await optimize(
            program,
            stages,
            runtime=runtime,
            task=make_task(program),
            output=tmp_path / "tuned",
            study_folder=tmp_path / "study",
        )
    assert [record.kept for record in done.stages] == [True, True]
    assert artifact.load(done.artifact).params.counts == {BOUND: 1}
    for name in ("report.md", "report.html"):
        report = (done.artifact / name).read_text(encoding="utf-8")
        assert "Search.hop.bound: 1, where the author says 3." in report
        assert "kept where it scores the same and takes fewer tokens" in report


async def test_a_search_that_goes_on_ends_the_same(tmp_path: Path) -> None:
    program = search_program(tmp_path / "p", title="b0")
    first = await searched(program, tmp_path / "study")
    again = await searched(program, tmp_path / "study")
    assert again.program.params == first.program.params
    assert again.notes == first.notes
