"""Calls grouped for comparison: what multi-module policy gradients compare.

A group holds calls of one example's rollouts. By default it is the calls at one CallKey: keys are fixed by the graph,
so groups do not depend on timing, and equal signatures of two modules do not collide.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from lmgraph.evaluate.rollout import Rollout
from lmgraph.runtime.trace import Call

Grouping = Literal["call", "paper", "trajectory"]
"""call: (example, CallKey). paper: (module, k-th invocation in the run), as in arXiv:2508.04660, algorithm 1.
trajectory: all calls of an example's runs together, each with its run's score (equation 9 there)."""

CUT_KINDS = ("engine", "budget")
"""Failures that say nothing of what the model wrote: no usable answer came, or the call was stopped."""


@dataclass(frozen=True, slots=True)
class GroupedCall:
    """One call in its group."""

    rollout: int
    """Index of the rollout of this example."""
    call: Call
    value: float
    """The return r_c: the format return where this call's own output failed, else the rollout's score."""


@dataclass(frozen=True, slots=True)
class CallGroup:
    example: str
    call_key: str
    """`Module[k]` where calls are grouped as the paper does; empty for a whole trajectory."""
    module: str
    """Empty for a whole trajectory, whose calls are of several modules."""
    members: tuple[GroupedCall, ...]
    rollout_scores: Mapping[int, float]
    """R_i of every rollout of the example, those that never reached this call included, by its index."""


def group_calls(rollouts: Sequence[Rollout], *, format_return: float, grouping: Grouping = "call") -> list[CallGroup]:
    """Group the calls of the rollouts, ragged groups as they are. What `masked_calls` names is in no group.

    A call gets ``format_return`` where it did not parse, broke an assert and was not asked again, or was cut at
    max_tokens; its siblings in the same run keep the run's score. A retry is a call of its own. Under `trajectory`
    every call has its run's score.
    """
    by_example: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if set_aside(rollout) is None:
            by_example.setdefault(rollout.example.id, []).append(rollout)
    groups: list[CallGroup] = []
    for example, runs in by_example.items():
        scores = {run.index: run.score.value for run in runs}
        found: dict[tuple[str, str], list[GroupedCall]] = {}
        for run in runs:
            keys = {call.call_key for call in run.trace.calls}
            for key, call in _keyed(run, grouping):
                failed = grouping != "trajectory" and _own_output_failed(call, keys)
                value = format_return if failed else run.score.value
                found.setdefault(key, []).append(GroupedCall(run.index, call, value))
        groups += [CallGroup(example, key, module, tuple(calls), scores) for (module, key), calls in found.items()]
    return groups


def masked_calls(rollouts: Sequence[Rollout]) -> dict[str, list[Call]]:
    """Calls that no optimizer may learn from, by reason: they are in no group and nobody's peers."""
    masked: dict[str, list[Call]] = {}
    for rollout in rollouts:
        reason = set_aside(rollout)
        for call in rollout.trace.calls:
            why = reason or ("the call was cut" if was_cut(call) else None)
            if why is not None:
                masked.setdefault(why, []).append(call)
        if rollout.trace.judged:
            masked.setdefault("judge", []).extend(rollout.trace.judged)
    return masked


def set_aside(rollout: Rollout) -> str | None:
    """Why the whole rollout is no evidence, or None: its run was stopped from outside, or its score means nothing.

    A prompt that grew too long for the model is evidence: other answers before it would have been shorter.
    """
    failure = rollout.trace.failure
    if failure is not None and failure.kind in CUT_KINDS:
        return "the run was cut" if failure.kind == "budget" else "the engine failed"
    if not math.isfinite(rollout.score.value) or rollout.score.failed:
        return "the score is not usable"
    return None


def was_cut(call: Call) -> bool:
    """Whether the call ended for a reason that its model has no part in: an abort, a deadline, a budget stop."""
    return call.finish_reason == "abort" or (call.failure is not None and call.failure.kind in CUT_KINDS)


def _keyed(run: Rollout, grouping: Grouping) -> Iterator[tuple[tuple[str, str], Call]]:
    """Every call that may be learned from with (module, key) of its group, in the order of the trace."""
    invocations: Counter[str] = Counter()
    for call in run.trace.calls:
        count = invocations[call.module]
        invocations[call.module] += 1
        if was_cut(call):
            continue
        match grouping:
            case "call":
                yield (call.module, call.call_key), call
            case "paper":
                yield (call.module, f"{call.module}[{count}]"), call
            case "trajectory":
                yield ("", ""), call


def _own_output_failed(call: Call, keys: AbstractSet[str]) -> bool:
    """``keys`` are those of all calls of the run."""
    if call.finish_reason == "length":
        return True
    if call.failure is None:
        return False
    if call.failure.kind == "assert":  # asked again, it may have been put right: only the last word counts
        return f"{_without_retry(call)}/retry[{call.retry + 1}]" not in keys
    return True


def _without_retry(call: Call) -> str:
    return call.call_key.removesuffix(f"/retry[{call.retry}]") if call.retry else call.call_key
