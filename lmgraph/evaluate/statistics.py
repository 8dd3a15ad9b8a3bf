"""Intervals. A score without one is not reported."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(scores: Sequence[float], *, low: float = 0.0, high: float = 1.0) -> Interval:
    """Wilson's score interval where each score is one of the range's ends (Wilson 1927), else the percentile bootstrap
    with 2,000 resamples (Efron 1979), seeded so that equal scores give equal intervals. Raises: ValueError if empty."""
    if not scores:
        raise ValueError("an interval needs at least one score")
    if all(score in (low, high) for score in scores):
        share = sum(score == high for score in scores) / len(scores)
        bottom, top = wilson(share, len(scores))
        width = high - low
        return Interval(low + width * share, low + width * bottom, low + width * top)
    return bootstrap(scores)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a proportion seen ``count`` times."""
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def bootstrap(scores: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> Interval:
    rng = random.Random(seed)
    count = len(scores)
    means = sorted(sum(rng.choices(scores, k=count)) / count for _ in range(resamples))
    mean = sum(scores) / count
    return Interval(mean, means[int(0.025 * resamples)], means[int(0.975 * resamples) - 1])
