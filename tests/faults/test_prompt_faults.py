"""What goes wrong around a prompt search, and what becomes of it: a word in its notes, or a clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError, EngineError, PluginError
from lmgraph.evaluate import Task, make_task
from lmgraph.optimize import Lab, OptimizeResult, StageSpec, optimize
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.program.artifact import load
from lmgraph.program.params import params_hash
from lmgraph.runtime import Budget, Meter, Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from lmgraph_optimizers.demos import Demos, DemosConfig
from lmgraph_optimizers.prompt import Prompt, PromptConfig, search
from support.scripted import BRANCH, KIND_OF, LABELS, SORT, program_from, sort_program, sort_rows, write_rows

DRIVER = Path(__file__).parents[1] / "support" / "kill_search.py"
KILLS = 20
SMALL: dict[str, Any] = {
    "trials": 6, "minibatch": 3, "full_every": 3, "demo_sets": 2, "max_demos": 2, "instructions": 4,
}  # fmt: skip
PYTHON_METRIC = SORT.replace("-> bool = gold.kind == pred.kind", '-> float = py "metrics:score"')


def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
    word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
    return [KIND_OF.get(word, "Say what kind of thing the word is.") if len(word) % 2 else LABELS[0]]


async def run(
    folder: Path,
    engine: ScriptedEngine,
    *,
    program: Program | None = None,
    rows: int | None = None,
    budget: Budget | None = None,
    optimizer: type[Any] = Prompt,
    **options: Any,
) -> OptimizeResult:
    program = program or sort_program(folder / "program")
    task = make_task(program)
    if rows is not None:
        task = Task(task.flow, task.objective, {**task.splits, "train": task.train[:rows]}, task.scorer)
    async with Runtime(everything=engine, meter=Meter(budget)) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(folder / "study", "k"), stage="1-prompt")
        config = PromptConfig(**{**SMALL, **options}) if optimizer is Prompt else DemosConfig(**options)
        result: OptimizeResult = await optimizer(config).optimize(program, task, lab)
        return result


def notes(result: OptimizeResult) -> str:
    return " ".join(result.notes)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('oh')", "raised KeyError"),
        ("return float('nan')", "gave nan"),
        ("return float('inf')", "gave inf"),
        ("return 'many'", "gave 'many'"),
    ],
)
@pytest.mark.parametrize("optimizer", [Prompt, Demos])
async def test_a_metric_that_gives_no_number(tmp_path: Path, body: str, words: str, optimizer: type[Any]) -> None:
    """It fails on one kind of row; those count as the lowest score, and the report names one."""
    write_rows(tmp_path / "words.jsonl", sort_rows())
    text = f"def score(gold, pred):\n    if gold.kind == 'tool':\n        {body}\n    return gold.kind == pred.kind\n"
    (tmp_path / "metrics.py").write_text(text, encoding="utf-8")
    program = program_from(tmp_path, PYTHON_METRIC)
    result = await run(tmp_path, ScriptedEngine(answer), program=program, optimizer=optimizer)
    assert result.stopped is None
    assert "the metric gave no number" in notes(result)
    assert words in notes(result)
    assert "words.jsonl:" in notes(result)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "empty"),
        ("42", "no sentence"),
        ("la la la " * 40, "repeating itself"),
        ("Name the kind of thing.", "known already"),
        (EngineError("The model is gone."), "failed"),
    ],
)
async def test_a_proposer_of_nonsense(tmp_path: Path, said: Any, why: str) -> None:
    def script(prompt: str, request: GenerateRequest) -> Any:
        return said if "You improve one step" in prompt else answer(prompt, request)

    result = await run(tmp_path, ScriptedEngine(script), instructions=6)
    assert "Module Classify: 0 of " in notes(result)
    assert f" {why}" in notes(result)
    assert result.stopped is None
    assert result.details["space"]["Classify.instruction"] >= 4, "rewrites take the room that it left"


@pytest.mark.parametrize("calls", [0, 1, 5, 6, 7, 20, 30])
async def test_a_budget_that_ends_early(tmp_path: Path, calls: int) -> None:
    engine = ScriptedEngine(answer)
    result = await run(tmp_path, engine, budget=Budget(calls=calls))
    assert len(engine.requests) <= calls
    assert result.stopped is not None
    assert f"The budget of {calls} calls" in result.stopped
    if calls < 6:
        assert "Stopped before anything was compared" in notes(result)
        assert params_hash(result.program.params) == params_hash(sort_program(tmp_path / "again").params)


async def test_demos_keeps_the_best_that_it_could_compare(tmp_path: Path) -> None:
    """The budget ends while candidates are compared: those that saw the same rows by then decide."""

    def helped(prompt: str, request: GenerateRequest) -> str:
        word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
        return KIND_OF[word] if prompt.count("assistant\n") > 1 else LABELS[0]

    options: dict[str, Any] = {"max_demos": 2, "candidates": 4, "score_rows": 6, "rounds": 1, "bootstrap_rows": 4}
    whole = await run(tmp_path / "whole", ScriptedEngine(helped), optimizer=Demos, **options)
    assert whole.stopped is None
    seen = set()
    for calls in range(5, 16):
        done = await run(
            tmp_path / str(calls), ScriptedEngine(helped), optimizer=Demos, budget=Budget(calls), **options
        )
        assert done.stopped is not None
        demos = done.program.params.modules["Classify"].demos
        assert bool(demos) == ("Stopped while they were being compared" in notes(done))
        seen.add(bool(demos))
    assert seen == {True, False}, "with few calls nothing could be compared"


@pytest.mark.parametrize("rows", [1, 2, 3])
async def test_hardly_any_rows(tmp_path: Path, rows: int) -> None:
    result = await run(tmp_path, ScriptedEngine(answer), rows=rows)
    assert result.stopped is None
    assert ("one training row only" in notes(result)) == (rows == 1)


async def test_equal_scores_everywhere(tmp_path: Path) -> None:
    result = await run(tmp_path, ScriptedEngine(lambda prompt, request: "tool"))
    assert "Nothing scored above the start" in notes(result)
    assert {choice["score"] for choice in result.details["candidates"] if choice["rows"] == 6} != set()


async def test_a_module_that_is_never_reached(tmp_path: Path) -> None:
    write_rows(tmp_path / "words.jsonl", sort_rows())
    program = program_from(tmp_path, BRANCH)
    engine = ScriptedEngine(answer)
    result = await run(tmp_path, engine, program=program)
    assert "Never called on 6 training rows, so left as it is: Rare." in notes(result)
    assert result.program.params.modules["Rare"] == program.params.modules["Rare"]
    assert not any("step: Rare" in prompt for prompt in engine.prompts)


async def test_every_run_fails(tmp_path: Path) -> None:
    result = await run(tmp_path, ScriptedEngine({"": EngineError("The model is gone.")}))
    assert result.stopped is None
    assert "Nothing scored above the start" in notes(result) or "No module that was called" in notes(result)


async def test_a_proposer_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        await run(tmp_path, ScriptedEngine(answer), proposer="nowhere:big")


async def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    engine = ScriptedEngine(answer)
    with pytest.raises(PluginError, match="searches with Optuna") as caught:
        await run(tmp_path, engine)
    assert "lmgraph[optimize]" in str(caught.value.hint)
    assert engine.requests == []
    monkeypatch.undo()
    assert search.load_optuna().__name__ == "optuna"


async def test_a_teacher_of_another_program(tmp_path: Path) -> None:
    from lmgraph.program import artifact

    other = program_from(tmp_path / "other", SORT.replace("Kind { fruit", "Kind { plant"))
    write_rows(tmp_path / "other" / "words.jsonl", [])
    artifact.save(other, tmp_path / "tuned")
    for optimizer in (Prompt, Demos):
        with pytest.raises(ConfigError, match="not a version of this program: its module `Classify`"):
            await run(tmp_path, ScriptedEngine(answer), optimizer=optimizer, teacher=str(tmp_path / "tuned"))


async def test_in_a_study_the_report_says_it(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    async with Runtime(everything=ScriptedEngine(lambda prompt, request: "tool")) as runtime:
        done = await optimize(
            program,
            [StageSpec("prompt", SMALL)],
            runtime=runtime,
            task=make_task(program),
            output=tmp_path / "out",
            study_folder=tmp_path / "study",
        )
    report = done.report.read_text("utf-8")
    assert "Nothing scored above the start on the training rows" in report
    assert "proposed instructions were usable" in report


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["prompt", "demos", "reflect"])
def test_twenty_kills_change_nothing(tmp_path: Path, optimizer: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(DRIVER.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path), optimizer, str(KILLS)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    finished: dict[str, int] = json.loads(done.stdout)
    assert sum(finished.values()) >= KILLS
    whole = outcome(tmp_path / "whole", optimizer)
    for name in finished:
        assert outcome(tmp_path / name, optimizer) == whole, name
        assert list((tmp_path / name / "study" / "work").iterdir()) == [], "a finished stage leaves no checkpoint"


def outcome(folder: Path, optimizer: str) -> dict[str, Any]:
    """What two runs of one study must have in common."""
    stage = json.loads((folder / "study" / "study.json").read_text("utf-8"))["stages"][1]
    params = params_hash(load(folder / "study" / "stages" / f"1-{optimizer}").params)
    dev = {**stage["dev"], "seconds": 0}
    return {"params": params, "dev": dev, "notes": stage["notes"], "details": stage["details"], "kept": stage["kept"]}
