"""Advantages: how much better a call did than its peers.

Leave one out (Kool et al., 2019; Ahmadian et al., arXiv:2402.14740, equation 8) is unbiased. The mean of the whole
group, divided by its standard deviation, is GRPO's (Shao et al., arXiv:2402.03300, section 4.1.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lmgraph.optimize import GroupedCall
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig

EPSILON = 1e-4
"""Added to a group's standard deviation before dividing by it."""
MODULE_SCALE_FLOOR = 0.1
"""Least running standard deviation of a module: a module that hardly varies must not have its noise blown up."""
MEMORY = 0.9
"""Share that a module's running mean square keeps each step."""


class RunningScale:
    """The running standard deviation of each module's advantages; its state is part of a checkpoint."""

    def __init__(self, state: Mapping[str, float] | None = None) -> None:
        self._squares: dict[str, float] = dict(state or {})
        self._step: dict[str, list[float]] = {}

    @property
    def state(self) -> dict[str, float]:
        return dict(self._squares)

    def divisor(self, module: str, advantages: Sequence[float]) -> float:
        """What to divide these by: from steps before, or from themselves in a module's first step."""
        self._step.setdefault(module, []).extend(advantage**2 for advantage in advantages)
        square = self._squares.get(module)
        if square is None:
            square = sum(self._step[module]) / len(self._step[module])
        return max(math.sqrt(square), MODULE_SCALE_FLOOR)

    def close_step(self) -> None:
        """Take the step's advantages into the running means."""
        for module, squares in self._step.items():
            now = sum(squares) / len(squares)
            before = self._squares.get(module, now)
            self._squares[module] = MEMORY * before + (1 - MEMORY) * now
        self._step.clear()


def group_advantages(
    members: Sequence[GroupedCall],
    rollout_scores: Mapping[int, float],
    config: MmgrpoConfig,
    scale: RunningScale,
    *,
    module: str,
) -> list[float]:
    """One advantage a member. ``module`` is empty for a whole trajectory, which is compared by rollout."""
    trajectory = config.grouping == "trajectory"
    advantage = leave_one_out if config.baseline == "leave_one_out" else self_inclusive
    peers = [] if trajectory else members
    advantages = [advantage(member, peers, rollout_scores) for member in members]
    if not any(advantages) or config.scale == "none":
        return advantages
    if config.scale == "module":
        divisor = scale.divisor(module or "trajectory", advantages)
    else:
        compared = rollout_scores.values() if trajectory or len(members) == 1 else [member.value for member in members]
        divisor = _deviation(list(compared)) + EPSILON
    return [value / divisor for value in advantages]


def leave_one_out(member: GroupedCall, peers: Sequence[GroupedCall], rollout_scores: Mapping[int, float]) -> float:
    """A_c = r_c - mean of r over the other rollouts' calls at this key; where no other rollout reached it, over the
    other rollouts' scores. Without other rollouts there is no baseline, and nothing to learn: 0."""
    others = [peer.value for peer in peers if peer.rollout != member.rollout]
    if not others:
        others = [score for rollout, score in rollout_scores.items() if rollout != member.rollout]
    return _against(member.value, others)


def self_inclusive(member: GroupedCall, peers: Sequence[GroupedCall], rollout_scores: Mapping[int, float]) -> float:
    """A_c = r_c - mean of r over the whole group, itself included; over all rollouts' scores where it is alone."""
    compared = [peer.value for peer in peers]
    if len({peer.rollout for peer in peers}) < 2:
        compared = [member.value, *(score for rollout, score in rollout_scores.items() if rollout != member.rollout)]
    return _against(member.value, compared) if len(compared) > 1 else 0.0


def _against(value: float, compared: Sequence[float]) -> float:
    if not compared or min(compared) == max(compared) == value:  # equal is exactly 0, whatever rounding would say
        return 0.0
    return value - math.fsum(compared) / len(compared)


def _deviation(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
