"""Stages in the order given, each from the best program so far; after each the dev score decides whether it stays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmgraph.errors import BudgetExhausted, ConfigError
from lmgraph.evaluate.dataset import Example
from lmgraph.evaluate.evaluate import Evaluation
from lmgraph.evaluate.statistics_paired import compare, doubt
from lmgraph.evaluate.task import Task
from lmgraph.optimize.affordable import refuse_unaffordable
from lmgraph.optimize.clearance import refuse_mixed_adapters, refuse_uncleared
from lmgraph.optimize.earlier import EarlierRuns, interrupted_runs
from lmgraph.optimize.lab import Lab, StatusFunction, check_prices, spent
from lmgraph.optimize.loggers import Loggers
from lmgraph.optimize.optimizer import Optimizer, OptimizeResult
from lmgraph.optimize.records import StageRecord, read_record, record_data
from lmgraph.optimize.registry import make_optimizer
from lmgraph.optimize.report import Report, render_report
from lmgraph.optimize.report_html import render_html
from lmgraph.optimize.study import Study
from lmgraph.program import artifact
from lmgraph.program.params import params_hash, stamped
from lmgraph.program.program import Program, graph_hash
from lmgraph.runtime.limits import Budget, Meter
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.run import EffectsPolicy
from lmgraph.runtime.seeds import derive_seed
from lmgraph.runtime.service import Runtime


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage: the optimizer's name and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OptimizeRun:
    program: Program
    """The best program, the start included."""
    stages: tuple[StageRecord, ...]
    artifact: Path
    report: Path
    study: Path
    stopped: str | None
    """Why the run ended before its last stage did, or None."""
    resumed: bool = False
    """Whether it continued an interrupted run."""
    test: Mapping[str, Any] | None = None
    """The scores of the start and of the best on the test rows (`Evaluation.to_data` without rows), and `paired`, the
    second against the first; None where they were not asked for, or the run stopped before."""


def study_key(
    program: Program,
    task: Task,
    stages: Sequence[StageSpec],
    *,
    seed: int,
    decoding: str,
    models: str,
    dev_limit: int | None = None,
) -> str:
    """What makes two optimize runs the same run: everything that decides its result, but not its budget."""
    rows = derive_seed(*(f"{name}:{row.id}:{dict(row.values)}" for name, rows in task.splits.items() for row in rows))
    parts = [
        graph_hash(program.graph),
        params_hash(program.params),
        task.objective.name,
        str(rows),
        json.dumps([[stage.name, dict(stage.options)] for stage in stages], sort_keys=True),
        str(seed),
        decoding,
        models,
        str(dev_limit),
        *_named_artifacts(stages),
    ]
    return f"{derive_seed(*parts):016x}"


def models_used(program: Program, task: Task, runtime: Runtime) -> str:
    """Engine and model of every declared lm, the judge's included."""
    return ",".join("/".join(runtime.bindings.resolve(program.graph, lm)) for lm in lms_used(program, task))


def lms_used(program: Program, task: Task) -> list[str]:
    """Names of the lms that modules and judges are on."""
    judge = task.objective.judge
    return sorted({module.lm for module in program.graph.modules} | ({judge} if judge is not None else set()))


def _named_artifacts(stages: Sequence[StageSpec]) -> list[str]:
    """Content of artifacts that options name, such as a teacher's: another one at the same place is another study."""
    paths = [Path(value) for stage in stages for value in stage.options.values() if isinstance(value, str)]
    return [artifact.load(path).hash for path in paths if artifact.is_artifact(path)]


async def optimize(
    program: Program,
    stages: Sequence[StageSpec],
    *,
    runtime: Runtime,
    task: Task,
    output: Path,
    study_folder: Path,
    budget: Budget | None = None,
    seed: int = 0,
    decoding: Decoding | None = None,
    dev_limit: int | None = None,
    fresh: bool = False,
    allow_effects: bool = False,
    score_test: bool = False,
    reuse: bool = False,
    command: str = "",
    status: StatusFunction | None = None,
    loggers: Loggers | None = None,
) -> OptimizeRun:
    """Run the stages and write the best program to ``output`` with its report.

    An unfinished study of the same program, data, stages, seed and models in ``study_folder`` is continued. When the
    budget ends, what was found until then is written. Stages are compared under one ``decoding``; None is strict where
    a stage trains weights, which it does on free samples, and constrained elsewhere. A flow that may call a tool is
    refused unless ``allow_effects``. With ``score_test`` the start and the best are scored on the split `test` when
    all stages are done, which no stage reads. A finished study is done again, unless ``reuse`` takes its result.
    ``loggers`` are told of every event.
    Raises: ConfigError and PluginError before any call is made; OptimizeError; DataError where a metric fails.
    """
    optimizers = [(spec, *make_optimizer(spec.name, spec.options)) for spec in stages]
    if not optimizers:
        raise ConfigError("There is no stage to run.", hint="name optimizers: --with demos,mmgrpo")
    check_output(output)
    await refuse_uncleared(program, task, [(spec.name, made, config) for spec, made, config in optimizers])
    if score_test:
        task.split("test")
    if decoding is None:
        trains = any(getattr(optimizer, "trains_weights", False) for _, optimizer, _ in optimizers)
        decoding = "strict" if trains else "constrained"
    dev = list(task.dev[:dev_limit])
    models = models_used(program, task, runtime)
    key = study_key(program, task, stages, seed=seed, decoding=decoding, models=models, dev_limit=dev_limit)
    if reuse and not fresh and (finished := _finished(study_folder, key, output, score_test)) is not None:
        return finished
    study = Study.open(study_folder, key, fresh=fresh)
    resumed = study.resumed
    if resumed and status is not None:
        done = max(0, len(study.state["stages"]) - 1)
        status(f"resuming the run in {study_folder}: {done} of {len(stages)} stages are done", None)
    if study.set_aside is not None and status is not None:
        status(f"an unfinished run of something else was in {study_folder}; it is now in {study.set_aside}", None)
    before = study.state["spent"]
    if loggers is not None:
        study.listener = loggers.event
    runtime.meter = Meter(
        budget,
        calls=before.get("calls", 0),
        tokens=before.get("tokens", 0),
        seconds=before.get("seconds", 0.0),
        usd=before.get("usd", 0.0),
    )
    await check_prices(runtime, program.graph, lms_used(program, task))
    if not study.state["stages"]:
        await refuse_unaffordable(program, task, runtime, runtime.meter, len(dev))
    effects: EffectsPolicy = "allow" if allow_effects else "refuse"
    run = _Composition(program, runtime, task, study, dev, seed, decoding, status, effects)
    try:
        stopped = await run.all(optimizers)
        test = await run.score_test() if score_test and stopped is None else None
    except BaseException:
        if loggers is not None:
            loggers.close()
        raise
    finally:
        study.save(spent=spent(runtime.meter), earlier=run.earlier.counts)  # those of an interrupted stage as well
    records = tuple(run.records)
    best = run.best()
    report = Report(best, task, records, command, seed, models, stopped, test)
    pages = {"report.md": render_report(report), "report.html": render_html(report)}
    scores = json.dumps([record_data(record) for record in records], indent=1)
    events = (study.folder / "events.jsonl").read_bytes()
    artifact.save(best, output, extra={**pages, "scores.json": scores, "events.jsonl": events})
    if loggers is not None:
        loggers.close(pages["report.md"])
    if stopped is None:
        study.finish()
    return OptimizeRun(best, records, output, output / "report.md", study.folder, stopped, resumed, test)


def _finished(study_folder: Path, key: str, output: Path, score_test: bool) -> OptimizeRun | None:
    """The result of the finished study of this key, where its artifact is still there."""
    try:
        state = json.loads((study_folder / "study.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not state.get("finished") or state.get("key") != key or not artifact.is_artifact(output):
        return None
    test = state.get("test") if score_test else None
    if score_test and test is None:
        return None
    records = tuple(read_record(data) for data in state["stages"])
    report = output / "report.md"
    return OptimizeRun(artifact.load(output), records, output, report, study_folder, None, True, test)


def check_output(output: Path) -> None:
    """Before any call is made: whether the artifact will have a place. Raises: ConfigError."""
    if output.exists() and not artifact.is_artifact(output) and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} exists and is no artifact.", hint="choose another folder with --output")
    try:
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        probe = output.absolute().parent / f".{output.name}-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"The output folder {output} cannot be written: {error.strerror}.", hint="choose another with --output"
        ) from None


def paired(scores: Sequence[float], start: Sequence[float]) -> dict[str, Any] | None:
    """The comparison as data, or None where there is too little to compare or scipy is not installed."""
    if len(scores) != len(start) or len(scores) < 2:
        return None
    try:
        found = compare(scores, start)
    except ConfigError:
        return None
    return {**found.to_data(), "doubt": doubt(found)}


class _Composition:
    """The state of one run through its stages."""

    def __init__(
        self,
        program: Program,
        runtime: Runtime,
        task: Task,
        study: Study,
        dev: Sequence[Example],
        seed: int,
        decoding: Decoding,
        status: StatusFunction | None,
        effects: EffectsPolicy,
    ) -> None:
        self._start = program
        self._runtime = runtime
        self._task = task
        self._study = study
        self._dev = dev
        self._seed = seed
        self._decoding: Decoding = decoding
        self._effects: EffectsPolicy = effects
        self._status = status or (lambda message, share: None)
        self.records = [read_record(data) for data in study.state["stages"]]
        # Studies of earlier versions have no counts of their own.
        counts = study.state.get("earlier", {"answered": sum(record.reused for record in self.records)})
        self.earlier = EarlierRuns(**counts, interrupted=interrupted_runs(study, runtime.store))

    async def all(self, optimizers: Sequence[tuple[StageSpec, Optimizer, Any]]) -> str | None:
        """Every stage that is not done yet. Returns why it stopped early, or None."""
        try:
            if not self.records:
                await self._finish("start", self._start, OptimizeResult(self._start), {})
            for index, (spec, optimizer, config) in enumerate(optimizers, 1):
                if index < len(self.records):
                    continue
                stopped = await self._stage(index, spec, optimizer, config)
                if stopped is not None:
                    return stopped
        except BudgetExhausted as stop:
            if not self.records:
                raise
            return stop.message
        return None

    def best(self) -> Program:
        kept = [record for record in self.records if record.kept][-1]
        return self._start if kept.name == "start" else artifact.load(Path(kept.artifact))

    async def score_test(self) -> dict[str, Any] | None:
        """The start and the best on the test rows: once a study, whatever was interrupted. None where the budget ends
        before both are scored."""
        known: dict[str, Any] | None = self._study.state.get("test")
        if known is not None:
            return known
        rows = self._task.split("test")
        self._status(f"test: scoring {len(rows)} rows", None)
        lab = self._lab("test")
        try:
            start = await lab.evaluate(self._start, rows, phase="test")
            best = self.best()
            end = start if best.hash == self._start.hash else await lab.evaluate(best, rows, phase="test")
        except BudgetExhausted as stop:
            self._study.log("test", "not scored", {"why": stop.message})
            return None
        found = {
            "start": start.to_data(rows=False),
            "best": end.to_data(rows=False),
            "paired": paired([row.score for row in end.rows], [row.score for row in start.rows]),
        }
        self._study.save(test=found)
        return found

    async def _stage(self, index: int, spec: StageSpec, optimizer: Optimizer, config: Any) -> str | None:
        """Run one stage; why it stopped early, or None. Enough of the budget is kept back to score its result."""
        meter = self._runtime.meter
        name = f"{index}-{spec.name}"
        lab = self._lab(name)
        options = config.model_dump(mode="json")
        lab.log("stage", options=options)
        start = self.records[0]
        meter.reserve(start.calls, start.tokens, start.seconds, start.usd)
        best = self.best()
        try:
            result = await optimizer.optimize(best, self._task, lab)
        finally:
            meter.reserve()
        program = result.program
        refuse_mixed_adapters(program, name)
        program = program.with_params(stamped(best.params, program.params, program.graph, self._task.data_hash))
        await self._finish(name, program, result, options)
        return result.stopped

    async def _finish(
        self,
        name: str,
        program: Program,
        result: OptimizeResult,
        options: Mapping[str, Any],
    ) -> None:
        self._status(f"{name}: scoring {len(self._dev)} dev rows", None)
        dev = await self._lab("dev").evaluate(program, self._dev, phase="dev")
        scores = tuple(row.score for row in dev.rows)
        after = spent(self._runtime.meter)
        folder = artifact.save(program, self._study.folder / "stages" / name)
        record = StageRecord(
            name.partition("-")[2] or name,
            dev.to_data(rows=False),
            self._is_best(dev, program),
            # Not since this process began: an interrupted part of the stage counts as well.
            int(after["calls"]) - sum(record.calls for record in self.records),
            int(after["tokens"]) - sum(record.tokens for record in self.records),
            round(after["seconds"] - sum(record.seconds for record in self.records), 3),
            result.notes,
            result.details,
            dict(options),
            str(folder),
            scores,
            paired(scores, self.records[0].scores) if self.records else None,
            self.earlier.answered - sum(record.reused for record in self.records),
            round(after["usd"] - sum(record.usd for record in self.records), 6),
            self.earlier.recovered - sum(record.recovered for record in self.records),
        )
        self.records.append(record)
        self._study.log(name, "stage finished", {"dev": dict(record.dev), "kept": record.kept, "spent": after})
        self._study.save(spent=after, earlier=self.earlier.counts)
        if result.stopped is None:  # a stage the budget cut goes on from its checkpoint when the run is repeated
            self._study.finish_stage(record_data(record), name)

    def _is_best(self, dev: Evaluation, program: Program) -> bool:
        """Whether it scores above all before, or has other counts, scores as the best does, and takes fewer tokens."""
        if not self.records:
            return True
        best = [record for record in self.records if record.kept][-1].dev
        is_cheaper = dev.prompt_tokens + dev.completion_tokens < best["prompt_tokens"] + best["completion_tokens"]
        if dev.score == best["score"] and is_cheaper:
            return program.params.counts != self.best().params.counts
        return bool(dev.score > best["score"])

    def _lab(self, stage: str) -> Lab:
        return Lab(
            runtime=self._runtime,
            task=self._task,
            study=self._study,
            stage=stage,
            seed=self._seed,
            decoding=self._decoding,
            status=lambda message, share: self._status(f"{stage}: {message}", share),
            effects=self._effects,
            earlier=self.earlier,
        )
