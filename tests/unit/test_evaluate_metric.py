"""Metrics that misbehave, and scores that follow from metrics and weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.errors import ConfigError, DataError, EngineError
from lmgraph.evaluate import Example, evaluate, make_task
from lmgraph.evaluate.metric import Score
from lmgraph.program import Program
from lmgraph.runtime import Failure, RunIdentity, Runtime, Trace
from lmgraph.testing import ScriptedEngine
from support.scripted import SORT, program_from, sort_program, write_sort_program

ROW = Example("words.jsonl:1", {"word": "apple", "kind": "fruit"})


def trace(kind: str | None = "fruit") -> Trace:
    failure = None if kind else Failure("parse", "no", "Sort/out", "Sort/out")
    return Trace("r", "p", "Sort", RunIdentity(), {}, {"kind": kind} if kind else None, failure)


def with_metric(tmp_path: Path, body: str, *, range_: str = "[0, 1]") -> Program:
    text = SORT.replace("-> bool = gold.kind == pred.kind", '-> float = py "metrics:measure"')
    text = text.replace("[0, 1]", range_)
    write_sort_program(tmp_path, text)
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (tmp_path / "metrics.py").write_text(f"def measure(gold: dict, pred: dict) -> float:\n{lines}", encoding="utf-8")
    return program_from(tmp_path, text, "sort.lmg")


async def score(program: Program, run: Trace) -> Score:
    async with Runtime(everything=ScriptedEngine({})) as runtime:
        return await make_task(program).scorer.score(runtime, ROW, run)


async def test_an_expression_scores(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    assert (await score(program, trace("fruit"))).value == 1.0
    assert (await score(program, trace("tool"))).value == 0.0
    assert (await score(program, trace("tool"))).parts == {"exact": 0.0}


async def test_a_python_metric_may_say_something(tmp_path: Path) -> None:
    program = with_metric(tmp_path, "return 0.5, 'nearly'")
    found = await score(program, trace())
    assert (found.value, found.parts, found.feedback) == (0.5, {"exact": 0.5}, {"exact": "nearly"})


async def test_a_failed_run_scores_the_low_end(tmp_path: Path) -> None:
    program = with_metric(tmp_path, "return 0.5", range_="[-1, 1]")
    found = await score(program, trace(None))
    assert (found.value, found.parts) == (-1.0, {})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return gold.nothing", ["exact", "AttributeError", "metrics.py:2", "words.jsonl:1"]),
        ("x = 1\nraise RuntimeError('boom')", ["RuntimeError: boom", "metrics.py:3", "words.jsonl:1"]),
        ("return float('nan')", ["nan", "finite", "words.jsonl:1"]),
        ("return 'good'", ["'good'", "finite number", "words.jsonl:1"]),
        ("return None", ["None", "words.jsonl:1"]),
        ("return 1.5", ["1.5", "outside its range [0, 1]", "words.jsonl:1"]),
        ("return 10 ** 400", ["words.jsonl:1"]),
    ],
)
async def test_a_metric_that_misbehaves_is_named_with_the_row(tmp_path: Path, body: str, words: list[str]) -> None:
    program = with_metric(tmp_path, body)
    with pytest.raises(DataError) as caught:
        await score(program, trace())
    for word in words:
        assert word in str(caught.value)


async def test_a_metric_may_change_what_it_is_given(tmp_path: Path) -> None:
    program = with_metric(tmp_path, "gold['kind'] = 'x'\npred['kind'] = 'x'\nreturn 1.0")
    run = trace()
    assert (await score(program, run)).value == 1.0
    assert ROW.values["kind"] == run.outputs["kind"] == "fruit"  # type: ignore[index]


async def test_an_evaluation_counts_everything(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    seen: list[float] = []
    async with Runtime(everything=ScriptedEngine({"": "fruit"}), store=tmp_path / "t.db") as runtime:
        result = await evaluate(
            program, runtime=runtime, split="train", progress=lambda rollout: seen.append(rollout.score.value)
        )
        assert runtime.store is not None
        rewards = [run["reward"] for run in runtime.store.list_runs()]
    data = result.to_data()
    assert data["rows"] == data["calls"] == len(data["results"]) == len(seen) == len(rewards) == 12
    assert data["score"] == sum(seen) / 12 == sum(rewards) / 12
    assert data["low"] < data["score"] < data["high"]
    assert [row["example"] for row in data["results"]] == [row.id for row in make_task(program).train]


async def test_failures_are_counted_by_kind(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    async with Runtime(everything=ScriptedEngine({"": "no idea"})) as runtime:
        result = await evaluate(program, runtime=runtime, split="dev", decoding="strict")
    assert result.score == 0.0
    assert result.failures == {"parse": 6}
    assert all(row.failure and "no idea" in row.failure for row in result.rows)


async def test_calls_that_an_engine_failed_count_for_their_module(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    answers = iter(["fruit", EngineError("out of order"), "no idea", "fruit", "fruit", EngineError("again")])
    engine = ScriptedEngine(lambda text, request: next(answers))
    async with Runtime(everything=engine) as runtime:
        result = await evaluate(program, runtime=runtime, split="dev", decoding="strict")
    assert result.failures == {"engine": 2, "parse": 1}
    (counts,) = result.modules.values()
    assert counts == {"calls": 6, "failed": 3}


async def test_what_there_is_not_is_said(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    async with Runtime(everything=ScriptedEngine({"": "fruit"})) as runtime:
        with pytest.raises(ConfigError, match="train, dev, test"):
            await evaluate(program, runtime=runtime, split="tset")
        with pytest.raises(ConfigError, match="no row"):
            await evaluate(program, runtime=runtime, limit=0)
        with pytest.raises(ConfigError, match="accuracy"):
            await evaluate(program, runtime=runtime, objective="other")
