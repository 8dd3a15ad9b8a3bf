"""Calls that a change does not reach are answered by earlier runs of the same rows: how many, and to the same end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgraph.evaluate import make_task
from lmgraph.optimize import Lab, OptimizeRun, StageSpec, optimize
from lmgraph.optimize.lab import EarlierRuns
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.program.params import params_hash
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from support.scripted import program_from, write_rows

STEPS = 4
ROWS = 3
MODULES = [f"Step{number}" for number in range(1, STEPS + 1)]
CHAIN = """
edition 1

record Row { text: str  wanted: str }

MODULES

flow Chain(text: str) -> (text: str) {
CALLS
  return (text=out4.text)
}

dataset rows: Row = jsonl "rows.jsonl" { split: { train: 6, dev: 3, test: 3 } }

metric right(gold: Row, pred: Chain.out) -> bool = gold.wanted == pred.text

objective rightly { flow: Chain  data: rows  metric: right  range: [0, 1] }
"""


def chain(folder: Path) -> Program:
    modules = "\n".join(
        f'module {name}(text: str) -> (text: str "text of {name}") {{ """Instruction of {name}.""" }}'
        for name in MODULES
    )
    calls = "\n".join(
        f"  out{number} = Step{number}(text={'text' if number == 1 else f'out{number - 1}.text'})"
        for number in range(1, STEPS + 1)
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", [{"text": f"t{row}", "wanted": f"t{row}abcd"} for row in range(12)])
    return program_from(folder, CHAIN.replace("MODULES", modules).replace("CALLS", calls))


def answer(prompt: str, request: GenerateRequest) -> str:
    """Appends a letter that the instruction decides, so that a change reaches all that comes after."""
    text = last_user_turn(prompt).partition("text: ")[2].partition("\n")[0]
    step = next(number for number in range(1, STEPS + 1) if f"of Step{number}" in prompt)
    return text + ("abcd"[step - 1] if "good" in prompt else "x")


def changed(program: Program, module: str, text: str) -> Program:
    return program.with_params(program.params.with_module(module, instruction=f"{text} of {module}"))


async def test_a_change_runs_what_it_reaches_and_no_more(tmp_path: Path) -> None:
    """The bound of a chain: a search that changes each of N modules equally often makes (N + 1) / 2N of the calls."""
    program = chain(tmp_path / "program")
    task = make_task(program)
    made: dict[bool, list[int]] = {}
    scores: dict[bool, list[float]] = {}
    for reuse in (False, True):
        engine = ScriptedEngine(answer)
        async with Runtime(everything=engine) as runtime:
            lab = Lab(runtime=runtime, task=task, study=Study.open(tmp_path / str(reuse), "k"), stage="1-x")
            rows = task.train[:ROWS]
            await lab.rollouts(program, rows, phase="search", reuse=reuse)
            made[reuse], scores[reuse] = [], []
            for module in MODULES:
                before = len(engine.requests)
                done = await lab.rollouts(changed(program, module, "good"), rows, phase="search", reuse=reuse)
                made[reuse].append(len(engine.requests) - before)
                scores[reuse] += [run.score.value for run in done]
                assert [call.text for run in done for call in run.trace.calls][3::4] == [
                    "".join(
                        [f"t{row.values['text'][1:]}", *("abcd"[i] if MODULES[i] == module else "x" for i in range(4))]
                    )
                    for row in rows
                ]
            assert lab.earlier.calls == (ROWS * (0 + 1 + 2 + 3) if reuse else 0)
    assert made[False] == [ROWS * STEPS] * STEPS
    assert made[True] == [ROWS * (STEPS - position) for position in range(STEPS)]
    assert sum(made[True]) / sum(made[False]) == (STEPS + 1) / (2 * STEPS)
    assert scores[True] == scores[False]


async def searched(
    folder: Path, stages: Sequence[StageSpec], monkeypatch: pytest.MonkeyPatch, reuse: bool
) -> OptimizeRun:
    if not reuse:
        monkeypatch.setattr(EarlierRuns, "of", lambda self, plan, examples: [])
    program = chain(folder / "program")
    async with Runtime(everything=ScriptedEngine(answer)) as runtime:
        return await optimize(
            program, stages, runtime=runtime, task=make_task(program), output=folder / "out",
            study_folder=folder / "study",
        )  # fmt: skip


OPTIONS: dict[str, dict[str, Any]] = {
    "prompt": {"trials": 8, "minibatch": 2, "full_every": 4, "score_rows": 3, "demo_sets": 2, "max_demos": 1},
    "demos": {"candidates": 3, "max_demos": 1, "score_rows": 3, "threshold": 0},
}


@pytest.mark.parametrize("name", ["prompt", "demos"])
async def test_a_search_ends_the_same_with_fewer_calls(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [StageSpec(name, OPTIONS[name])]
    fewer = await searched(tmp_path / "fewer", stages, monkeypatch, True)
    all_ = await searched(tmp_path / "all", stages, monkeypatch, False)
    assert params_hash(fewer.program.params) == params_hash(all_.program.params)
    assert fewer.stages[1].notes == all_.stages[1].notes
    assert all_.stages[1].reused == 0
    assert fewer.stages[1].reused > 0
    assert fewer.stages[1].calls + fewer.stages[1].reused == all_.stages[1].calls
    assert "more calls were answered by earlier runs of the same rows" in fewer.report.read_text("utf-8")


async def test_an_unchanged_program_costs_nothing_on_the_dev_rows(tmp_path: Path) -> None:
    program = chain(tmp_path / "program")
    task = make_task(program)
    engine = ScriptedEngine(answer)
    async with Runtime(everything=engine) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(tmp_path / "s", "k"), stage="dev")
        first = await lab.evaluate(program, task.dev)
        second = await lab.evaluate(program, task.dev)
    assert len(engine.requests) == STEPS * len(task.dev)
    assert first.score == second.score


async def test_what_samples_anew_is_not_reused(tmp_path: Path) -> None:
    """Another phase, step, sample or decoding draws other random numbers."""
    program = chain(tmp_path / "program")
    task = make_task(program)
    engine = ScriptedEngine(answer)
    async with Runtime(everything=engine) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(tmp_path / "s", "k"), stage="1-x")
        row = task.train[:1]
        await lab.rollouts(program, row, phase="a", reuse=True)
        for options in ({"step": 1}, {"temperature": 1.0}, {"decoding": "strict"}, {"samples": 2}):
            await lab.rollouts(program, row, phase="a", reuse=True, **options)  # type: ignore[arg-type]
        await lab.rollouts(program, row, phase="b", reuse=True)
        await lab.rollouts(program, row, phase="a")
    assert len(engine.requests) == STEPS * (1 + 1 + 1 + 1 + 1 + 1 + 1), "of two samples the first is known"


async def test_runs_that_are_kept_are_bounded(tmp_path: Path) -> None:
    program = chain(tmp_path / "program")
    task = make_task(program)
    async with Runtime(everything=ScriptedEngine(answer)) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(tmp_path / "s", "k"), stage="1-x")
        for number in range(EarlierRuns.MOST + 5):
            await lab.rollouts(changed(program, "Step1", f"{number}"), task.train[:1], phase="a", reuse=True)
        ((kept),) = lab.earlier._runs.values()
    assert len(kept) == EarlierRuns.MOST
    assert len({run.trace.run_id for run in kept}) == EarlierRuns.MOST
