"""Runtime: the embeddable handle. It binds a program's LMs to engines, runs flows and keeps their traces.

One Runtime may serve many programs and many tasks of one event loop at once. It knows no datasets and no scores.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lmgraph.program.program import Program
from lmgraph.runtime.bind import Binding, Bindings
from lmgraph.runtime.calls import Sampling
from lmgraph.runtime.engine import Engine
from lmgraph.runtime.execute import execute
from lmgraph.runtime.limits import Meter
from lmgraph.runtime.prepare import Preparations, Prepared
from lmgraph.runtime.run import Run, run_key
from lmgraph.runtime.run import RunOptions as RunOptions
from lmgraph.runtime.seeds import Seeds
from lmgraph.runtime.store import TraceStore
from lmgraph.runtime.tools import PythonCalls
from lmgraph.runtime.trace import CheckRecord, Failure, Trace, call_order


class Runtime:
    """Runs programs.

    ``lms`` binds LMs by name and ``everything`` the rest: a `Binding`, or an open engine. With neither, a program's
    own `engine` and `model` are used, and the embedded engine with the small model where it names none.
    ``store`` is a trace store, a path for one, or None for no traces on disk.
    Use it as an async context manager, or call ``aclose``.
    """

    def __init__(
        self,
        *,
        lms: Mapping[str, Binding | Engine] | None = None,
        everything: Binding | Engine | None = None,
        engine_options: Mapping[str, Any] | None = None,
        store: TraceStore | Path | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.bindings = Bindings(lms, everything, engine_options)
        self.meter = meter or Meter()
        self._owns_store = isinstance(store, Path)
        self.store = TraceStore(store) if isinstance(store, Path) else store
        self._preparations = Preparations(self.bindings)
        self._python = PythonCalls()

    async def run(
        self,
        program: Program,
        inputs: Mapping[str, Any],
        *,
        flow: str | None = None,
        options: RunOptions | None = None,
    ) -> Trace:
        """Run one flow once. What fails inside the run is in the trace (`trace.require()` raises it).

        Raises: DataError if ``inputs`` do not fit, or a stub's answer; ConfigError, EngineUnavailable or
        EngineRejected if the program cannot be served at all, or may act and ``options`` refuse it; BudgetExhausted.
        """
        options = options or RunOptions()
        prepared = await self._prepare(program, flow, options)
        values = prepared.check_inputs(inputs)
        identity = options.identity
        run_id = uuid.uuid4().hex
        trace = Trace(run_id, prepared.program_hash, prepared.plan.name, identity, values, started=time.time())
        began = time.perf_counter()
        sampling = Sampling(options.decoding, options.temperature, _seeds(options), self.meter)
        run = Run(prepared, options.stubs, sampling, self._python, run_key(identity, run_id), trace.calls, trace.steps)
        result = await _execute(prepared, values, run, trace.checks.append, one_at_a_time=options.one_at_a_time)
        trace.seconds = time.perf_counter() - began
        trace.sort()
        if isinstance(result, Failure):
            trace.failure = result
        else:
            trace.outputs = result
        if self.store is not None:
            self.store.add(trace)
        return trace

    async def measure(
        self,
        program: Program,
        metric: str,
        gold: Mapping[str, Any],
        pred: Mapping[str, Any],
        *,
        trace: Trace,
        judge: str | None = None,
        seed: int = 0,
    ) -> Any | Failure:
        """The value of a metric that is an expression, on one row and what a run of it gave.

        The calls it makes are appended to ``trace.judged``; modules that name no LM run on ``judge``. They decode
        constrained and at their own temperatures, whatever the run did. Raises: as ``run``.
        """
        prepared = await self._preparations.metric(program, metric, judge)
        sampling = Sampling("constrained", None, _seeds(RunOptions(seed=seed, identity=trace.identity)), self.meter)
        run = Run(prepared, {}, sampling, self._python, run_key(trace.identity, trace.run_id), trace.judged, [])
        result = await _execute(prepared, {"gold": gold, "pred": pred}, run, lambda asked: None)
        trace.judged.sort(key=call_order)
        return result if isinstance(result, Failure) else result[""]

    def run_sync(
        self,
        program: Program,
        inputs: Mapping[str, Any],
        *,
        flow: str | None = None,
        options: RunOptions | None = None,
    ) -> Trace:
        """``run`` for code without an event loop. Engines live as long as the loop, so each call opens its own."""

        async def once() -> Trace:
            try:
                return await self.run(program, inputs, flow=flow, options=options)
            finally:
                self._preparations.clear()
                self._python.close()
                await self.bindings.aclose()

        return asyncio.run(once())

    async def prepare(self, program: Program, flow: str | None = None, options: RunOptions | None = None) -> None:
        """Open engines, load adapters and Python, and render the static prompts of one flow; later runs find it ready.

        Raises: as ``run``, before any call is made.
        """
        await self._prepare(program, flow, options or RunOptions())

    async def prepare_metric(self, program: Program, metric: str, judge: str | None = None) -> None:
        """As ``prepare``, for a metric that is an expression."""
        await self._preparations.metric(program, metric, judge)

    async def aclose(self) -> None:
        """Close the engines this runtime opened and the store it made."""
        self._python.close()
        await self.bindings.aclose()
        if self.store is not None and self._owns_store:
            self.store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _prepare(self, program: Program, flow: str | None, options: RunOptions) -> Prepared:
        name = program.flow_name(flow)
        return await self._preparations.flow(program, name, options.stubs, refuse=options.effects == "refuse")


async def _execute(
    prepared: Prepared,
    values: Mapping[str, Any],
    run: Run,
    checked: Callable[[CheckRecord], None],
    *,
    one_at_a_time: bool = False,
) -> dict[str, Any] | Failure:
    prepared.running += 1
    try:
        return await execute(prepared.plan, values, run.call, checked, one_at_a_time=one_at_a_time)
    finally:
        prepared.running -= 1


def _seeds(options: RunOptions) -> Seeds:
    place = options.identity
    return Seeds(options.seed, place.study, place.phase, place.step, place.example, place.rollout)
