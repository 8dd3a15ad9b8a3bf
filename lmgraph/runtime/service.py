"""Runtime: the embeddable handle. It binds a program's LMs to engines, runs flows and keeps their traces.

One Runtime may serve many programs and many tasks of one event loop at once. It knows no datasets and no scores.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lmgraph.errors import ConfigError, DataError
from lmgraph.graph.labels_program import information_flow
from lmgraph.program.program import Program
from lmgraph.runtime.answers import Answers, FirstOf
from lmgraph.runtime.asking import Shared
from lmgraph.runtime.bind import Binding, Bindings
from lmgraph.runtime.cache import CachedAnswers, ResponseCache
from lmgraph.runtime.calls import Sampling
from lmgraph.runtime.carry_out import begun, carry_out, run_flow, seeds_of
from lmgraph.runtime.engine import Engine
from lmgraph.runtime.events import Event, RunFinished, Tell, observed
from lmgraph.runtime.limits import Meter
from lmgraph.runtime.mapping import Once, map_bounded
from lmgraph.runtime.places import place_of, setting_of
from lmgraph.runtime.prepare import Preparations, Prepared
from lmgraph.runtime.replay import PartialRun, Record, RecordedAnswers, RecordRun, ReplayedRun, check_names
from lmgraph.runtime.run import CachePolicy, EffectsPolicy, Run, new_run_id, run_key
from lmgraph.runtime.run import RunOptions as RunOptions
from lmgraph.runtime.store import TraceStore
from lmgraph.runtime.tools import PythonCalls
from lmgraph.runtime.trace import Failure, Trace, call_order

EVENTS_WAITING = 256
"""Events of `Runtime.stream` that its reader has not taken; the run waits where there are more."""


_DEFAULTS = RunOptions()


class Runtime:
    """Runs programs.

    ``lms`` binds LMs by name and ``everything`` the rest: a `Binding`, or an open engine. With neither, a program's
    own `engine` and `model` are used, and the embedded engine with the small model where it names none.
    ``engine_options`` are options of engines by their kind: ``{"local": {"dtype": "float32"}}``.
    ``store`` is a trace store, a path for one, or None for no traces on disk. ``cache`` is a response cache or a folder
    for one: what `RunOptions.cache` says of a run's calls, and of deterministic calls of metrics, is answered from it.
    ``passes_off`` names passes over the graph that are left out (`lmgraph.passes.PASSES`); runs with stubs run the
    graph as it was written. Use it as an async context manager, or call ``aclose``.
    """

    def __init__(
        self,
        *,
        lms: Mapping[str, Binding | Engine] | None = None,
        everything: Binding | Engine | None = None,
        engine_options: Mapping[str, Mapping[str, Any]] | None = None,
        store: TraceStore | Path | None = None,
        meter: Meter | None = None,
        cache: ResponseCache | Path | None = None,
        passes_off: Collection[str] = (),
    ) -> None:
        self.bindings = Bindings(lms, everything, engine_options)
        self.meter = meter or Meter()
        self._owns_store = isinstance(store, Path)
        self.store = TraceStore(store) if isinstance(store, Path) else store
        self.cache = ResponseCache(cache, setup=engine_options) if isinstance(cache, Path) else cache
        self.passes_off = tuple(passes_off)
        self._preparations = Preparations(self.bindings, passes_off)
        self._python = PythonCalls()
        self._shared = Shared()
        self._numbers = itertools.count()
        self._private_told: set[str] = set()
        """Graphs of which the store knows what is private."""

    async def run(
        self,
        program: Program,
        inputs: Mapping[str, Any],
        *,
        flow: str | None = None,
        options: RunOptions | None = None,
        recorded: Sequence[Trace] = (),
    ) -> Trace:
        """Run one flow once. What fails inside the run is in the trace (`trace.require()` raises it).

        ``recorded`` are runs that may have made some of the calls already, of this program or of one with other
        parameters. A call is answered from the first of them that made the very same request at the same call key
        (`Call.source` says so), and Python from the first that called it there with the same inputs; calls that their
        engine failed are made again. So where the parameters of a module differ, it is called, and what its new
        outputs reach; and as long as Python gives the same for the same inputs, the result is that of a run without
        ``recorded``.
        Raises: DataError if ``inputs`` do not fit, or a stub's answer; ConfigError, EngineUnavailable or
        EngineRejected if the program cannot be served at all, or may act and ``options`` refuse it; BudgetExhausted.
        """
        options = options or _DEFAULTS
        prepared = await self._prepare(program, flow, options)
        return await self._run(prepared, prepared.check_inputs(inputs), options, recorded=recorded)

    def map(
        self,
        program: Program,
        inputs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        *,
        flow: str | None = None,
        options: RunOptions | None = None,
        concurrency: int = 64,
        ordered: bool = True,
        resume: bool = False,
    ) -> AsyncGenerator[Trace, None]:
        """Run one flow on any number of inputs, ``concurrency`` runs at once, in constant memory.

        Gives a Trace for each of the inputs, in their order, or with ``ordered=False`` as they are done. Its
        ``identity.example`` is the position, "0" first, where ``options`` say nothing else, so that each input samples
        with seeds of its own. Inputs that do not fit are a Trace with a failure, which no store keeps. Inputs are taken
        only as results are: a caller who stops reading stops the work. Closing the generator (`contextlib.aclosing`)
        or cancelling its reader cancels what is under way. With ``resume`` the runs that a killed process has left in
        the store are taken from there, as long as program, parameters, Python, options, models and the input at the
        position are the same: each input is run once.
        Raises: ConfigError for a ``concurrency`` below 1, and to resume without a store or with stubs; else as ``run``,
        but for inputs that do not fit.
        """
        if concurrency < 1:
            raise ConfigError(f"`concurrency` is {concurrency}; expected 1 or more.", hint="leave it out for 64")
        if resume and self.store is None:
            raise ConfigError("There is no trace store to resume from.", hint="give the Runtime a store")
        asked = options or _DEFAULTS
        setting = Once(lambda: setting_of(self.bindings, program, program.flow_name(flow), asked))

        async def one(position: int, given: Mapping[str, Any]) -> Trace:
            place = asked.identity
            if not place.example:
                place = replace(place, example=str(position))
            prepared = await self._prepare(program, flow, asked)
            try:
                values = prepared.check_inputs(given)
            except (DataError, TypeError, ValueError) as error:  # no mapping at all has no fields to name
                message = error.message if isinstance(error, DataError) else f"The inputs are no mapping: {error}."
                name = prepared.plan.name
                failure = Failure("value", message, name, name)
                return Trace(new_run_id(), prepared.program_hash, name, place, given, failure=failure)
            known_by = asked.place
            if self.store is not None and (resume or not asked.stubs):
                known_by = place_of(await setting.value(), place.example, values)
                if resume and (found := self.store.at_place(known_by)) is not None:
                    return found
            return await self._run(prepared, values, replace(asked, identity=place, place=known_by))

        return map_bounded(inputs, one, at_once=concurrency, ordered=ordered)

    async def stream(
        self,
        program: Program,
        inputs: Mapping[str, Any],
        *,
        flow: str | None = None,
        options: RunOptions | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run one flow once and tell of it as it goes on: each call as it starts and ends, what is written where an
        engine streams, and last the whole run.

        Closing the generator (`contextlib.aclosing`) or cancelling its reader cancels the run. Raises: as ``run``.
        """
        options = options or _DEFAULTS
        prepared = await self._prepare(program, flow, options)
        values = prepared.check_inputs(inputs)
        events: asyncio.Queue[Event | None] = asyncio.Queue(EVENTS_WAITING)

        async def work() -> Trace:
            try:
                return await self._run(prepared, values, options, events.put)
            finally:
                with suppress(asyncio.QueueFull):  # where it is full the reader does not wait, and sees the end itself
                    events.put_nowait(None)

        running = asyncio.create_task(work())
        try:
            while not (running.done() and events.empty()):
                event = await events.get()
                if event is not None:
                    yield event
            yield RunFinished(running.result())
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(
        self,
        prepared: Prepared,
        values: Mapping[str, Any],
        options: RunOptions,
        tell: Tell | None = None,
        recorded: Sequence[Trace] = (),
    ) -> Trace:
        trace = begun(prepared, values, options)
        records = [Record(one) for one in recorded]
        sampling = self._sampling(options, [RecordedAnswers(one) for one in records], tell)
        key = run_key(options.identity, trace.run_id)
        kind = PartialRun if records else Run
        run = kind(prepared, options.stubs, sampling, self._python, key, trace.calls, trace.steps)
        if isinstance(run, PartialRun):
            run.follow(records)
        call = run.call if tell is None else observed(run.call, tell)
        await carry_out(prepared, trace, call, one_at_a_time=options.one_at_a_time)
        if self.store is not None:
            self._keep(self.store, prepared, trace)
        return trace

    async def replay(
        self,
        program: Program,
        recorded: Trace,
        *,
        again: Collection[str] = (),
        effects: EffectsPolicy = "refuse",
        cache: CachePolicy = "deterministic",
    ) -> Trace:
        """A recorded run once more, from its record: with the program it was made with, without engines and Python.

        With a changed program, or modules and externs named in ``again``, these run anew, and so does what their new
        outputs reach; the rest is answered from the record (`Call.source`). The result equals that of a whole run under
        the recorded settings. Only such a run is kept in the store. A call of a tool that the record has no answer to
        is refused unless ``effects`` allow it.
        Raises: ConfigError where the record does not fit the program; else as ``run``.
        """
        record = Record(recorded)
        check_names(program.graph, again)
        flow = program.flow_name(recorded.flow)
        stubbed = record.stubbed_flows(program.graph)
        given = record.settings
        options = RunOptions(given.decoding, given.temperature, given.seed, recorded.identity)
        if program.hash == recorded.program and not again:
            modules = {module.name for module in program.graph.modules}
            externs = {extern.name for extern in program.graph.externs}
            known = modules | externs | stubbed
            prepared = await self._preparations.flow(program, flow, known, as_written=record.had_stubs)
            trace = begun(prepared, prepared.check_inputs(recorded.inputs), options)
            await carry_out(prepared, trace, RecordRun(record, program, trace.calls, trace.steps).call)
            return trace
        prepared = await self._preparations.flow(program, flow, stubbed, as_written=record.had_stubs)
        trace = begun(prepared, prepared.check_inputs(recorded.inputs), options)
        sampling = self._sampling(replace(options, cache=cache), [RecordedAnswers(record, again)])
        key = run_key(recorded.identity, recorded.run_id)
        run = ReplayedRun(prepared, {}, sampling, self._python, key, trace.calls, trace.steps)
        run.replay(record, again, effects)
        await carry_out(prepared, trace, run.call)
        if self.store is not None:
            self._keep(self.store, prepared, trace)
        return trace

    def _keep(self, store: TraceStore, prepared: Prepared, trace: Trace) -> None:
        graph = trace.program.partition("+")[0]
        if graph not in self._private_told:
            store.set_private(graph, information_flow(prepared.program.graph).private)
            self._private_told.add(graph)
        store.add(trace)

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
        recorded: Sequence[Trace] = (),
    ) -> Any | Failure:
        """The value of a metric that is an expression, on one row and what a run of it gave.

        The calls it makes are appended to ``trace.judged``; modules that name no LM run on ``judge``. They decode
        constrained and at their own temperatures, whatever the run did. Those that metrics made of ``recorded`` runs
        answer the very same ones. Raises: as ``run``.
        """
        prepared = await self._preparations.metric(program, metric, judge)
        answers = [RecordedAnswers(Record(replace(one, calls=one.judged))) for one in recorded if one.judged]
        sampling = self._sampling(RunOptions(seed=seed, identity=trace.identity), answers)
        run = Run(prepared, {}, sampling, self._python, run_key(trace.identity, trace.run_id), trace.judged, [])
        result = await run_flow(prepared, {"gold": gold, "pred": pred}, run.call, lambda asked: None)
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
                if self.store is not None:
                    self.store.flush()

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
        """Close the engines this runtime opened and the store it made; what other stores wait to write is written."""
        self._python.close()
        await self.bindings.aclose()
        if self.store is not None:
            self.store.close() if self._owns_store else self.store.flush()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _sampling(self, options: RunOptions, recorded: Sequence[Answers] = (), tell: Tell | None = None) -> Sampling:
        """What is recorded answers first, then the response cache, then an engine."""
        places = list(recorded)
        if self.cache is not None and options.cache != "off":
            places.append(CachedAnswers(self.cache, sampled=options.cache == "all"))
        answers = FirstOf(places) if len(places) > 1 else places[0] if places else None
        return Sampling(
            options.decoding,
            options.temperature,
            seeds_of(options),
            self.meter,
            self._shared,
            answers,
            tell,
            next(self._numbers),
        )

    async def _prepare(self, program: Program, flow: str | None, options: RunOptions) -> Prepared:
        name = program.flow_name(flow)
        refuse, as_written = options.effects == "refuse", bool(options.stubs)
        return await self._preparations.flow(program, name, options.stubs, refuse=refuse, as_written=as_written)
