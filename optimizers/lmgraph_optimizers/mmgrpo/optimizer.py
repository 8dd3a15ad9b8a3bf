"""mmGRPO on one shared adapter: sample groups through the program, compare calls at equal call keys, step, repeat.

After Ziems et al. (arXiv:2508.04660, algorithm 1), with leave-one-out advantages, ragged groups kept as they are, and
the plain clipped loss on the sampler's own tokens. docs/guide/mmgrpo.md says where and why this differs from the paper.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lmgraph.errors import BudgetExhausted, ConfigError, TrainingDiverged
from lmgraph.evaluate import Example, Rollout, Task
from lmgraph.optimize import Lab, OptimizeResult, group_calls
from lmgraph.program import AdapterRef, Program
from lmgraph_optimizers.mmgrpo.advantages import Batch, make_batch
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig

if TYPE_CHECKING:
    from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer, UpdateStats

ADAPTER = "shared"


class MultiModuleGRPO:
    """Registered as `mmgrpo`."""

    name: ClassVar[str] = "mmgrpo"
    Config: ClassVar[type[MmgrpoConfig]] = MmgrpoConfig
    trains_weights: ClassVar[bool] = True

    def __init__(self, config: MmgrpoConfig) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        modules = tuple(name for name in program.graph.modules_of(task.flow) if task.allows(program, name, "weights"))
        if not modules:
            return OptimizeResult(program, ("No module of the flow lets its weights be changed.",))
        engine = await lab.trainable(program, _one_lm(program, modules))
        run = _Training(self.config, program, modules, task, lab, engine.model_id)
        await run.open(engine.model_folder)
        stopped: str | None = None
        while run.step < self.config.steps:
            try:
                await run.one_step()
            except BudgetExhausted as stop:
                stopped = stop.message
                break
        return run.result(stopped)


class _Training:
    """The state of one training run: what a checkpoint holds."""

    def __init__(
        self, config: MmgrpoConfig, program: Program, modules: tuple[str, ...], task: Task, lab: Lab, base_model: str
    ) -> None:
        self._config = config
        self._modules = modules
        self._task = task
        self._lab = lab
        self._base_model = base_model
        self.program = program
        self.step = 0
        self._curves: dict[str, list[float]] = {}
        self._skipped = 0
        self._drawn = 0
        """Training rows taken so far, repeats in later epochs included."""
        self._trainer: LoraTrainer

    async def open(self, model_folder: Path) -> None:
        """Load the base model, and the checkpoint of an interrupted run where there is one."""
        from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer

        self._lab.status("loading the model to train", 0.0)
        state = self._lab.restore()
        before = [self.program.params.modules[name].adapter for name in self._modules]
        adapter = self.program.params.adapters[before[0]].folder if before[0] is not None else None
        if len(set(before)) > 1:
            raise ConfigError("The modules to train have different adapters.", hint="start from a program without them")
        if state is not None:
            adapter = self._lab.folder / state["folder"] / "adapter"
        seed = self._lab.rng("init").getrandbits(32)
        self._trainer = await asyncio.to_thread(LoraTrainer, model_folder, self._config, seed=seed, adapter=adapter)
        if state is not None:
            self._trainer.load_optimizer(self._lab.folder / state["folder"] / "optimizer.safetensors")
            self.step, self._drawn = state["step"], state["drawn"]
            self._curves, self._skipped = state["curves"], state["skipped"]
            self._use(self._publish(self._lab.folder / state["folder"] / "adapter"))

    async def one_step(self) -> None:
        """Sample, compare, update, publish the new adapter version, checkpoint."""
        config = self._config
        began = time.perf_counter()
        done, batch = await self._sample()
        sampled = time.perf_counter()
        self._status(f"updating on {len(batch.samples)} calls")
        update: UpdateStats | None = None
        if batch.samples:
            update = await asyncio.to_thread(self._trainer.update, batch.samples, batch.tokens, config.temperature)
            self._guard(update)
        self.step += 1
        self._record(done, batch, update, sampled - began, time.perf_counter() - sampled)
        self._save()

    async def _sample(self) -> tuple[list[Rollout], Batch]:
        """Rollouts of the step's rows, and of new rows for those whose samples teach nothing, a few times.

        New rows come in place of old ones; a group is never extended after its scores were seen.
        """
        config = self._config
        low = self._task.objective.low if config.format_return is None else config.format_return
        rows = len(self._task.train)
        wanted = min(config.examples, rows)
        used: set[str] = set()
        done: list[Rollout] = []
        batch = make_batch([], self._modules)
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
                decoding="strict",
            )
            batch = make_batch(group_calls(done, format_return=low), self._modules)
        return done, batch

    def result(self, stopped: str | None) -> OptimizeResult:
        rewards = self._curves.get("reward", [])
        notes = [f"{self.step} of {self._config.steps} steps, one adapter for {', '.join(self._modules)}."]
        if rewards and not any(self._curves["groups that train"]):
            notes.append(
                "All rollouts of every group scored the same, so nothing was learned. Prompts first: run demos before."
            )
        if self._skipped:
            notes.append(f"{self._skipped} steps were skipped: loss or gradient was not finite.")
        if stopped:
            notes.append(f"Stopped by the budget: {stopped}")
        return OptimizeResult(self.program, tuple(notes), stopped, {"curves": self._curves})

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

    def _guard(self, update: UpdateStats) -> None:
        self._skipped += update.skipped
        recent = self._curves.get("skipped", [])[-2:]
        if update.skipped and sum(recent) == 2:
            raise TrainingDiverged(
                "Loss or gradient was not finite in three steps in a row.", hint="lower --mmgrpo.learning_rate"
            )

    def _save(self) -> None:
        """Checkpoint in a folder of its own, then point to it: a kill leaves the old state or the new one."""
        name = f"step-{self.step}"
        folder = self._lab.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        self._trainer.save_adapter(folder / "adapter", self._base_model)
        self._trainer.save_optimizer(folder / "optimizer.safetensors")
        self._use(self._publish(folder / "adapter"))
        state = {"step": self.step, "drawn": self._drawn, "curves": self._curves, "skipped": self._skipped}
        self._lab.checkpoint({**state, "folder": name})
        for old in self._lab.folder.glob("step-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)

    def _publish(self, folder: Path) -> AdapterRef:
        return self._lab.publish_adapter(ADAPTER, self.step, folder, self._base_model)

    def _use(self, ref: AdapterRef) -> None:
        self.program = self.program.with_params(self.program.params.with_adapter(ref, self._modules))

    def _record(
        self, done: Sequence[Rollout], batch: Batch, update: UpdateStats | None, sampling: float, updating: float
    ) -> None:
        calls = [call for rollout in done for call in rollout.trace.calls]
        sampled = sum(len(call.completion_ids) for call in calls)
        figures: dict[str, float] = {
            "reward": sum(rollout.score.value for rollout in done) / len(done),
            "entropy": -sum(sum(call.logprobs) for call in calls) / max(sampled, 1),
            "groups that train": batch.trained_groups,
            "rows sampled": len({rollout.example.id for rollout in done}),
            "failed calls": sum(call.failure is not None for call in calls) / max(len(calls), 1),
            "skipped": float(update.skipped) if update else 0.0,
        }
        for name, value in figures.items():
            self._curves.setdefault(name, []).append(round(value, 6))
        data: dict[str, Any] = {
            **figures,
            "step": self.step,
            "groups": batch.groups,
            "samples": len(batch.samples),
            "tokens": batch.tokens,
            "sampled_tokens": sampled,
            "dropped": batch.dropped,
            "sampling_seconds": round(sampling, 3),
            "updating_seconds": round(updating, 3),
        }
        self._lab.log("step", **data, **({"update": asdict(update)} if update else {}))

    def _status(self, doing: str) -> None:
        rewards = self._curves.get("reward", [])
        recent = f", reward {sum(rewards[-5:]) / len(rewards[-5:]):.3f}" if rewards else ""
        share = self.step / self._config.steps
        self._lab.status(f"step {self.step + 1} of {self._config.steps}{recent}, {doing}", share)


def _one_lm(program: Program, modules: Sequence[str]) -> str:
    lms = sorted({program.graph.module(name).lm for name in modules})
    if len(lms) > 1:
        raise ConfigError(
            f"The modules to train use several LMs ({', '.join(lms)}); one adapter cannot serve them all.",
            hint="train those of one LM: objective … { optimize: [Module.weights] }",
        )
    return lms[0]
