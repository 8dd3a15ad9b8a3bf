"""Which rows a step samples: redraws for those that teach nothing, no row twice in a step, every row in its turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.errors import ConfigError
from lmgraph.optimize import Lab
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, tiny_program
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.training import Training


def training(program: Program, tmp_path: Path, answer: object, **options: int | str) -> Training:
    _, task = tiny_program(tmp_path / "program")
    runtime = Runtime(everything=ScriptedEngine(answer))  # type: ignore[arg-type]
    lab = Lab(runtime=runtime, task=task, study=Study.open(tmp_path / "study", "k"), stage="1-mmgrpo")
    modules = program.graph.modules_of(task.flow)
    return Training(MmgrpoConfig(**options), program, modules, task, lab)  # type: ignore[arg-type]


async def test_rows_that_teach_nothing_are_replaced_and_never_extended(tmp_path: Path) -> None:
    program, task = tiny_program(tmp_path / "one")

    def same(prompt: str, request: GenerateRequest) -> str:
        return "nonsense"

    run = training(program, tmp_path, same, examples=2, samples=3, redraws=2)
    done, batch, _ = await run._sample()
    rows = [rollout.example.id for rollout in done]
    assert batch.trained_groups == 0
    assert len(set(rows)) == min(6, len(task.train)), "two rows, then two more, twice"
    assert all(rows.count(row) == 3 for row in rows)


async def test_no_row_comes_twice_in_a_step_even_where_there_are_few(tmp_path: Path) -> None:
    program, task = tiny_program(tmp_path / "one")

    def same(prompt: str, request: GenerateRequest) -> str:
        return "nonsense"

    run = training(program, tmp_path, same, examples=len(task.train) + 3, samples=2, redraws=3)
    for _ in range(2):
        done, _, _ = await run._sample()
        rows = [rollout.example.id for rollout in done]
        assert sorted(set(rows)) == sorted(example.id for example in task.train)
        assert len(rows) == 2 * len(task.train)


@pytest.mark.parametrize("count", [1, 3])
def test_every_row_has_its_turn_before_any_comes_again(tmp_path: Path, count: int) -> None:
    program, task = tiny_program(tmp_path / "one")
    run = training(program, tmp_path, lambda prompt, request: "x")
    seen: list[str] = []
    while len(seen) < len(task.train):
        seen += [row.id for row in run._next_examples(min(count, len(task.train) - len(seen)), set())]
    assert sorted(seen) == sorted(row.id for row in task.train)


async def test_an_engine_that_does_not_say_what_it_allowed_cannot_train_under_constraints(tmp_path: Path) -> None:
    program, _ = tiny_program(tmp_path / "one")

    def same(prompt: str, request: GenerateRequest) -> str:
        return "nonsense"

    run = training(program, tmp_path, same, examples=2, samples=2, decoding="constrained")
    with pytest.raises(ConfigError, match="does not say which tokens a constraint allowed"):
        await run.one_step()
