"""What goes wrong around a search by reflection, and what becomes of it: a word in its notes, or a clear error."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import EngineError, OptimizeError, PluginError
from lmgraph.evaluate import make_task
from lmgraph.optimize import StageSpec, optimize
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine
from lmgraph_optimizers.reflect import evolve
from support.scripted import KIND_OF, sort_program
from support.searching import REFLECT, REFLECTION, learns, notes, word_of


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
        return said if REFLECT in prompt else learns(prompt, request)

    result = await REFLECTION.run(tmp_path, ScriptedEngine(script))
    assert result.stopped is None
    assert "5 steps: 0 of " in notes(result)
    assert f" {why}" in notes(result)
    assert "Nothing scored above the start" in notes(result)


async def test_equal_scores_everywhere(tmp_path: Path) -> None:
    def script(prompt: str, request: GenerateRequest) -> str:
        return "Say what kind of thing the word is." if REFLECT in prompt else "tool"

    result = await REFLECTION.run(tmp_path, ScriptedEngine(script))
    assert "Nothing scored above the start" in notes(result)
    assert "1 of " in notes(result), "the same text again is known already"
    assert "scored on all 6 rows: 0." in notes(result)


async def test_all_is_right_from_the_start(tmp_path: Path) -> None:
    """Nothing is asked: there is nothing to learn from."""

    def script(prompt: str, request: GenerateRequest) -> str:
        return KIND_OF[word_of(prompt)]

    engine = ScriptedEngine(script)
    result = await REFLECTION.run(tmp_path, engine)
    assert not any(REFLECT in prompt for prompt in engine.prompts)
    assert "The start has the highest score there is" in notes(result)


async def test_gepa_itself_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: Any) -> None:
        raise AssertionError("inconsistent state")

    monkeypatch.setattr(evolve.load_gepa(), "optimize", broken)
    with pytest.raises(OptimizeError, match="gepa failed: AssertionError: inconsistent state"):
        await REFLECTION.run(tmp_path, ScriptedEngine(learns))


async def test_without_gepa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gepa", None)
    engine = ScriptedEngine(learns)
    with pytest.raises(PluginError, match="searches with the library gepa") as caught:
        await REFLECTION.run(tmp_path, engine)
    assert "lmgraph[optimize]" in str(caught.value.hint)
    assert engine.requests == []


async def test_an_interrupt_ends_gepas_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    asked = asyncio.Event()

    def script(prompt: str, request: GenerateRequest) -> Sequence[str]:
        if REFLECT in prompt:
            asked.set()
        return learns(prompt, request)

    searching = asyncio.create_task(REFLECTION.run(tmp_path, ScriptedEngine(script, latency=0.01), steps=1000))
    await asyncio.wait_for(asked.wait(), 30)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching
    left = [thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio_")]
    assert left == []
    await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, int), 30)  # the pool's threads are free


async def test_in_a_study_the_report_says_it(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    async with Runtime(everything=ScriptedEngine(learns)) as runtime:
        done = await optimize(
            program,
            [StageSpec("reflect", REFLECTION.small)],
            runtime=runtime,
            task=make_task(program),
            output=tmp_path / "out",
            study_folder=tmp_path / "study",
        )
    report = done.report.read_text("utf-8")
    assert "reflections gave a usable instruction" in report
    assert "+Look at the word closely and name its kind." in report
    assert done.stages[1].kept
