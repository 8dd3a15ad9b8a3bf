"""The Lab: everything an optimizer does to the outside goes through it.

It counts all calls against one budget, seeds every random choice by what it is for, logs every event and keeps the
checkpoint that a killed run resumes from.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.evaluate.dataset import Example
from lmgraph.evaluate.evaluate import Evaluation, summarize
from lmgraph.evaluate.rollout import Rollout, RolloutPlan, rollouts
from lmgraph.evaluate.task import Task
from lmgraph.graph.graph import DEFAULT_LM, Graph
from lmgraph.optimize.ask import ask
from lmgraph.optimize.earlier import EarlierRuns, places_of
from lmgraph.optimize.study import Study, write_json
from lmgraph.program.params import AdapterRef
from lmgraph.program.program import Program
from lmgraph.runtime.bind import Binding
from lmgraph.runtime.engine import TrainableEngine
from lmgraph.runtime.limits import Meter
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.run import EffectsPolicy
from lmgraph.runtime.seeds import derive_seed
from lmgraph.runtime.service import Runtime
from lmgraph.runtime.trace import Failure, RunIdentity

StatusFunction = Callable[[str, float | None], None]
"""(one line of what goes on, share done in [0, 1] or None)."""


class Lab:
    """One stage's workbench."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        task: Task,
        study: Study,
        stage: str,
        seed: int = 0,
        decoding: Decoding = "constrained",
        status: StatusFunction | None = None,
        effects: EffectsPolicy = "refuse",
        earlier: EarlierRuns | None = None,
    ) -> None:
        self.runtime = runtime
        self.task = task
        self.stage = stage
        self.seed = seed
        self.decoding: Decoding = decoding
        """The decoding mode of this study's comparisons."""
        self.effects: EffectsPolicy = effects
        """Whether the flow may call tools."""
        self.earlier = EarlierRuns() if earlier is None else earlier
        self._study = study
        self._status = status or (lambda message, share: None)

    @property
    def meter(self) -> Meter:
        """What was spent, and the budget it is spent from."""
        return self.runtime.meter

    @property
    def folder(self) -> Path:
        """A folder for this stage's own files; it goes when the stage ends."""
        return self._study.work(self.stage)

    def rng(self, *parts: str | int) -> random.Random:
        """A random generator for one purpose: the same for the same study seed, stage and parts."""
        return random.Random(derive_seed(self.seed, self.stage, *parts))

    async def rollouts(
        self,
        program: Program,
        examples: Sequence[Example],
        *,
        phase: str,
        step: int = 0,
        samples: int = 1,
        temperature: float | None = None,
        decoding: Decoding | None = None,
        progress: Callable[[Rollout], None] | None = None,
        keep_unscored: bool = False,
        reuse: bool = False,
    ) -> list[Rollout]:
        """Sample each example ``samples`` times, in order of examples and samples. With ``keep_unscored`` a rollout
        whose metric raises is kept, with a score that is not a number. With ``reuse``, for programs that differ in a
        few modules, calls that earlier rollouts of this phase and step made with the very same prompt are answered from
        them: only what is changed runs, and what reads its outputs. Where the study goes on after an interruption, so
        are calls that were made before it.

        Seeds follow from (study seed, stage, phase, step, example, sample, call key), so that two programs compared
        in one phase share their random numbers. Raises: BudgetExhausted, DataError; ConfigError where the flow may
        call a tool and effects are not allowed.
        """
        self.meter.check()
        plan = RolloutPlan(
            decoding or self.decoding,
            temperature,
            samples,
            self.seed,
            self._study.name,
            f"{self.stage}/{phase}",
            step,
            effects=self.effects,
            keep_unscored=keep_unscored,
        )
        if not reuse:
            return await rollouts(self.runtime, program, self.task, examples, plan, progress)
        recorded = [trace for place in places_of(plan, examples) for trace in self.earlier.at(place)]
        done = await rollouts(self.runtime, program, self.task, examples, plan, progress, recorded=recorded)
        for rollout in done:
            self.earlier.add(rollout.trace)
        return done

    async def evaluate(
        self, program: Program, examples: Sequence[Example], *, phase: str = "dev", decoding: Decoding | None = None
    ) -> Evaluation:
        """Score a program at its own temperatures; calls are reused. Raises: BudgetExhausted, DataError."""
        began = time.perf_counter()
        done = await self.rollouts(program, examples, phase=phase, decoding=decoding, reuse=True)
        return summarize(done, self.task, phase, decoding or self.decoding, time.perf_counter() - began)

    async def ask(
        self,
        program: Program,
        lm: str,
        *,
        instruction: str,
        inputs: Mapping[str, str],
        output: str,
        phase: str,
        key: str,
        temperature: float = 1.0,
        max_tokens: int = 256,
    ) -> str | Failure:
        """One free-text answer of ``lm`` of ``program``, for optimizers that let a model write; or why it gave none.

        ``inputs`` are shown as a module's, ``output`` is the name of what is asked for. The seed follows from
        (study seed, stage, phase, key). Raises: BudgetExhausted; ConfigError, EngineUnavailable.
        """
        self.meter.check()
        identity = RunIdentity(self._study.name, f"{self.stage}/{phase}", 0, key)
        return await ask(
            self.runtime,
            program,
            lm,
            instruction=instruction,
            inputs=inputs,
            output=output,
            identity=identity,
            seed=self.seed,
            temperature=temperature,
            max_tokens=max_tokens,
            earlier=self.earlier,
        )

    @asynccontextmanager
    async def bound_to(self, place: str | None) -> AsyncIterator[Lab]:
        """This lab with every LM served by the model at ``place`` (`local:NAME`, `openai:MODEL@URL`, a model's name),
        on the same budget and into the same trace store; itself where ``place`` is None. What was opened for it is
        closed at the end. Raises: ConfigError for a place that is none."""
        if place is None:
            yield self
            return
        async with Runtime(everything=Binding.parse(place), store=self.runtime.store, meter=self.meter) as runtime:
            await check_prices(runtime, Graph(self.stage), (DEFAULT_LM,))
            yield Lab(
                runtime=runtime,
                task=self.task,
                study=self._study,
                stage=self.stage,
                seed=self.seed,
                decoding=self.decoding,
                status=self._status,
                effects=self.effects,
                earlier=self.earlier,
            )

    async def trainable(self, program: Program, lm: str) -> TrainableEngine:
        """The engine of ``lm``, if its calls can train. Raises: ConfigError that says why not, before any call."""
        engine = await self.runtime.bindings.engine(program.graph, lm)
        if not engine.token_exact:
            raise ConfigError(
                f"LM `{lm}` runs on the engine {engine.name}, which gives text without token ids and logprobs:"
                " its calls cannot train.",
                hint="bind it to the local engine: --engine local",
            )
        if not isinstance(engine, TrainableEngine):
            raise ConfigError(
                f"LM `{lm}` runs on the engine {engine.name}, whose weights this process cannot train.",
                hint="bind it to the local engine: --engine local",
            )
        return engine

    def publish_adapter(self, name: str, version: int, folder: Path, base_model: str) -> AdapterRef:
        """Keep the PEFT folder as ``name@version`` of this study; versions are never overwritten with other content.

        The two versions before it are kept, older ones go: the checkpoint needs only the last.
        """
        digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
        root = self._study.folder / "adapters"
        target = root / f"{name}@v{version}-{digest[:12]}"
        if not target.exists():
            staging = root / f".{target.name}"
            shutil.rmtree(staging, ignore_errors=True)
            shutil.copytree(folder, staging)
            staging.rename(target)
        for old in root.glob(f"{name}@v*"):
            if int(old.name.rpartition("@v")[2].partition("-")[0]) < version - 2:
                shutil.rmtree(old, ignore_errors=True)
        return AdapterRef(name, version, target, base_model, digest)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replace this stage's checkpoint by ``state`` (JSON-ready). Atomic."""
        write_json(self.folder / "checkpoint.json", state)
        self._study.save(spent=spent(self.meter), earlier=self.earlier.counts)

    def restore(self) -> dict[str, Any] | None:
        """The last checkpoint of this stage in an interrupted run of the same study, or None."""
        path = self.folder / "checkpoint.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def log(self, event: str, **data: Any) -> None:
        """Append one event to the study's log. ``data`` is JSON-ready."""
        self._study.log(self.stage, event, {**data, "spent": spent(self.meter)})

    def status(self, message: str, share: float | None = None) -> None:
        """Show a person what goes on. ``share`` is how much of the stage is done."""
        self._status(message, share)


async def check_prices(runtime: Runtime, graph: Graph, lms: Iterable[str]) -> None:
    """Under a budget in money every model has a price. Raises: ConfigError, before any call."""
    if runtime.meter.budget.usd is None:
        return
    for lm in lms:
        engine = await runtime.bindings.engine(graph, lm)
        if not getattr(engine, "priced", True):
            raise ConfigError(
                f"LM `{lm}` runs on {engine.model_id}, which has no price: a budget in usd cannot be kept.",
                hint=f'give its price in lmgraph.toml: [options.{engine.name}.prices."{engine.model_id}"]'
                " input = …, output = …",
            )


def spent(meter: Meter) -> dict[str, float]:
    return {
        "calls": meter.calls, "tokens": meter.tokens, "seconds": round(meter.seconds, 3), "usd": round(meter.usd, 6)
    }  # fmt: skip
