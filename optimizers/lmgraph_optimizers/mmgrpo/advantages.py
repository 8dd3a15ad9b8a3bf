"""From groups of calls to training samples: leave-one-out advantages, ragged groups as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lmgraph.optimize import CallGroup, GroupedCall
from lmgraph.runtime import Call


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One call to learn from. ``call`` is the sampler's own record: its ids and logprobs are what is trained on."""

    call: Call
    advantage: float


@dataclass(frozen=True, slots=True)
class Batch:
    """One optimizer step's samples, those with a zero advantage left out."""

    samples: list[TrainingSample]
    tokens: int
    """N of the loss: completion tokens of every call in a group that trains, zero advantages included."""
    groups: int
    trained_groups: int
    trained_examples: frozenset[str]
    """Rows that have a group that trains."""
    dropped: dict[str, int]
    """Sampled tokens that do not train, by reason."""


def make_batch(groups: Sequence[CallGroup], modules: Collection[str]) -> Batch:
    """Advantages of every group; what cannot teach anything is dropped and counted under its reason."""
    samples: list[TrainingSample] = []
    dropped: Counter[str] = Counter()
    examples: set[str] = set()
    tokens = trained = 0
    for group in groups:
        calls = [member for member in group.members if _trains(member.call)]
        dropped["constrained"] += _tokens(group.members) - _tokens(calls)
        if group.module not in modules:
            dropped["module not trained"] += _tokens(calls)
            continue
        advantages = [leave_one_out(member, calls, group.rollout_scores) for member in calls]
        if not any(advantages):
            dropped["no variance"] += _tokens(calls)
            continue
        trained += 1
        examples.add(group.example)
        tokens += _tokens(calls)
        for member, advantage in zip(calls, advantages, strict=True):
            if advantage != 0.0:
                samples.append(TrainingSample(member.call, advantage))
            else:
                dropped["zero advantage"] += len(member.call.completion_ids)
    kept = {reason: count for reason, count in dropped.items() if count}
    return Batch(samples, tokens, len(groups), trained, frozenset(examples), kept)


def leave_one_out(member: GroupedCall, peers: Sequence[GroupedCall], rollout_scores: Sequence[float]) -> float:
    """A_c = r_c - mean of r over the other rollouts' calls at this key; where no other rollout reached it, over the
    other rollouts' scores. Without other rollouts there is no baseline, and nothing to learn: 0."""
    others = [peer.value for peer in peers if peer.rollout != member.rollout]
    if not others:
        others = [score for index, score in enumerate(rollout_scores) if index != member.rollout]
    if not others or (min(others) == max(others) == member.value):
        return 0.0
    return member.value - sum(others) / len(others)


def _trains(call: Call) -> bool:
    """The trainer's probabilities must be over the tokens the sampler could choose: no grammar mask."""
    return not call.constrained and len(call.completion_ids) > 0


def _tokens(members: Sequence[GroupedCall]) -> int:
    return sum(len(member.call.completion_ids) for member in members)
