"""Calls that a change does not reach are answered by earlier runs of the same rows: how many, and to the same end.
Those of before an interruption are not made again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lmgraph.evaluate import make_task
from lmgraph.optimize import Lab, OptimizeRun, StageSpec, optimize
from lmgraph.optimize.earlier import EarlierRuns, interrupted_runs
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.program.params import params_hash
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.runtime.store import TraceStore
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


def chain(folder: Path, text: str = CHAIN) -> Program:
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
    return program_from(folder, text.replace("MODULES", modules).replace("CALLS", calls))


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
            assert lab.earlier.answered == (ROWS * (0 + 1 + 2 + 3) if reuse else 0)
    assert made[False] == [ROWS * STEPS] * STEPS
    assert made[True] == [ROWS * (STEPS - position) for position in range(STEPS)]
    assert sum(made[True]) / sum(made[False]) == (STEPS + 1) / (2 * STEPS)
    assert scores[True] == scores[False]


async def searched(
    folder: Path, stages: Sequence[StageSpec], monkeypatch: pytest.MonkeyPatch, reuse: bool
) -> OptimizeRun:
    if not reuse:
        monkeypatch.setattr(EarlierRuns, "at", lambda self, place: [])
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
    assert len({run.run_id for run in kept}) == EarlierRuns.MOST


async def interrupted(folder: Path, name: str, after: int) -> None:
    """A search that is cut when its engine was asked ``after`` times."""
    reached = asyncio.Event()

    def counted(prompt: str, request: GenerateRequest) -> str:
        if len(engine.requests) >= after:
            reached.set()
        return answer(prompt, request)

    engine = ScriptedEngine(counted, latency=0.0005)
    task = asyncio.create_task(stored(folder, name, engine))
    await asyncio.wait([task, asyncio.create_task(reached.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), "it is to be cut"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def stored(folder: Path, name: str, engine: ScriptedEngine, **options: Any) -> OptimizeRun:
    """A search with a trace store."""
    program = chain(folder / "program")
    async with Runtime(everything=engine, store=folder / "traces.db") as runtime:
        return await optimize(
            program, [StageSpec(name, OPTIONS[name])], runtime=runtime, task=make_task(program), output=folder / "out",
            study_folder=folder / "study", **options,
        )  # fmt: skip


Made = set[tuple[str, tuple[int, ...], int]]


def asked(engine: ScriptedEngine) -> Made:
    """What tells the calls of one search apart: their place in the graph, what they read, their seed."""
    return {(one.request_id, tuple(one.prompt_ids), one.sampling.seed) for one in engine.requests}


def kept_calls(store: Path) -> Made:
    with closing(TraceStore(store, read_only=True)) as opened:
        calls = [call for trace in opened.traces() for call in trace.calls]
    return {(call.call_key, tuple(call.prompt_ids), call.seed) for call in calls}


@pytest.mark.parametrize("after", [5, 40])
@pytest.mark.parametrize("name", ["prompt", "demos"])
async def test_calls_of_before_an_interruption_are_not_made_again(tmp_path: Path, name: str, after: int) -> None:
    whole = await stored(tmp_path / "whole", name, ScriptedEngine(answer))
    folder, engine = tmp_path / "cut", ScriptedEngine(answer)
    await interrupted(folder, name, after)
    before = kept_calls(folder / "traces.db")
    done = await stored(folder, name, engine)
    assert not asked(engine) & before
    assert kept_calls(folder / "traces.db") == kept_calls(tmp_path / "whole" / "traces.db")
    assert params_hash(done.program.params) == params_hash(whole.program.params)
    assert done.stages[1].notes == whole.stages[1].notes
    recovered = sum(record.recovered for record in done.stages)
    report = done.report.read_text("utf-8")
    assert bool(recovered) == bool(before)
    assert (f"Of them {recovered} were made before the run was interrupted, and not again." in report) == bool(before)


@pytest.mark.parametrize("options", [{}, {"fresh": True}])
async def test_a_study_that_begins_anew_takes_nothing_from_the_one_before(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    engines = [ScriptedEngine(answer), ScriptedEngine(answer)]
    for engine in engines:
        done = await stored(tmp_path, "demos", engine, **options)
        assert all(record.recovered == 0 for record in done.stages)
    assert len(engines[0].requests) == len(engines[1].requests)


async def scored_again(folder: Path, program: Program, engine: ScriptedEngine) -> EarlierRuns:
    """The dev rows, scored in a study that goes on if there is one; where calls came from."""
    async with Runtime(everything=engine, store=folder / "traces.db") as runtime:
        study, task = Study.open(folder / "study", "k"), make_task(program)
        earlier = EarlierRuns(interrupted=interrupted_runs(study, runtime.store))
        lab = Lab(runtime=runtime, task=task, study=study, stage="dev", earlier=earlier)
        await lab.evaluate(program, task.dev)
        await lab.ask(program, "default", instruction="Say", inputs={}, output="it", phase="asked", key="1")
    return earlier


async def test_calls_of_an_optimizers_own_are_not_made_again_either(tmp_path: Path) -> None:
    program = chain(tmp_path / "program")
    calls = STEPS * 3 + 1
    for expected in (calls, 0):
        engine = ScriptedEngine(lambda prompt, request: "x")
        earlier = await scored_again(tmp_path, program, engine)
        assert len(engine.requests) == expected
        assert earlier.recovered == calls - expected


async def test_judges_are_not_asked_again(tmp_path: Path) -> None:
    text = CHAIN.replace(
        "metric right(gold: Row, pred: Chain.out) -> bool = gold.wanted == pred.text",
        """module Judge(text: str) -> (good: bool) { \"\"\"Judge it.\"\"\" }

metric right(gold: Row, pred: Chain.out) -> bool = Judge(text=pred.text).good""",
    )
    program = chain(tmp_path / "program", text)
    calls = (STEPS + 1) * 3 + 1
    for expected in (calls, 0):
        engine = ScriptedEngine(lambda prompt, request: "true" if "Judge it." in prompt else "x")
        earlier = await scored_again(tmp_path, program, engine)
        assert len(engine.requests) == expected
        assert earlier.recovered == calls - expected


async def test_python_is_called_again(tmp_path: Path) -> None:
    """It may have been mended since."""
    text = CHAIN.replace("text=out4.text)", "text=noted(text=out4.text))").replace(
        "MODULES", 'MODULES\n\nfn noted(text: str) -> str = py "steps:noted"'
    )
    steps = f"def noted(text):\n    with open({str(tmp_path / 'log')!r}, 'a') as file:\n        file.write('.')\n"
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "steps.py").write_text(steps + "    return text\n", encoding="utf-8")
    program = chain(tmp_path / "program", text)
    for rows in (3, 6):
        await scored_again(tmp_path, program, ScriptedEngine(lambda prompt, request: "x"))
        assert len((tmp_path / "log").read_text("utf-8")) == rows


async def test_where_the_store_is_damaged_calls_are_made_again(tmp_path: Path) -> None:
    program = chain(tmp_path / "program")
    await scored_again(tmp_path, program, ScriptedEngine(lambda prompt, request: "x"))
    with closing(sqlite3.connect(tmp_path / "traces.db")) as db, db:
        db.execute("UPDATE calls SET text = 'y'")
    engine = ScriptedEngine(lambda prompt, request: "x")
    earlier = await scored_again(tmp_path, program, engine)
    assert len(engine.requests) == STEPS * 3 + 1
    assert earlier.recovered == 0
