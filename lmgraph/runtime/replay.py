"""Replay: a recorded run once more, from its record.

Where the program is the recorded one, every call is answered from the record: no engine is opened, no Python is called.
Where it was changed, a call is answered from the record as long as it is the very same request (prompt, sampling, seed,
model, adapter), and made where it is not. So exactly the changed modules run again, and what their new outputs reach
(as values, through control, or as failures); and since seeds follow from places in the graph, the result is that of a
whole run. A search uses the same: a run of other parameters is answered from runs that it has already.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import ValidationError

from lmgraph.errors import ConfigError
from lmgraph.graph.graph import Graph
from lmgraph.program.program import Program
from lmgraph.program.values import plain_copy
from lmgraph.runtime.answers import Known
from lmgraph.runtime.engine import Engine, GenerateRequest, Generation
from lmgraph.runtime.plan import PlannedCall
from lmgraph.runtime.run import EffectsPolicy, Run
from lmgraph.runtime.trace import Call, RunSettings, Step, Trace

_RETRY = re.compile(r"/retry\[\d+\]$")


class Record:
    """What a run left behind, by call key."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.calls: dict[str, list[Call]] = {}
        """All samples of a call, in order."""
        for call in sorted(trace.calls, key=lambda call: call.retry):
            self.calls.setdefault(_RETRY.sub("", call.call_key), []).append(call)
        self.steps = {_RETRY.sub("", step.call_key): step for step in trace.steps}

    @property
    def settings(self) -> RunSettings:
        """How the run sampled, as far as can be told where an older version did not keep it."""
        if self.trace.settings is not None:
            return replace(self.trace.settings, place="")
        constrained = any(call.constrained for call in self.trace.calls) or not self.trace.calls
        return RunSettings("constrained" if constrained else "strict")

    @property
    def had_stubs(self) -> bool:
        return any(step.kind == "stub" for step in self.trace.steps)

    def stubbed_flows(self, graph: Graph) -> frozenset[str]:
        return frozenset(step.name for step in self.trace.steps if step.kind == "stub") & {
            flow.name for flow in graph.flows
        }


class RecordedAnswers:
    """Calls of a record as answers to the very same requests. Modules named in ``again`` are asked anew."""

    def __init__(self, record: Record, again: Collection[str] = ()) -> None:
        self._calls = {call.call_key: call for call in record.trace.calls if call.module not in again}

    def find(self, engine: Engine, request: GenerateRequest) -> Known | None:
        call = self._calls.get(request.request_id)
        if call is None or not _is_same(call, engine, request):
            return None
        allowed = None if call.allowed is None else list(call.allowed)
        reason: Any = call.finish_reason
        return Known(Generation(list(call.completion_ids), list(call.logprobs), reason, allowed=allowed), "record")

    def name(self, engine: Engine, request: GenerateRequest) -> str | None:
        return None

    def keep(self, engine: Engine, request: GenerateRequest, generation: Generation) -> None:
        """A record does not change."""


class RecordRun:
    """Answers every call of a run from its record, without engines and without Python."""

    def __init__(self, record: Record, program: Program, calls: list[Call], steps: list[Step]) -> None:
        self._record = record
        self._graph = program.graph
        self._calls = calls
        self._steps = steps

    async def call(self, node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Any:
        """One call that the executor asks for (`CallFunction`). Raises: ConfigError where it is not in the record."""
        calls = self._record.calls.get(key, [])
        step = self._record.steps.get(key)
        recorded = calls[0].inputs if calls else None if step is None else step.inputs
        if recorded is not None and recorded != inputs:
            raise self._unfit(key, "has other inputs for")
        self._calls += [replace(call, source="record") for call in calls]
        if step is not None:
            self._steps.append(step)
            return plain_copy(step.output) if step.failure is None else step.failure
        if calls:
            last = calls[-1]
            if last.outputs is None:
                return last.failure
            return {one.name: plain_copy(last.outputs[one.name]) for one in self._graph.module(node.name).outputs}
        failure = self._record.trace.failure
        if failure is not None and _RETRY.sub("", failure.call_key) == key:
            return failure
        raise self._unfit(key, "has no record of")

    def _unfit(self, key: str, what: str) -> ConfigError:
        return ConfigError(
            f"Run {self._record.trace.run_id} {what} the call {key}.",
            hint="an older version recorded it, or its Python has changed since: run the program anew",
        )


class PartialRun(Run):
    """As Run, with the records' answers for Python whose inputs have not changed."""

    def follow(self, records: Sequence[Record]) -> None:
        """To be called once, before the first call."""
        self._records = records

    async def call(self, node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Any:
        step = self._known(node, key, inputs)
        if step is None:
            return await super().call(node, key, inputs)
        self._steps.append(step)
        return plain_copy(step.output) if step.failure is None else step.failure

    def _known(self, node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Step | None:
        if self._stubs and self._stub(node) is not None:
            return None
        steps = [record.steps[key] for record in self._records if key in record.steps]
        return next((step for step in steps if self._answers(step, node, inputs)), None)

    def _answers(self, step: Step, node: PlannedCall, inputs: Mapping[str, Any]) -> bool:
        if step.kind in ("lm", "stub") or step.name != node.name or step.inputs != inputs:
            return False
        if step.failure is not None:
            return True
        try:
            self._prepared.externs[node.name].result.validate_python(step.output)
        except ValidationError:  # its declared type has changed
            return False
        return True


class ReplayedRun(PartialRun):
    """As PartialRun of one record: its stubs answer too, what is named ``again`` does not, and no tool acts unasked."""

    def replay(self, record: Record, again: Collection[str], effects: EffectsPolicy) -> None:
        """To be called once, before the first call."""
        self.follow([record])
        self._run_id = record.trace.run_id
        self._again = again
        self._effects: EffectsPolicy = effects

    async def call(self, node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Any:
        if node.kind != "module" and self._known(node, key, inputs) is None:
            self._check(node, key)
        return await super().call(node, key, inputs)

    def _answers(self, step: Step, node: PlannedCall, inputs: Mapping[str, Any]) -> bool:
        if node.name in self._again:
            return False
        if step.kind == "stub":
            return step.name == node.name and step.inputs == inputs
        return super()._answers(step, node, inputs)

    def _check(self, node: PlannedCall, key: str) -> None:
        """Raises: ConfigError where a call must not be made."""
        if node.kind == "flow":
            raise ConfigError(
                f"A stub answered for flow `{node.name}` in run {self._run_id}, and its inputs at {key}"
                " are others now.",
                hint="run the program anew with the stub",
            )
        if self._effects == "refuse" and self._prepared.externs[node.name].spec.kind == "tool":
            raise ConfigError(
                f"Replay would have to call the tool `{node.name}` at {key}: the run has no record of this call.",
                hint="allow it with --allow-effects",
            )


def check_names(graph: Graph, names: Collection[str]) -> None:
    """Raises: ConfigError for a name that is no module and no extern."""
    known = {module.name for module in graph.modules} | {extern.name for extern in graph.externs}
    if unknown := sorted(set(names) - known):
        raise ConfigError(
            f"There is no module or extern `{unknown[0]}` to call again.", hint=f"there are: {', '.join(sorted(known))}"
        )


def _is_same(call: Call, engine: Engine, request: GenerateRequest) -> bool:
    """Whether the engine would be asked what it was asked then: equal requests have equal answers."""
    sampling = request.sampling
    served = (call.engine, call.model, call.adapter) == (engine.name, engine.model_id, request.adapter)
    sampled = call.temperature == sampling.temperature and (call.seed == sampling.seed or sampling.temperature == 0)
    held = call.constrained == (sampling.constraint is not None)
    count = len(call.completion_ids)
    ended = count == sampling.max_tokens if call.finish_reason == "length" else count <= sampling.max_tokens
    return served and sampled and held and ended and list(call.prompt_ids) == list(request.prompt_ids)
