"""Calls grouped by node: what multi-module policy gradients compare.

A group holds the calls that one example's rollouts made at one CallKey. Keys are fixed by the graph, so groups do not
depend on timing, and equal signatures of two modules do not collide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmgraph.evaluate.rollout import Rollout
from lmgraph.runtime.trace import Call


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
    module: str
    members: tuple[GroupedCall, ...]
    rollout_scores: tuple[float, ...]
    """R_i of every rollout of the example, those that never reached this call included; ``rollout`` indexes it."""


def group_calls(rollouts: Sequence[Rollout], *, format_return: float) -> list[CallGroup]:
    """Group every call of the rollouts by (example, CallKey), ragged groups as they are.

    A call that did not parse, or was cut at max_tokens, gets ``format_return``; its siblings in the same run keep the
    run's score.
    """
    by_example: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_example.setdefault(rollout.example.id, []).append(rollout)
    groups = []
    for example, runs in by_example.items():
        scores = tuple(run.score.value for run in runs)
        members: dict[str, list[GroupedCall]] = {}
        for index, run in enumerate(runs):
            for call in run.trace.calls:
                failed = call.failure is not None or call.finish_reason == "length"
                value = format_return if failed else run.score.value
                members.setdefault(call.call_key, []).append(GroupedCall(index, call, value))
        groups += [
            CallGroup(example, key, calls[0].call.module, tuple(calls), scores) for key, calls in members.items()
        ]
    return groups
