"""A run from its inputs to its trace: begun, carried out, and what came of it written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from lmgraph.runtime.execute import CallFunction, execute
from lmgraph.runtime.prepare import Prepared
from lmgraph.runtime.run import RunOptions, new_run_id
from lmgraph.runtime.seeds import Seeds
from lmgraph.runtime.trace import CheckRecord, Failure, RunSettings, Trace


def begun(prepared: Prepared, values: Mapping[str, Any], options: RunOptions) -> Trace:
    settings = RunSettings(options.decoding, options.temperature, options.seed, options.place)
    name, identity = prepared.plan.name, options.identity
    return Trace(new_run_id(), prepared.program_hash, name, identity, values, started=time.time(), settings=settings)


async def carry_out(prepared: Prepared, trace: Trace, call: CallFunction, *, one_at_a_time: bool = False) -> None:
    """Run the flow on the trace's inputs; what came out is in the trace."""
    began = time.perf_counter()
    result = await run_flow(prepared, trace.inputs, call, trace.checks.append, one_at_a_time=one_at_a_time)
    trace.seconds = time.perf_counter() - began
    trace.sort()
    if isinstance(result, Failure):
        trace.failure = result
    else:
        trace.outputs = result


async def run_flow(
    prepared: Prepared,
    values: Mapping[str, Any],
    call: CallFunction,
    checked: Callable[[CheckRecord], None],
    *,
    one_at_a_time: bool = False,
) -> dict[str, Any] | Failure:
    prepared.running += 1
    try:
        return await execute(prepared.plan, values, call, checked, one_at_a_time=one_at_a_time)
    finally:
        prepared.running -= 1


def seeds_of(options: RunOptions) -> Seeds:
    place = options.identity
    return Seeds(options.seed, place.study, place.phase, place.step, place.example, place.rollout)
