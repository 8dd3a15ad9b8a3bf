"""Composition: stages in order, the best prefix kept, a budget that stops, and runs that resume to the same end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lmgraph.errors import ConfigError, OptimizeError, PluginError
from lmgraph.evaluate import Task, make_task
from lmgraph.optimize import Lab, OptimizerConfig, OptimizeResult, OptimizeRun, StageSpec, compose, optimize
from lmgraph.optimize.seeds import optimize_seeds
from lmgraph.optimize.study import Study
from lmgraph.program import Program, artifact
from lmgraph.program.params import params_hash
from lmgraph.runtime import Budget, Meter, Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from support.scripted import KIND_OF, LABELS, SORT, program_from, sort_program, sort_rows, write_rows


class SetConfig(OptimizerConfig):
    """Options of `set`."""

    instruction: str = "Name the kind."
    rows: int = 4


class SetInstruction:
    """Tries an instruction on training rows, in steps with a checkpoint each."""

    name: ClassVar[str] = "set"
    Config: ClassVar[type[OptimizerConfig]] = SetConfig

    def __init__(self, config: SetConfig) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        tried = program.with_params(program.params.with_module("Classify", instruction=self.config.instruction))
        state = lab.restore() or {"scores": []}
        for step in range(len(state["scores"]), self.config.rows):
            row = task.train[step % len(task.train)]
            evaluation = await lab.evaluate(tried, [row], phase=f"step-{step}")
            state["scores"].append(evaluation.score)
            lab.checkpoint(state)
        return OptimizeResult(tried, ("done",), details={"curves": {"score": state["scores"]}})


def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
    """The instruction says how good the answers are: `good`, `better` or neither."""
    word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
    known = "better" in prompt or ("good" in prompt and len(word) % 2 == 0)
    return [KIND_OF[word] if known else LABELS[0]]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str, options: Mapping[str, Any] | None = None) -> tuple[SetInstruction, SetConfig]:
        if name != "set":
            raise PluginError(f"There is no optimizer `{name}`.")
        config = SetConfig(**(options or {}))
        return SetInstruction(config), config

    monkeypatch.setattr(compose, "make_optimizer", make)


def stage(instruction: str, **options: Any) -> StageSpec:
    return StageSpec("set", {"instruction": instruction, **options})


async def run(
    tmp_path: Path,
    *stages: StageSpec,
    engine: ScriptedEngine | None = None,
    name: str = "run",
    program: Program | None = None,
    **options: Any,
) -> OptimizeRun:
    program = program or sort_program(tmp_path / "program")
    async with Runtime(everything=engine or ScriptedEngine(answer)) as runtime:
        return await optimize(
            program,
            stages,
            runtime=runtime,
            task=make_task(program),
            output=tmp_path / f"{name}-out",
            study_folder=tmp_path / f"{name}-study",
            **options,
        )


def instruction(program: Program) -> str:
    return program.params.modules["Classify"].instruction


async def test_each_stage_starts_from_the_best_and_the_best_is_kept(tmp_path: Path) -> None:
    done = await run(tmp_path, stage("good"), stage("bad"), stage("better"), stage("worse again"))
    assert [record.name for record in done.stages] == ["start", "set", "set", "set", "set"]
    assert [record.kept for record in done.stages] == [True, True, False, True, False]
    assert instruction(done.program) == "better"
    loaded = artifact.load(done.artifact)
    assert loaded.hash == done.program.hash
    for record in done.stages:
        assert artifact.load(Path(record.artifact)).graph == done.program.graph
    assert done.stopped is None
    assert not done.resumed


async def test_a_stage_that_does_not_help_leaves_the_start(tmp_path: Path) -> None:
    done = await run(tmp_path, stage("bad"))
    assert [record.kept for record in done.stages] == [True, False]
    assert instruction(done.program) == "Name the kind of thing."


async def test_the_artifact_carries_report_scores_and_events(tmp_path: Path) -> None:
    done = await run(tmp_path, stage("better"), command="lmgraph optimize x --with set")
    report = done.report.read_text("utf-8")
    for words in ("Scores on the dev rows", "| start |", "| set |", "lmgraph optimize x --with set", "better"):
        assert words in report
    scores = json.loads((done.artifact / "scores.json").read_text("utf-8"))
    assert [record["name"] for record in scores] == ["start", "set"]
    events = [json.loads(line) for line in (done.artifact / "events.jsonl").read_text("utf-8").splitlines()]
    assert {"stage", "stage finished"} <= {event["event"] for event in events}


async def test_every_stage_is_compared_with_the_start_on_the_same_rows(tmp_path: Path) -> None:
    done = await run(tmp_path, stage("better"), stage("bad"))
    start, better, bad = done.stages
    assert start.paired is None
    assert better.paired is not None
    assert bad.paired is not None
    gain = better.dev["score"] - start.dev["score"]
    assert better.paired["difference"] == pytest.approx(gain)
    assert better.paired["rows"] == len(better.scores) == 6
    assert bad.paired["p"] == 1.0
    assert "row by row" in done.report.read_text("utf-8")
    assert "data:image/svg+xml" in (done.artifact / "report.html").read_text("utf-8")
    assert artifact.load(done.artifact).hash == done.program.hash, "the page is one of the artifact's checked files"


async def test_the_test_rows_are_scored_once_at_the_end(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer)
    done = await run(tmp_path, stage("better"), engine=engine, score_test=True)
    assert done.test is not None
    assert done.test["best"]["score"] == 1.0
    assert done.test["start"]["score"] < 1.0
    assert done.test["paired"]["rows"] == 6
    assert len(engine.requests) == 6 + 10 + 2 * 6
    assert "## Test rows" in done.report.read_text("utf-8")
    rows = {row.id for row in make_task(sort_program(tmp_path / "program")).split("test")}
    assert len(rows) == 6
    unchanged = await run(tmp_path, stage("bad"), name="unchanged", score_test=True)
    assert unchanged.test is not None
    assert unchanged.test["start"]["score"] == unchanged.test["best"]["score"]


@pytest.mark.parametrize("calls", [16, 20, 24])
async def test_a_budget_that_ends_before_the_test_rows(tmp_path: Path, calls: int) -> None:
    cut = await run(tmp_path, stage("better"), budget=Budget(calls=calls), score_test=True)
    assert cut.test is None
    assert instruction(cut.program) == "better"


async def test_without_test_rows_nothing_is_called(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer)
    write_rows(tmp_path / "words.jsonl", sort_rows())
    program = program_from(tmp_path, SORT.replace(", test: 6", ""))
    with pytest.raises(ConfigError, match="no split `test`"):
        await run(tmp_path, stage("good"), engine=engine, program=program, score_test=True)
    assert engine.requests == []


async def test_several_seeds_and_the_best_of_them(tmp_path: Path) -> None:
    async def one(seed: int) -> OptimizeRun:
        words = {0: "bad", 1: "better", 2: "good", 3: "better"}[seed]
        return await run(tmp_path, stage(words), name=f"seed-{seed}", seed=seed, score_test=True)

    async def one_again(folder: Path) -> OptimizeRun:
        engine = ScriptedEngine(answer)
        found = await run(folder, stage("better"), name="seed-1", seed=1, score_test=True, reuse=True, engine=engine)
        assert engine.requests == []
        return found

    done = await optimize_seeds(range(4), one, tmp_path / "best")
    assert done.chosen == 1
    assert instruction(artifact.load(tmp_path / "best")) == "better"
    ends = [max(record.dev["score"] for record in one_run.stages) for one_run in done.runs.values()]
    assert done.best.mean == pytest.approx(sum(ends) / 4)
    assert done.best.low < done.best.mean < done.best.high
    assert done.test is not None
    again = await one_again(tmp_path)
    assert again.program.hash == done.runs[1].program.hash
    data = json.loads((tmp_path / "best" / "seeds.json").read_text("utf-8"))
    assert data == done.to_data()
    alone = await optimize_seeds([2], one, tmp_path / "alone")
    assert alone.to_data()["best"]["low"] is None
    with pytest.raises(ConfigError, match="no seed"):
        await optimize_seeds([], one, tmp_path / "none")


async def test_calls_and_tokens_of_stages_add_up(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer)
    done = await run(tmp_path, stage("good"), stage("better"), engine=engine)
    assert [record.calls for record in done.stages] == [6, 10, 10]
    assert sum(record.calls for record in done.stages) == len(engine.requests)


@pytest.mark.parametrize("limit", [8, 12, 17, 22, 27])
async def test_a_budget_stops_and_keeps_what_was_found(tmp_path: Path, limit: int) -> None:
    engine = ScriptedEngine(answer)
    done = await run(tmp_path, stage("good"), stage("better"), stage("best"), engine=engine, budget=Budget(calls=limit))
    assert len(engine.requests) <= limit
    assert done.stopped is not None
    assert artifact.load(done.artifact).hash == done.program.hash
    assert "Stopped early" in done.report.read_text("utf-8")
    expected = "better" if limit >= 26 else "good" if limit >= 16 else "Name the kind of thing."
    assert instruction(done.program) == expected


async def test_a_budget_too_small_for_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="E0602"):
        await run(tmp_path, stage("good"), budget=Budget(calls=3))


async def test_a_larger_budget_goes_on_where_the_smaller_ended(tmp_path: Path) -> None:
    whole = await run(tmp_path, stage("good"), stage("better"), name="whole")
    first, second = ScriptedEngine(answer), ScriptedEngine(answer)
    cut = await run(tmp_path, stage("good"), stage("better"), engine=first, budget=Budget(calls=18))
    assert cut.stopped is not None
    done = await run(tmp_path, stage("good"), stage("better"), engine=second)
    assert done.resumed
    assert done.stopped is None
    assert params_hash(done.program.params) == params_hash(whole.program.params)
    assert len(first.requests) + len(second.requests) < 30, "finished steps are not done twice"


@pytest.mark.parametrize("after", [2, 6, 8, 11, 15, 17, 20, 24])
async def test_resumed_equals_unbroken(tmp_path: Path, after: int) -> None:
    whole = await run(tmp_path, stage("good"), stage("better"), name="whole")
    reached = asyncio.Event()

    def counted(prompt: str, request: GenerateRequest) -> Sequence[str]:
        if len(engine.requests) >= after:
            reached.set()
        return answer(prompt, request)

    engine = ScriptedEngine(counted, latency=0.0005)
    task = asyncio.create_task(run(tmp_path, stage("good"), stage("better"), engine=engine, name="killed"))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.under_way == 0
    assert not (tmp_path / "killed-out").exists()
    done = await run(tmp_path, stage("good"), stage("better"), name="killed")
    assert params_hash(done.program.params) == params_hash(whole.program.params)
    for one, other in zip(done.stages, whole.stages, strict=True):
        assert (one.name, one.kept, one.details) == (other.name, other.kept, other.details)
        assert {**one.dev, "seconds": 0} == {**other.dev, "seconds": 0}
        assert one.calls >= other.calls, "what the interrupted part used counts"
    again = await run(tmp_path, stage("good"), stage("better"), name="killed")
    assert not again.resumed, "a finished study is done again from the start"


@pytest.mark.parametrize("change", [{"seed": 1}, {"decoding": "strict"}, {"dev_limit": 3}, {"fresh": True}])
async def test_another_run_does_not_resume(tmp_path: Path, change: dict[str, Any]) -> None:
    await run(tmp_path, stage("good"), stage("better"), budget=Budget(calls=18))
    done = await run(tmp_path, stage("good"), stage("better"), **change)
    assert not done.resumed
    assert done.stopped is None


async def test_nothing_is_called_where_something_is_wrong(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer)
    with pytest.raises(ConfigError, match="no stage"):
        await run(tmp_path, engine=engine)
    with pytest.raises(PluginError):
        await run(tmp_path, StageSpec("nope"), engine=engine)
    (tmp_path / "run-out").mkdir()
    (tmp_path / "run-out" / "photo.png").write_bytes(b"x")
    with pytest.raises(ConfigError, match="is no artifact"):
        await run(tmp_path, stage("good"), engine=engine)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        compose.check_output(tmp_path / "file" / "deeper" / "out")
    assert engine.requests == []


def test_a_foreign_folder_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OptimizeError, match="is no study"):
        Study.open(tmp_path, "key")
    assert (tmp_path / "notes.txt").exists()


def test_what_a_kill_left_of_a_new_study_is_no_foreign_folder(tmp_path: Path) -> None:
    for part in ("stages", "work"):
        (tmp_path / part).mkdir()
    (tmp_path / ".study.json-x7").write_text('{"format', encoding="utf-8")
    assert not Study.open(tmp_path, "key").resumed
    foreign = tmp_path / "foreign"
    (foreign / "stages").mkdir(parents=True)
    (foreign / "stages" / "photo.png").write_bytes(b"x")
    with pytest.raises(OptimizeError, match="is no study"):
        Study.open(foreign, "key")
    assert (foreign / "stages" / "photo.png").exists()


def test_an_unfinished_study_of_another_run_is_set_aside(tmp_path: Path) -> None:
    mine = Study.open(tmp_path / "s", "key-one-of-two")
    mine.log("1-a", "one", {"x": 1})
    other = Study.open(tmp_path / "s", "another")
    assert other.set_aside == tmp_path / "s.key-one-"
    assert other.events() == []
    assert (other.set_aside / "events.jsonl").exists()
    other.save(finished=True)
    assert Study.open(tmp_path / "s", "third").set_aside is None  # a finished one has left its artifact: replaced


def test_a_torn_event_is_skipped(tmp_path: Path) -> None:
    study = Study.open(tmp_path / "s", "key")
    study.log("1-a", "one", {"x": 1})
    with (study.folder / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"time": 1, "sta')
    assert [event["event"] for event in Study.open(tmp_path / "s", "key").events()] == ["one"]


def test_the_lab_gives_the_same_random_numbers_for_the_same_purpose(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    runtime = Runtime(everything=ScriptedEngine(answer), meter=Meter())

    def lab(stage: str, seed: int) -> Lab:
        return Lab(
            runtime=runtime, task=make_task(program), study=Study.open(tmp_path / "s", "k"), stage=stage, seed=seed
        )

    numbers = [lab(*who).rng("rows", 1).random() for who in (("1-a", 0), ("1-a", 0), ("2-a", 0), ("1-a", 1))]
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 3
