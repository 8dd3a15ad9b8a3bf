"""Budgets in money over all stages, and what else makes two optimize runs the same run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import BudgetExhausted, ConfigError
from lmgraph.evaluate import make_task
from lmgraph.optimize import Lab, OptimizeRun, StageSpec, optimize
from lmgraph.optimize.compose import study_key
from lmgraph.optimize.study import Study
from lmgraph.program import artifact
from lmgraph.runtime import Budget, Meter, Runtime
from lmgraph.runtime.engine import GenerateRequest, Generation, Usage
from lmgraph.testing import ScriptedEngine
from support.scripted import sort_program

SMALL = {"max_demos": 2, "candidates": 4}


class PaidEngine(ScriptedEngine):
    """Each call costs a cent."""

    priced = True

    async def generate(self, request: GenerateRequest) -> Generation:
        return replace(await super().generate(request), usage=Usage(10, 2, 0, 0.01))


async def run(folder: Path, engine: ScriptedEngine, budget: Budget | None) -> OptimizeRun:
    program = sort_program(folder / "program")
    async with Runtime(everything=engine) as runtime:
        return await optimize(
            program, [StageSpec("demos", SMALL)], runtime=runtime, task=make_task(program), output=folder / "out",
            study_folder=folder / "study", budget=budget,
        )  # fmt: skip


async def test_money_is_counted_by_stage(tmp_path: Path) -> None:
    done = await run(tmp_path, PaidEngine(lambda prompt, request: "tool"), None)
    assert [record.usd for record in done.stages] == [pytest.approx(record.calls * 0.01) for record in done.stages]
    assert f" {done.stages[1].usd:.4g} |" in done.report.read_text("utf-8")


async def test_a_budget_in_money_stops(tmp_path: Path) -> None:
    engine = PaidEngine(lambda prompt, request: "tool")
    done = await run(tmp_path, engine, Budget(usd=0.20))
    assert done.stopped is not None
    assert "The budget of 0.2 usd (0.06 of them kept back to score the result) is used up." in done.stopped
    assert sum(record.usd for record in done.stages) <= 0.20 + 1e-9


async def test_a_larger_budget_goes_on_from_what_was_spent(tmp_path: Path) -> None:
    engine = PaidEngine(lambda prompt, request: "tool")
    await run(tmp_path, engine, Budget(usd=0.20))
    spent = json.loads((tmp_path / "study" / "study.json").read_text())["spent"]["usd"]
    assert 0.1 < spent <= 0.20 + 1e-9
    done = await run(tmp_path, engine, Budget(usd=10.0))
    assert done.resumed
    assert sum(record.usd for record in done.stages) == pytest.approx(len(engine.requests) * 0.01)


async def test_a_model_without_a_price_is_refused(tmp_path: Path) -> None:
    engine = PaidEngine(lambda prompt, request: "tool")
    engine.priced = False
    with pytest.raises(ConfigError, match="no price: a budget in usd cannot be kept") as caught:
        await run(tmp_path, engine, Budget(usd=1.0))
    assert "prices" in str(caught.value.hint)
    assert engine.requests == []
    await run(tmp_path, engine, None)


async def test_so_is_a_teacher_without_a_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = sort_program(tmp_path / "program")
    teacher = PaidEngine(lambda prompt, request: "tool")
    teacher.priced = False

    async def opened(self: Any, graph: Any, lm: str) -> Any:
        return teacher

    async with Runtime(everything=PaidEngine({}), meter=Meter(Budget(usd=1.0))) as runtime:
        study = Study.open(tmp_path / "study", "k")
        lab = Lab(runtime=runtime, task=make_task(program), study=study, stage="1-demos")
        monkeypatch.setattr("lmgraph.runtime.bind.Bindings.engine", opened)
        with pytest.raises(ConfigError, match="no price"):
            async with lab.bound_to("openai:big@http://127.0.0.1:1/v1"):
                pass


def test_the_meter_counts_money() -> None:
    assert Budget.parse("usd=2.5,calls=3") == Budget(calls=3, usd=2.5)
    meter = Meter(Budget(usd=0.02), usd=0.01)
    meter.admit()
    meter.count(5, 0.02)
    assert meter.usd == pytest.approx(0.03)
    with pytest.raises(BudgetExhausted, match=r"0\.02 usd"):
        meter.admit()


def test_a_studys_key_knows_what_is_in_a_teachers_artifact(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    task = make_task(program)
    folder = tmp_path / "teacher"

    def key() -> str:
        stages = [StageSpec("demos", {"teacher": str(folder)})]
        return study_key(program, task, stages, seed=0, decoding="strict", models="m")

    keys = [key()]
    for text in ("Say the kind.", "Name the kind."):
        taught = program.with_params(program.params.with_module("Classify", instruction=text))
        artifact.save(taught, folder)
        keys.append(key())
    artifact.save(program.with_params(program.params.with_module("Classify", instruction="Say the kind.")), folder)
    assert len(set(keys)) == 3
    assert key() == keys[1]
