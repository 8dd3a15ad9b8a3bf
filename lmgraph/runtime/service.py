"""Runtime: the embeddable handle. It binds a program's LMs to engines, runs flows and keeps their traces.

One Runtime may serve many programs and many tasks of one event loop at once. It knows no datasets and no metrics.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic_core import SchemaValidator, ValidationError

from lmgraph.errors import DataError, EngineRejected, EngineUnavailable
from lmgraph.graph.graph import ModuleSpec
from lmgraph.program.program import Program
from lmgraph.program.values import fields_schema, misfit
from lmgraph.runtime.bind import Binding, Bindings
from lmgraph.runtime.calls import CallContext, ModuleVersion, call_module
from lmgraph.runtime.engine import AdapterEngine, Engine
from lmgraph.runtime.execute import execute
from lmgraph.runtime.limits import Meter
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.plan import PlannedCall, RegionPlan, plan_flow
from lmgraph.runtime.prompt import PromptRenderer
from lmgraph.runtime.seeds import derive_seed
from lmgraph.runtime.store import TraceStore
from lmgraph.runtime.trace import Call, Failure, RunIdentity, Trace


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run samples, and where it stands in a study."""

    decoding: Decoding = "constrained"
    temperature: float | None = None
    """Overrides the modules' and LMs' own; None keeps theirs."""
    seed: int = 0
    identity: RunIdentity = field(default_factory=RunIdentity)


KEPT_READY = 16
"""Programs whose prompts and adapters stay ready. An optimizer makes many, and uses each for a while."""


@dataclass(slots=True)
class _Prepared:
    """One flow of one program, ready to run."""

    flow: str
    plan: RegionPlan
    modules: Mapping[str, ModuleVersion]
    inputs: SchemaValidator
    keep_alive: Program
    """The cache's key is this program's identity, so it must live as long as the entry."""
    running: int = 0
    """Runs under way: such an entry is not dropped."""


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
        self._prepared: OrderedDict[tuple[int, str], _Prepared] = OrderedDict()
        self._preparing = asyncio.Lock()

    async def run(
        self,
        program: Program,
        inputs: Mapping[str, Any],
        *,
        flow: str | None = None,
        options: RunOptions | None = None,
    ) -> Trace:
        """Run one flow once. What fails inside the run is in the trace (`trace.require()` raises it).

        Raises: DataError if ``inputs`` do not fit; ConfigError, EngineUnavailable or EngineRejected if the program
        cannot be served at all; BudgetExhausted.
        """
        options = options or RunOptions()
        prepared = await self.prepare(program, flow)
        values = _checked_inputs(prepared, inputs)
        trace = Trace(uuid.uuid4().hex, program.hash, prepared.flow, options.identity, values, started=time.time())
        began = time.perf_counter()
        identity = options.identity

        async def call(node: PlannedCall, key: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | Failure:
            def seed(retry: int) -> int:
                return derive_seed(
                    options.seed, identity.study, identity.phase, identity.step, identity.example, identity.rollout,
                    key, retry,
                )  # fmt: skip

            context = CallContext(node.id, key, options.decoding, options.temperature, seed, self.meter)
            return await call_module(prepared.modules[node.module], arguments, context, trace.calls)

        prepared.running += 1
        try:
            result = await execute(prepared.plan, prepared.flow, values, call)
        finally:
            prepared.running -= 1
        trace.seconds = time.perf_counter() - began
        trace.calls.sort(key=_call_order)
        if isinstance(result, Failure):
            trace.failure = result
        else:
            trace.outputs = result
        if self.store is not None:
            self.store.add(trace)
        return trace

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
                self._prepared.clear()
                await self.bindings.aclose()

        return asyncio.run(once())

    async def prepare(self, program: Program, flow: str | None = None) -> _Prepared:
        """Open engines, load adapters and render the static prompts of one flow; later runs find it ready."""
        name = program.flow_name(flow)
        key = (id(program), name)
        async with self._preparing:
            if key in self._prepared:
                self._prepared.move_to_end(key)
                return self._prepared[key]
            self.bindings.check_names(program.graph)
            modules = {
                module: await self._module_version(program, program.graph.module(module))
                for module in program.graph.modules_of(name)
            }
            spec = program.graph.flow(name)
            schema = SchemaValidator(fields_schema(spec.inputs))
            prepared = _Prepared(name, plan_flow(spec), modules, schema, program)
            self._prepared[key] = prepared
            await self._drop_the_oldest(but=key)
            return prepared

    async def _drop_the_oldest(self, but: tuple[int, str]) -> None:
        """Forget idle programs beyond those kept ready, and unload the adapters that only they used."""
        idle = [key for key, prepared in self._prepared.items() if prepared.running == 0 and key != but]
        for key in idle[: max(0, len(self._prepared) - KEPT_READY)]:
            dropped = self._prepared.pop(key)
            still_used = {
                (id(module.engine), module.adapter)
                for prepared in self._prepared.values()
                for module in prepared.modules.values()
            }
            for module in {(id(one.engine), one.adapter): one for one in dropped.modules.values()}.values():
                if module.adapter is None or (id(module.engine), module.adapter) in still_used:
                    continue
                if isinstance(module.engine, AdapterEngine):
                    await module.engine.unload_adapter(module.adapter)

    async def aclose(self) -> None:
        """Close the engines this runtime opened and the store it made."""
        await self.bindings.aclose()
        if self.store is not None and self._owns_store:
            self.store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _module_version(self, program: Program, module: ModuleSpec) -> ModuleVersion:
        engine = await self.bindings.engine(program.graph, module.lm)
        params = program.params.modules[module.name]
        renderer = PromptRenderer(module, params, engine.tokenizer)
        declared = next((spec for spec in program.graph.lms if spec.name == module.lm), None)
        temperature = module.temperature if module.temperature is not None else declared and declared.temperature
        version = ModuleVersion(module, module.lm, engine, renderer, temperature or 0.0)
        if params.adapter is None:
            return version
        ref = program.params.adapters[params.adapter]
        if not isinstance(engine, AdapterEngine):
            raise EngineUnavailable(
                f"Module `{module.name}` has the adapter {ref.key}, and the engine {engine.name} serves none.",
                hint="bind its LM to the local engine",
            )
        if ref.base_model != engine.model_id:
            raise EngineRejected(
                f"The adapter {ref.key} of module `{module.name}` was trained on {ref.base_model}, "
                f"and {engine.model_id} serves it here.",
                hint=f"bind its LM to {ref.base_model}",
            )
        served = f"{ref.key}-{ref.sha256[:12]}"  # two studies in one process may both have a shared@v1
        await engine.load_adapter(served, ref.folder)
        return replace(version, adapter=served)


def _call_order(call: Call) -> tuple[str, int, int]:
    return call.call_key, call.retry, call.attempt


def _checked_inputs(prepared: _Prepared, inputs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        values: dict[str, Any] = prepared.inputs.validate_python(dict(inputs))
    except ValidationError as error:
        spec = prepared.keep_alive.graph.flow(prepared.flow)
        expected = ", ".join(f"{field.name}: {field.type}" for field in spec.inputs)
        raise DataError(
            f"The inputs do not fit flow `{prepared.flow}`: {misfit(error).message}.", hint=f"it takes ({expected})"
        ) from None
    return values
