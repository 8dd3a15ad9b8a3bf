"""What goes wrong around a prompt search, and what becomes of it: a word in its notes, or a clear error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError, EngineError, PluginError
from lmgraph.evaluate import make_task
from lmgraph.optimize import StageSpec, optimize
from lmgraph.runtime import Budget, Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine
from lmgraph_optimizers.prompt.search import load_optuna
from support.scripted import KIND_OF, LABELS, SORT, program_from, sort_program, write_rows
from support.searching import DEMOS, PROMPT, PROPOSE, knows_half, notes, word_of


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
        return said if PROPOSE in prompt else knows_half(prompt, request)

    result = await PROMPT.run(tmp_path, ScriptedEngine(script), instructions=6)
    assert "Module Classify: 0 of " in notes(result)
    assert f" {why}" in notes(result)
    assert result.stopped is None
    assert result.details["space"]["Classify.instruction"] >= 4, "rewrites take the room that it left"


async def test_demos_keeps_the_best_that_it_could_compare(tmp_path: Path) -> None:
    """The budget ends while candidates are compared: those that saw the same rows by then decide."""

    def helped(prompt: str, request: GenerateRequest) -> str:
        word = word_of(prompt)
        return KIND_OF[word] if prompt.count("assistant\n") > 1 else LABELS[0]

    options: dict[str, Any] = {"max_demos": 2, "candidates": 4, "score_rows": 6, "rounds": 1, "bootstrap_rows": 4}
    whole = await DEMOS.run(tmp_path / "whole", ScriptedEngine(helped), **options)
    assert whole.stopped is None
    seen = set()
    for calls in range(1, 12):
        done = await DEMOS.run(tmp_path / str(calls), ScriptedEngine(helped), budget=Budget(calls), **options)
        assert done.stopped is not None
        demos = done.program.params.modules["Classify"].demos
        assert bool(demos) == ("Stopped while they were being compared" in notes(done))
        seen.add(bool(demos))
    assert seen == {True, False}, "with few calls nothing could be compared"


async def test_equal_scores_everywhere(tmp_path: Path) -> None:
    result = await PROMPT.run(tmp_path, ScriptedEngine(lambda prompt, request: "tool"))
    assert "Nothing scored above the start" in notes(result)
    assert len({choice["score"] for choice in result.details["candidates"] if choice["rows"] == 6}) == 1


async def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    engine = ScriptedEngine(knows_half)
    with pytest.raises(PluginError, match="searches with Optuna") as caught:
        await PROMPT.run(tmp_path, engine)
    assert "lmgraph[optimize]" in str(caught.value.hint)
    assert engine.requests == []
    monkeypatch.undo()
    assert load_optuna().__name__ == "optuna"


async def test_a_teacher_of_another_program(tmp_path: Path) -> None:
    from lmgraph.program import artifact

    other = program_from(tmp_path / "other", SORT.replace("Kind { fruit", "Kind { plant"))
    write_rows(tmp_path / "other" / "words.jsonl", [])
    artifact.save(other, tmp_path / "tuned")
    for search in (PROMPT, DEMOS):
        with pytest.raises(ConfigError, match="not a version of this program: its module `Classify`"):
            await search.run(tmp_path, teacher=str(tmp_path / "tuned"))


async def test_in_a_study_the_report_says_it(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    async with Runtime(everything=ScriptedEngine(lambda prompt, request: "tool")) as runtime:
        done = await optimize(
            program,
            [StageSpec("prompt", PROMPT.small)],
            runtime=runtime,
            task=make_task(program),
            output=tmp_path / "out",
            study_folder=tmp_path / "study",
        )
    report = done.report.read_text("utf-8")
    assert "Nothing scored above the start on the training rows" in report
    assert "proposed instructions were usable" in report
