"""The Runtime keeps what it needs ready, and no more: memory does not grow with the number of programs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lmgraph.errors import DataError, EngineRejected
from lmgraph.program import AdapterRef, Program
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.runtime.prepare import KEPT_READY
from lmgraph.testing import ScriptedEngine
from support.scripted import sort_program


def with_adapter(program: Program, version: int, base_model: str = "scripted-1") -> Program:
    ref = AdapterRef("shared", version, Path(f"v{version}"), base_model, f"{version:064d}")
    return program.with_params(program.params.with_adapter(ref, ("Classify",)))


def engine_of() -> ScriptedEngine:
    def answer(prompt: str, request: GenerateRequest) -> str:
        return "tool"

    return ScriptedEngine(answer, model_id="scripted-1")


async def test_adapters_of_programs_long_unused_are_unloaded(tmp_path: Path) -> None:
    program, engine = sort_program(tmp_path), engine_of()
    async with Runtime(everything=engine) as runtime:
        for version in range(3 * KEPT_READY):
            trace = await runtime.run(with_adapter(program, version), {"word": "saw"})
            assert trace.require() == {"kind": "tool"}
        assert len(engine.adapters) == KEPT_READY
        newest = f"shared@v{3 * KEPT_READY - 1}-"
        assert any(name.startswith(newest) for name in engine.adapters)


async def test_a_program_with_runs_under_way_keeps_its_adapter(tmp_path: Path) -> None:
    program, engine = sort_program(tmp_path), engine_of()
    release = asyncio.Event()
    generate = engine.generate

    async def held(request: GenerateRequest) -> object:
        if request.adapter is not None and request.adapter.startswith("shared@v0-"):
            await release.wait()
        return await generate(request)

    engine.generate = held  # type: ignore[method-assign, assignment]
    async with Runtime(everything=engine) as runtime:
        first = asyncio.create_task(runtime.run(with_adapter(program, 0), {"word": "saw"}))
        await asyncio.sleep(0.01)
        for version in range(1, 2 * KEPT_READY):
            await runtime.run(with_adapter(program, version), {"word": "saw"})
        release.set()
        assert (await first).require() == {"kind": "tool"}


async def test_an_adapter_of_another_base_model_is_refused(tmp_path: Path) -> None:
    program = with_adapter(sort_program(tmp_path), 1, base_model="another-model")
    async with Runtime(everything=engine_of()) as runtime:
        with pytest.raises(EngineRejected, match="trained on another-model"):
            await runtime.run(program, {"word": "saw"})


async def test_inputs_are_checked_before_anything_runs(tmp_path: Path) -> None:
    engine = engine_of()
    async with Runtime(everything=engine) as runtime:
        for inputs, problem in (({}, "missing"), ({"word": 3}, "string"), ({"word": "a", "more": 1}, "no such field")):
            with pytest.raises(DataError, match=problem):
                await runtime.run(sort_program(tmp_path), inputs)
    assert engine.requests == []
