"""The training loop, and its state: what a checkpoint holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError, DataError, EngineError, TrainingDiverged
from lmgraph.evaluate import Example, Rollout, Task
from lmgraph.optimize import Lab, OptimizeResult, set_aside
from lmgraph.program import AdapterRef, Program
from lmgraph.runtime import TrainableEngine
from lmgraph_optimizers.mmgrpo.advantages import RunningScale
from lmgraph_optimizers.mmgrpo.base_model import BaseModel
from lmgraph_optimizers.mmgrpo.batch import NO_RECORD, Batch, TrainingSample, make_batch, split, weigh
from lmgraph_optimizers.mmgrpo.checkpoint import (
    adapter_folder,
    cannot_write,
    drop_others,
    optimizer_file,
    write_step,
)
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.figures import Curves, live_line, sentences, step_event
from lmgraph_optimizers.mmgrpo.plan import PlannedAdapter
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer, UpdateStats

MOST_SKIPS = 3
"""Updates in a row that may be not finite before the training has diverged."""


@dataclass(slots=True)
class _Adapter:
    """One adapter under training."""

    plan: PlannedAdapter
    trainer: LoraTrainer
    base_model: str
    """As engines call it."""
    version: int
    """Of what was published last."""
    skips: int = 0
    """Skipped updates in a row."""


class Training:
    """One training run."""

    def __init__(self, config: MmgrpoConfig, program: Program, modules: tuple[str, ...], task: Task, lab: Lab) -> None:
        self._config = config
        self._modules = modules
        self._task = task
        self._lab = lab
        self.program = program
        self.step = 0
        self._curves = Curves()
        self._scale = RunningScale()
        self._skipped = 0
        self._aside: dict[str, str] = {}
        """Rows that had rollouts set aside, with the first reason."""
        self._drawn = 0
        """Training rows taken so far, repeats in later epochs included."""
        self._adapters: list[_Adapter] = []
        self._step_seconds: list[float] = []
        self._speed = 0.0
        """Sampled tokens a second of sampling, in the last step."""
        self._last: Batch | None = None

    async def open(self, planned: Sequence[PlannedAdapter], engines: Mapping[str, TrainableEngine]) -> None:
        """Load the base models, each once, and the checkpoint of an interrupted run where there is one."""
        self._lab.status("loading the model to train", 0.0)
        state = self._lab.restore()
        work = None if state is None else self._lab.folder / state["folder"]
        bases: dict[Path, BaseModel] = {}
        for plan in planned:
            engine = engines[plan.lm]
            if engine.model_folder not in bases:
                bases[engine.model_folder] = await asyncio.to_thread(BaseModel, engine.model_folder, self._config)
            start = plan.before.folder if plan.before is not None else None
            if work is not None:
                start = adapter_folder(work, plan.name)
            seed = self._lab.rng("init", plan.name).getrandbits(32)
            trainer = LoraTrainer(bases[engine.model_folder], self._config, name=plan.name, seed=seed, start=start)
            version = plan.before.version if plan.before is not None else 0
            self._adapters.append(_Adapter(plan, trainer, engine.model_id, version))
        if state is not None and work is not None:
            self._restore(state, work)

    @property
    def is_stuck(self) -> bool:
        """Whether the last steps all had nothing to compare: another one would only cost what they did."""
        recent = self._curves.data.get("groups that train", [])[-self._config.patience :]
        return 0 < self._config.patience <= len(recent) and not any(recent)

    async def one_step(self) -> None:
        """Sample, compare, update, publish the new adapter versions, checkpoint."""
        began = time.perf_counter()
        done, batch, scale = await self._sample()
        sampled = time.perf_counter()
        self._last = batch
        self._speed = sum(rollout.trace.completion_tokens for rollout in done) / max(sampled - began, 1e-9)
        updates: dict[str, list[UpdateStats]] = {}
        for adapter in self._adapters:
            mine = [sample for sample in batch.samples if sample.call.module in adapter.plan.modules]
            if any(sample.advantage != 0.0 for sample in mine):
                self._status(f"updating {adapter.plan.name} on {len(mine)} calls")
                updates[adapter.plan.name] = await asyncio.to_thread(self._update, adapter, mine)
        self._scale = scale
        self.step += 1
        aside = _set_aside(done)
        self._aside = {**aside, **self._aside}
        usable = sum(set_aside(rollout) is None for rollout in done)
        figures = self._curves.add(done, usable, batch, updates)
        updated = time.perf_counter()
        self._save(updates)
        seconds = {"sampling": sampled - began, "updating": updated - sampled, "saving": time.perf_counter() - updated}
        self._step_seconds.append(time.perf_counter() - began)
        event = step_event(figures, batch, updates, done, seconds)
        details = {name: [asdict(stats) for stats in each] for name, each in updates.items()}
        # After the checkpoint, so that a step which a kill takes back is not in the log twice.
        self._lab.log("step", step=self.step, **event, updates=details, **({"set_aside": aside} if aside else {}))

    def result(self, stopped: str | None) -> OptimizeResult:
        adapters = {one.plan.name: one.plan.modules for one in self._adapters}
        notes = sentences(
            self.step, self._config.steps, adapters, self._curves, self._skipped, self._aside, stopped, self.is_stuck
        )
        return OptimizeResult(self.program, tuple(notes), stopped, {"curves": self._curves.data})

    async def _sample(self) -> tuple[list[Rollout], Batch, RunningScale]:
        """Rollouts of the step's rows, and of new rows for those whose samples teach nothing, a few times.

        New rows come in place of old ones; a group is never extended after its scores were seen.
        """
        config = self._config
        rows = len(self._task.train)
        wanted = min(config.examples, rows)
        used: set[str] = set()
        done: list[Rollout] = []
        batch, scale = self._compare(done)
        for draw in range(1 + config.redraws):
            missing = min(wanted - len(batch.trained_examples), rows - len(used))
            if missing <= 0:
                break
            self._status("sampling" if draw == 0 else f"sampling {missing} new rows")
            done += await self._lab.rollouts(
                self.program,
                self._next_examples(missing, used),
                phase="train",
                step=self.step,
                samples=config.samples,
                temperature=config.temperature,
                decoding=config.decoding,
                keep_unscored=True,
                progress=self._count_runs(missing * config.samples),
            )
            batch, scale = self._compare(done)
        _check_scores(done)
        if not batch.groups and NO_RECORD in batch.dropped:
            raise ConfigError(
                "The engine does not say which tokens a constraint allowed, so none of the step's calls can train.",
                hint="train with --mmgrpo.decoding strict",
            )
        return done, batch, scale

    def _count_runs(self, expected: int) -> Callable[[Rollout], None]:
        runs = 0

        def show(rollout: Rollout) -> None:
            nonlocal runs
            runs += 1
            self._status(f"sampling, {runs} of {expected} runs")

        return show

    def _compare(self, done: Sequence[Rollout]) -> tuple[Batch, RunningScale]:
        config = self._config
        scale = RunningScale(self._scale.state)
        batch = make_batch(
            done,
            self._modules,
            config,
            format_return=self._task.objective.low if config.format_return is None else config.format_return,
            scale=scale,
            rng=self._lab.rng("fill", self.step),
        )
        return batch, scale

    def _update(self, adapter: _Adapter, samples: list[TrainingSample]) -> list[UpdateStats]:
        """One update a minibatch. Raises: TrainingDiverged; EngineError where no call is inside the band."""
        config = self._config
        parts = split(samples, config.minibatches, self._lab.rng("minibatches", self.step))
        old = adapter.trainer.policy(samples) if len(parts) > 1 else None
        made = []
        for part in parts:
            if not any(sample.advantage != 0.0 for sample in part):
                continue
            stats = adapter.trainer.update(weigh(part, config.aggregation), old)
            made.append(stats)
            adapter.skips = adapter.skips + 1 if stats.skipped else 0
            self._skipped += stats.skipped
            if adapter.skips >= MOST_SKIPS:
                raise TrainingDiverged(
                    f"Loss or gradient of adapter {adapter.plan.name} was not finite in {MOST_SKIPS} updates in a row.",
                    hint="lower --mmgrpo.learning_rate",
                )
        if made and all(stats.gap.dropped_calls == stats.gap.calls for stats in made):
            apart = sum(stats.gap.mean for stats in made) / len(made)
            raise EngineError(
                f"Sampler and trainer are {apart:.3g} nats a token apart on every call of adapter {adapter.plan.name}, "
                f"and {config.max_gap:g} are allowed (mmgrpo.max_gap).",
                hint=f"see that the engine serves the weights of {adapter.base_model}, in float32 or bfloat16",
            )
        return made

    def _next_examples(self, count: int, used: set[str]) -> list[Example]:
        """The next ``count`` rows, noted in ``used``: each epoch a new seeded order, no row again before all were.

        A row that this step has used is passed over: its second group would repeat the first, seeds and all.
        """
        rows = self._task.train
        taken: list[Example] = []
        while len(taken) < count:
            epoch, offset = divmod(self._drawn, len(rows))
            row = rows[self._order(epoch)[offset]]
            self._drawn += 1
            if row.id not in used:
                used.add(row.id)
                taken.append(row)
        return taken

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self._task.train)))
        self._lab.rng("epoch", epoch).shuffle(order)
        return order

    def _save(self, updates: Mapping[str, Sequence[UpdateStats]]) -> None:
        """Checkpoint in a folder of its own, then point to it: a kill leaves the old state or the new one."""
        trainers = [(adapter.trainer, adapter.base_model) for adapter in self._adapters]
        folder = write_step(self._lab.folder, self.step, trainers)
        for adapter in self._adapters:
            if any(not stats.skipped for stats in updates.get(adapter.plan.name, ())):
                adapter.version += 1
                self._publish(adapter, folder)
        self._lab.checkpoint(
            {
                "step": self.step,
                "drawn": self._drawn,
                "curves": self._curves.data,
                "scale": self._scale.state,
                "skipped": self._skipped,
                "aside": self._aside,
                "versions": {adapter.plan.name: adapter.version for adapter in self._adapters},
                "skips": {adapter.plan.name: adapter.skips for adapter in self._adapters},
                "folder": folder.name,
            }
        )
        drop_others(self._lab.folder, self.step)

    def _restore(self, state: Mapping[str, Any], folder: Path) -> None:
        self.step, self._drawn, self._skipped = state["step"], state["drawn"], state["skipped"]
        self._curves, self._scale = Curves(state["curves"]), RunningScale(state["scale"])
        self._aside = dict(state["aside"])
        for adapter in self._adapters:
            name = adapter.plan.name
            adapter.trainer.load_optimizer(optimizer_file(folder, name))
            adapter.skips = state["skips"][name]
            untouched = state["versions"][name] == adapter.version
            adapter.version = state["versions"][name]
            if not untouched:
                self._publish(adapter, folder)

    def _publish(self, adapter: _Adapter, folder: Path) -> None:
        source = adapter_folder(folder, adapter.plan.name)
        try:
            ref = self._lab.publish_adapter(adapter.plan.name, adapter.version, source, adapter.base_model)
        except OSError as error:
            raise cannot_write(self._lab.folder, error) from error
        self._use(ref, adapter.plan.modules)

    def _use(self, ref: AdapterRef, modules: tuple[str, ...]) -> None:
        self.program = self.program.with_params(self.program.params.with_adapter(ref, modules))

    def _status(self, doing: str) -> None:
        recent = self._step_seconds[-5:]
        left = None if not recent else sum(recent) / len(recent) * (self._config.steps - self.step)
        line = live_line(self.step, self._config.steps, self._curves, self._last, self._speed, left)
        self._lab.status(f"{line}: {doing}", self.step / self._config.steps)


def _set_aside(done: Sequence[Rollout]) -> dict[str, str]:
    """Rows with rollouts that are no evidence, each with the first reason, in words where a metric gave some."""
    reasons: dict[str, str] = {}
    for rollout in done:
        why = set_aside(rollout)
        if why is not None:
            said = next(iter(rollout.score.failed.values()), None)
            reasons.setdefault(rollout.example.id, why if said is None else said.message)
    return reasons


def _check_scores(done: Sequence[Rollout]) -> None:
    """Where not one rollout of a step is evidence something else than the model is at fault.

    Raises: DataError where no rollout could be scored, EngineError where the engine answered none.
    """
    problems = [failure for rollout in done for failure in rollout.score.failed.values()]
    if done and all(rollout.score.failed for rollout in done):
        raise DataError(f"No rollout of a step could be scored: {problems[0].message}", hint="mend the metric")
    failures = [rollout.trace.failure for rollout in done]
    if done and all(failure is not None and failure.kind == "engine" for failure in failures):
        raise EngineError(
            f"The engine failed every run of a step: {failures[0].message if failures[0] else ''}",
            hint="see that it answers; the same command goes on after the last step",
        )
