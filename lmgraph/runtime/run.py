"""One run under way: it answers the executor's calls with modules, Python and stubs, and writes down what they did."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from lmgraph.errors import DataError, RunError
from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.types import LiteralType, RecordType, Type, UnionType
from lmgraph.program.values import Misfit, least_value, plain_copy, validate
from lmgraph.runtime.calls import CallContext, Sampling, call_module
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.plan import PlannedCall
from lmgraph.runtime.prepare import Prepared
from lmgraph.runtime.tools import Problem, PythonCalls
from lmgraph.runtime.trace import Call, Failure, RunIdentity, Step

CachePolicy: TypeAlias = Literal["deterministic", "all", "off"]
EffectsPolicy: TypeAlias = Literal["allow", "refuse"]
Stub: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""From inputs by name to the outputs of a module or flow by name, or to the value of an extern. One that raises is a
call that fails."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run samples, where it stands in a study, and what it may do."""

    decoding: Decoding = "constrained"
    temperature: float | None = None
    """Overrides the modules' and LMs' own; None keeps theirs."""
    seed: int = 0
    identity: RunIdentity = field(default_factory=RunIdentity)
    effects: EffectsPolicy = "allow"
    """refuse: a run that may call a tool which no stub answers for is not begun."""
    stubs: Mapping[str, Stub] = field(default_factory=dict)
    """By name of module, extern or flow: answers in place of it. No engine is opened for a stubbed module."""
    one_at_a_time: bool = False
    """Run everything in the order of the source, nothing beside anything else: stubs then count their calls alike."""
    cache: CachePolicy = "deterministic"
    """Where the Runtime has a response cache. deterministic: calls whose answer follows from the request are answered
    from it, those at temperature 0 and those with a seed that the engine honours; all: sampled ones too; off: none."""
    place: str = ""
    """Kept with the trace: what a command that was interrupted finds this run by (`TraceStore.at_place`)."""


class Run:
    """Makes the calls of one run, or of one metric on it."""

    def __init__(
        self,
        prepared: Prepared,
        stubs: Mapping[str, Stub],
        sampling: Sampling,
        python: PythonCalls,
        run_key: str,
        calls: list[Call],
        steps: list[Step],
    ) -> None:
        """``run_key`` is what the idempotency keys of tools begin from; ``calls`` and ``steps`` are appended to."""
        self._prepared = prepared
        self._stubs = stubs
        self._sampling = sampling
        self._python = python
        self._run_key = run_key
        self._calls = calls
        self._steps = steps

    async def call(self, node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Any:
        """One call that the executor asks for (`CallFunction`)."""
        if self._stubs:
            stub = self._stub(node)
            if stub is not None:
                return self._stubbed(stub, node, key, inputs)
        if node.kind == "module":
            return await self._module(node, key, inputs)
        return await self._extern(node, key, inputs)

    async def _module(self, node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Any:
        context = CallContext(node.id, key, self._sampling, node.behind)
        started, began = time.time(), time.perf_counter()
        value = await call_module(self._prepared.modules[node.name], inputs, context, self._calls)
        if type(value) is Failure and value.kind in ("engine", "overflow"):  # there is no Call that would tell of it
            seconds = time.perf_counter() - began
            self._steps.append(Step(node.id, value.call_key, "lm", node.name, inputs, None, value, started, seconds))
        return value

    async def _extern(self, node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Any:
        extern = self._prepared.externs[node.name]
        started, began = time.time(), time.perf_counter()
        value = await self._python.call(extern, inputs, lambda: _digest(self._run_key, key))
        failure = None
        if isinstance(value, Problem):
            failure, value = Failure("tool", value.message, node.id, key), None
        seconds = time.perf_counter() - began
        self._steps.append(Step(node.id, key, extern.spec.kind, node.name, inputs, value, failure, started, seconds))
        return value if failure is None else failure

    def _stub(self, node: PlannedCall) -> Stub | None:
        if node.name in self._stubs or node.kind != "module":
            return self._stubs.get(node.name)
        module = self._prepared.program.graph.module(node.name)
        return (lambda inputs: finishing_step(module)) if module.derived_from in self._stubs else None

    def _stubbed(self, stub: Stub, node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Any:
        started, began = time.time(), time.perf_counter()
        failure: Failure | None = None
        value: Any = None
        try:
            answer = stub(plain_copy(dict(inputs)))
        except DataError:
            raise
        except Exception as error:
            text = error.message if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
            failure = Failure("tool", f"the stub of `{node.name}` raised {text}", node.id, key)
        else:
            value = _fitting(answer, _type_of(self._prepared.program.graph, node), node.name)
        seconds = time.perf_counter() - began
        self._steps.append(Step(node.id, key, "stub", node.name, inputs, value, failure, started, seconds))
        return value if failure is None else failure


def new_run_id() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): milliseconds, then 74 random bits.

    Ids in the order of time keep the store fast as it grows: rows of new runs go to the end of every index. With random
    ones each would change a page of its own.
    """
    random = int.from_bytes(os.urandom(10)) & ~(0b11 << 62) & (1 << 76) - 1
    return f"{time.time_ns() // 1_000_000 << 80 | 0x7 << 76 | random | 0b10 << 62:032x}"


def run_key(identity: RunIdentity, run_id: str) -> str:
    """The same for the same place in a study; without a study each run is its own."""
    if not identity.study:
        return run_id
    return _digest(identity.study, identity.phase, identity.step, identity.example, identity.rollout)


def finishing_step(module: ModuleSpec) -> dict[str, Any]:
    """Outputs of a `react` step that chooses to finish: what it says on its own where its module is stubbed."""
    return {one.name: _finishing(one.type) for one in module.outputs}


def _finishing(type_: Type) -> Any:
    options = type_.options if isinstance(type_, UnionType) else (type_,)
    for option in options:
        tool = option.field("tool") if isinstance(option, RecordType) else None
        if tool is not None and isinstance(tool.type, LiteralType) and "finish" in tool.type.values:
            return {**least_value(option), "tool": "finish"}
    return least_value(type_)


def _type_of(graph: Graph, node: PlannedCall) -> Type:
    match node.kind:
        case "module":
            return graph.module(node.name).output_type
        case "flow":
            return graph.flow(node.name).output_type
        case "extern":
            return graph.extern(node.name).result


def _fitting(answer: Any, type_: Type, name: str) -> Any:
    try:
        return validate(dict(answer) if isinstance(answer, Mapping) else answer, type_)
    except Misfit as problem:
        raise DataError(
            f"The stub of `{name}` answers with what does not fit {type_}: {problem.message}.",
            hint="give the outputs by name, or an extern's one value",
        ) from None


def _digest(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()
