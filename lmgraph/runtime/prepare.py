"""Flows and metrics made ready to run: engines open, adapters loaded, static prompts rendered, Python loaded.

The last few are kept: an optimizer makes many programs, and uses each for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from pydantic_core import SchemaValidator, ValidationError

from lmgraph.errors import ConfigError, DataError, EngineRejected, EngineUnavailable
from lmgraph.graph.graph import DEFAULT_LM, Graph, ModuleSpec
from lmgraph.graph.nodes import Region
from lmgraph.passes import check_names, optimized, with_counts
from lmgraph.program.params import as_learned
from lmgraph.program.program import Program
from lmgraph.program.values import fields_schema, misfit
from lmgraph.runtime.asking import LEAST_SHARED_TOKENS
from lmgraph.runtime.bind import Bindings
from lmgraph.runtime.calls import CompiledCheck, ModuleVersion
from lmgraph.runtime.context import check_context
from lmgraph.runtime.engine import AdapterEngine, Engine, PrefixEngine
from lmgraph.runtime.plan import FlowPlan
from lmgraph.runtime.planner import Planner
from lmgraph.runtime.prompt import PromptRenderer
from lmgraph.runtime.reach import reach, refuse_tools
from lmgraph.runtime.tools import Extern, load_extern

KEPT_READY = 16
"""Flows and metrics of programs that stay ready."""


@dataclass(slots=True)
class Prepared:
    """One flow or metric of one program, ready to run."""

    plan: FlowPlan
    modules: Mapping[str, ModuleVersion]
    externs: Mapping[str, Extern]
    program: Program
    """The cache's key is its identity, so it must live as long as the entry."""
    program_hash: str
    inputs: SchemaValidator | None = None
    """None for a metric."""
    running: int = 0
    """Runs under way: such an entry is not dropped."""

    def check_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Raises: DataError if they do not fit the flow."""
        assert self.inputs is not None
        try:
            values: dict[str, Any] = self.inputs.validate_python(dict(inputs))
        except ValidationError as error:
            spec = self.program.graph.flow(self.plan.name)
            expected = ", ".join(f"{field.name}: {field.type}" for field in spec.inputs)
            raise DataError(
                f"The inputs do not fit flow `{self.plan.name}`: {misfit(error).message}.",
                hint=f"it takes ({expected})",
            ) from None
        return values


_Key: TypeAlias = tuple[int, str, str, frozenset[str]]


class Preparations:
    """What a Runtime has ready."""

    def __init__(self, bindings: Bindings, passes_off: Collection[str] = ()) -> None:
        """Raises: ConfigError for a pass that there is not."""
        check_names(passes_off)
        self._bindings = bindings
        self._passes_off = passes_off
        self._optimized: tuple[Graph, Mapping[str, int], Graph] | None = None
        """The last graph that passes were run on, its counts, and what they made of it: most programs differ in other
        parameters only."""
        self._ready: OrderedDict[_Key, Prepared] = OrderedDict()
        self._lock = asyncio.Lock()

    async def flow(
        self,
        program: Program,
        name: str,
        stubs: Collection[str] = (),
        *,
        refuse: bool = False,
        as_written: bool = False,
    ) -> Prepared:
        """Modules, externs and flows named in ``stubs`` are not made ready, nor what only they would call.

        With ``as_written`` no pass is run: answers of stubs may count their calls.

        Raises: ConfigError, EngineUnavailable, EngineRejected or ContextOverflow where it cannot be served; ConfigError
        with ``refuse`` where it may call a tool, before any engine is opened.
        """
        what = f"Flow `{name}`"

        async def make() -> Prepared:
            graph = _tuned(program) if as_written else self._after_passes(program)
            spec = graph.flow(name)
            if refuse:
                refuse_tools(graph, reach(graph, spec.body, stubs).externs, what)
            prepared = await self._make(program, graph, spec.body, stubs, None, lambda planner: planner.flow(name))
            prepared.inputs = SchemaValidator(fields_schema(spec.inputs))
            return prepared

        kind = "flow as written" if as_written else "flow"
        prepared = await self._find((id(program), kind, name, frozenset(stubs)), make)
        if refuse:
            refuse_tools(program.graph, prepared.externs, what)
        return prepared

    async def metric(self, program: Program, name: str, judge: str | None) -> Prepared:
        """The body of a metric. Modules that name no LM of their own run on ``judge``."""

        async def make() -> Prepared:
            graph = self._after_passes(program)
            spec = graph.metric(name)
            assert spec.body is not None
            return await self._make(program, graph, spec.body, (), judge, lambda planner: planner.metric(spec))

        return await self._find((id(program), "metric", name, frozenset([judge or ""])), make)

    def _after_passes(self, program: Program) -> Graph:
        graph, counts = program.graph, program.params.counts
        if self._optimized is None or self._optimized[0] is not graph or self._optimized[1] != counts:
            self._optimized = graph, counts, optimized(_tuned(program), self._passes_off)
        return self._optimized[2]

    def clear(self) -> None:
        self._ready.clear()

    async def _find(self, key: _Key, make: Callable[[], Any]) -> Prepared:
        found = self._ready.get(key)
        if found is None:
            async with self._lock:
                found = self._ready.get(key)
                if found is None:
                    found = self._ready[key] = await make()
                    await self._drop_the_oldest(but=key)
        self._ready.move_to_end(key)
        return found

    async def _make(
        self,
        program: Program,
        graph: Graph,
        body: Region,
        stubs: Collection[str],
        judge: str | None,
        plan: Callable[[Planner], FlowPlan],
    ) -> Prepared:
        self._bindings.check_names(graph)
        _check_stubs(graph, stubs)
        reached = reach(graph, body, stubs)
        externs = {name: load_extern(graph.extern(name), program.root) for name in reached.externs}
        modules: dict[str, ModuleVersion] = {}
        for name in reached.modules:
            spec = graph.module(name)
            lm = judge if judge is not None and spec.lm == DEFAULT_LM else spec.lm
            modules[name] = await self._module_version(program, spec, lm)
        stubbed = frozenset(stubs) & {flow.name for flow in graph.flows}
        planner = Planner(graph, stubbed, lambda name: name in externs and externs[name].waits)
        return Prepared(plan(planner), modules, externs, program, program.hash)

    async def _module_version(self, program: Program, module: ModuleSpec, lm: str) -> ModuleVersion:
        engine = await self._bindings.engine(program.graph, lm)
        params = program.params.modules[module.name]
        module = as_learned(module, params)
        renderer = PromptRenderer(module, params, engine.tokenizer)
        check_context(module, lm, engine, renderer)
        declared = next((spec for spec in program.graph.lms if spec.name == lm), None)
        temperature = module.temperature if module.temperature is not None else declared and declared.temperature
        checks = [CompiledCheck(check) for check in module.checks]
        version = ModuleVersion(
            module, lm, engine, renderer, temperature or 0.0, checks, prefix=_prefix(engine, renderer, None)
        )
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
        return replace(version, adapter=served, prefix=_prefix(engine, renderer, served))

    async def _drop_the_oldest(self, but: _Key) -> None:
        """Forget idle entries beyond those kept ready, and unload the adapters that only they used."""
        idle = [key for key, prepared in self._ready.items() if prepared.running == 0 and key != but]
        for key in idle[: max(0, len(self._ready) - KEPT_READY)]:
            dropped = self._ready.pop(key)
            still_used = {
                (id(module.engine), module.adapter)
                for prepared in self._ready.values()
                for module in prepared.modules.values()
            }
            for module in {(id(one.engine), one.adapter): one for one in dropped.modules.values()}.values():
                if module.adapter is None or (id(module.engine), module.adapter) in still_used:
                    continue
                if isinstance(module.engine, AdapterEngine):
                    await module.engine.unload_adapter(module.adapter)


def _tuned(program: Program) -> Graph:
    return with_counts(program.graph, program.params.counts)


def _prefix(engine: Engine, renderer: PromptRenderer, adapter: str | None) -> tuple[str, ...] | None:
    """`ModuleVersion.prefix`."""
    if not isinstance(engine, PrefixEngine) or not engine.caches_prefixes:
        return None
    if renderer.static_tokens < LEAST_SHARED_TOKENS:
        return None
    return str(id(engine)), renderer.template_hash, adapter or ""


def _check_stubs(graph: Graph, stubs: Collection[str]) -> None:
    known = {module.name for module in graph.modules} | {extern.name for extern in graph.externs}
    known |= {flow.name for flow in graph.flows}
    if unknown := sorted(set(stubs) - known):
        raise ConfigError(
            f"There is no module, extern or flow `{unknown[0]}` to stub.",
            hint=f"there are: {', '.join(sorted(known))}",
        )
