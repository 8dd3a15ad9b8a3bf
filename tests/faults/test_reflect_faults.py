"""What goes wrong around a search by reflection, and what becomes of it: a word in its notes, or a clear error."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError, EngineError, OptimizeError, PluginError
from lmgraph.evaluate import Task, make_task
from lmgraph.optimize import Lab, OptimizeResult, StageSpec, optimize
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.program.params import params_hash
from lmgraph.runtime import Budget, Meter, Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from lmgraph_optimizers.reflect import Reflect, ReflectConfig, evolve
from support.scripted import BRANCH, KIND_OF, LABELS, SORT, program_from, sort_program, sort_rows, write_rows

SMALL: dict[str, Any] = {"steps": 5, "minibatch": 2, "score_rows": 6, "feedback_rows": 6}
PYTHON_METRIC = SORT.replace("-> bool = gold.kind == pred.kind", '-> float = py "metrics:score"')
ASKED = "You improve the instruction of one step"


def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
    """What it says once it was told of its mistakes is right more often."""
    if ASKED in prompt:
        return ["Look at the word closely and name its kind."]
    word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
    known = len(word) % 2 == 0 or "closely" in prompt
    return [KIND_OF.get(word, LABELS[0]) if known else LABELS[0]]


async def run(
    folder: Path,
    engine: ScriptedEngine,
    *,
    program: Program | None = None,
    rows: int | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> OptimizeResult:
    program = program or sort_program(folder / "program")
    task = make_task(program)
    if rows is not None:
        task = Task(task.flow, task.objective, {**task.splits, "train": task.train[:rows]}, task.scorer)
    async with Runtime(everything=engine, meter=Meter(budget)) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(folder / "study", "k"), stage="1-reflect")
        return await Reflect(ReflectConfig(**{**SMALL, **options})).optimize(program, task, lab)


def notes(result: OptimizeResult) -> str:
    return " ".join(result.notes)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('oh')", "raised KeyError"),
        ("return float('nan')", "gave nan"),
        ("return 'many'", "gave 'many'"),
        ("return 1.0, 2.0", "gave (1.0, 2.0)"),
    ],
)
async def test_a_metric_that_gives_no_number(tmp_path: Path, body: str, words: str) -> None:
    write_rows(tmp_path / "words.jsonl", sort_rows())
    text = f"def score(gold, pred):\n    if gold.kind == 'tool':\n        {body}\n    return gold.kind == pred.kind\n"
    (tmp_path / "metrics.py").write_text(text, encoding="utf-8")
    program = program_from(tmp_path, PYTHON_METRIC)
    result = await run(tmp_path, ScriptedEngine(answer), program=program)
    assert result.stopped is None
    assert "the metric gave no number" in notes(result)
    assert words in notes(result)


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
async def test_a_reflection_of_nonsense(tmp_path: Path, said: Any, why: str) -> None:
    def script(prompt: str, request: GenerateRequest) -> Any:
        return said if ASKED in prompt else answer(prompt, request)

    result = await run(tmp_path, ScriptedEngine(script))
    assert result.stopped is None
    assert "5 steps: 0 of " in notes(result)
    assert f" {why}" in notes(result)
    assert "Nothing scored above the start" in notes(result)


@pytest.mark.parametrize("calls", [0, 1, 5, 6, 7, 9, 10, 16])
async def test_a_budget_that_ends_early(tmp_path: Path, calls: int) -> None:
    engine = ScriptedEngine(answer)
    result = await run(tmp_path, engine, budget=Budget(calls=calls))
    assert len(engine.requests) <= calls
    assert result.stopped is not None
    assert f"The budget of {calls} calls" in result.stopped
    if calls < 6:
        assert "Stopped before anything was compared" in notes(result)
        assert params_hash(result.program.params) == params_hash(sort_program(tmp_path / "again").params)


@pytest.mark.parametrize("rows", [1, 2, 3])
async def test_hardly_any_rows(tmp_path: Path, rows: int) -> None:
    result = await run(tmp_path, ScriptedEngine(answer), rows=rows)
    assert result.stopped is None
    assert ("one training row only" in notes(result)) == (rows == 1)


async def test_equal_scores_everywhere(tmp_path: Path) -> None:
    def script(prompt: str, request: GenerateRequest) -> str:
        return "Say what kind of thing the word is." if ASKED in prompt else "tool"

    result = await run(tmp_path, ScriptedEngine(script))
    assert "Nothing scored above the start" in notes(result)
    assert "1 of " in notes(result), "the same text again is known already"
    assert "scored on all 6 rows: 0." in notes(result)


async def test_all_is_right_from_the_start(tmp_path: Path) -> None:
    """Nothing is asked: there is nothing to learn from."""

    def script(prompt: str, request: GenerateRequest) -> str:
        return KIND_OF[last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]]

    engine = ScriptedEngine(script)
    result = await run(tmp_path, engine)
    assert not any(ASKED in prompt for prompt in engine.prompts)
    assert "The start has the highest score there is" in notes(result)


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
    assert "Nothing scored above the start" in notes(result)


async def test_a_reflector_that_is_no_model(tmp_path: Path) -> None:
    """The error comes through gepa's thread as it is."""
    with pytest.raises(ConfigError, match="nowhere"):
        await run(tmp_path, ScriptedEngine(answer), reflector="nowhere:big")


async def test_gepa_itself_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: Any) -> None:
        raise AssertionError("inconsistent state")

    monkeypatch.setattr(evolve.load_gepa(), "optimize", broken)
    with pytest.raises(OptimizeError, match="gepa failed: AssertionError: inconsistent state"):
        await run(tmp_path, ScriptedEngine(answer))


async def test_without_gepa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gepa", None)
    engine = ScriptedEngine(answer)
    with pytest.raises(PluginError, match="searches with the library gepa") as caught:
        await run(tmp_path, engine)
    assert "lmgraph[optimize]" in str(caught.value.hint)
    assert engine.requests == []


async def test_an_interrupt_ends_gepas_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    asked = asyncio.Event()

    def script(prompt: str, request: GenerateRequest) -> Sequence[str]:
        if ASKED in prompt:
            asked.set()
        return answer(prompt, request)

    searching = asyncio.create_task(run(tmp_path, ScriptedEngine(script, latency=0.01), steps=1000))
    await asyncio.wait_for(asked.wait(), 30)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching
    left = [thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio_")]
    assert left == []
    await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, int), 30)  # the pool's threads are free


async def test_in_a_study_the_report_says_it(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    async with Runtime(everything=ScriptedEngine(answer)) as runtime:
        done = await optimize(
            program,
            [StageSpec("reflect", SMALL)],
            runtime=runtime,
            task=make_task(program),
            output=tmp_path / "out",
            study_folder=tmp_path / "study",
        )
    report = done.report.read_text("utf-8")
    assert "reflections gave a usable instruction" in report
    assert "+Look at the word closely and name its kind." in report
    assert done.stages[1].kept
