"""What becomes of groups that lack calls of some rollouts, and of groups that are larger than wanted.

mask leaves them as they are. truncate and fill are those of Ziems et al. (arXiv:2508.04660, appendix A), as
`dspy.GRPO` has them: per example and module, truncate keeps the groups that every rollout reached; fill gives a rollout
with fewer calls of the module than others copies of its own calls, drawn with replacement. Under both, a rollout with
no call of the module at all takes the module away from the whole example: there is nothing to copy.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from lmgraph.optimize import GroupedCall

Ragged = Literal["mask", "truncate", "fill"]
Group: TypeAlias = tuple[str, list[GroupedCall], Mapping[int, float], str]
"""Example, members, scores of the example's rollouts, module."""


def even_out(groups: Sequence[Group], ragged: Ragged, rng: random.Random) -> list[Group]:
    """``groups`` so that each has a call of every rollout, or as they are under `mask`."""
    if ragged == "mask":
        return list(groups)
    by_module: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in groups:
        by_module[group[0], group[3]].append(group)
    evened: list[Group] = []
    for (example, module), mine in by_module.items():
        scores = mine[0][2]
        calls: dict[int, list[GroupedCall]] = {rollout: [] for rollout in scores}
        for _, members, _, _ in mine:
            for member in members:
                calls[member.rollout].append(member)
        if not all(calls.values()):
            continue
        for _, members, _, _ in mine:
            present = {member.rollout for member in members}
            missing = [rollout for rollout in calls if rollout not in present]
            if missing and ragged == "truncate":
                continue
            copies = [rng.choice(calls[rollout]) for rollout in missing]
            evened.append((example, [*members, *copies], scores, module))
    return evened


def select(members: Sequence[GroupedCall], size: int) -> list[GroupedCall]:
    """k-diverse: ``size`` members at even steps through their returns, highest first; repeats where there are fewer.

    Of many returns it keeps the extremes and what lies evenly between them.
    """
    ordered = sorted(members, key=lambda member: -member.value)
    last = len(ordered) - 1
    if size == 1:
        return ordered[:1]
    return [ordered[round(step * last / (size - 1))] for step in range(size)]
