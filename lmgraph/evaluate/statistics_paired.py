"""Two programs on the same rows: is the difference more than chance? And scores of several seeds.

Pairs take out what makes a row hard for both, so they see smaller differences than two intervals side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.evaluate.statistics import Interval

RESAMPLES = 9999
LEVEL = 0.05
"""p-values below this are called more than chance."""
Z_POWER = 1.959963984540054 + 0.8416212335729143
"""Normal quantiles of a two-sided test at 5 % and of 80 % power."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One program's scores less another's, row by row."""

    rows: int
    difference: float
    """Mean of the differences, in the objective's units."""
    low: float
    high: float
    """Its 95 % interval: bootstrap, bias-corrected and accelerated (Efron 1987)."""
    p: float
    """Two-sided: how often chance alone gives a difference as large."""
    test: str
    better: int
    """Rows on which the first scores higher."""
    worse: int
    deviation: float
    """Standard deviation of the differences."""

    @property
    def is_clear(self) -> bool:
        return self.p < LEVEL

    @property
    def detectable(self) -> float:
        """The smallest difference that this many rows show in four of five cases (two-sided at 5 %, power 80 %)."""
        return Z_POWER * self.deviation / math.sqrt(self.rows)

    @property
    def rows_needed(self) -> int | None:
        """How many rows it takes to show a difference of this size in four of five cases; None for no difference."""
        if self.difference == 0:
            return None
        return max(2, math.ceil((Z_POWER * self.deviation / self.difference) ** 2))

    def to_data(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def compare(scores: Sequence[float], others: Sequence[float], *, seed: int = 0) -> Comparison:
    """``scores`` less ``others``, whose rows are the same in the same order; equal scores give equal results.

    The test is McNemar's in its exact form (McNemar 1947: the sign test on the rows that differ) where all differences
    are of one size, else a permutation test of the mean by flipped signs (Fisher 1935), exact for few rows.
    Raises: ValueError for fewer than two rows or different counts; ConfigError where scipy is not installed.
    """
    if len(scores) != len(others) or len(scores) < 2:
        raise ValueError(f"two scores of at least two rows each are needed, got {len(scores)} and {len(others)}")
    stats, numpy = _libraries()
    differences = [one - other for one, other in zip(scores, others, strict=True)]
    mean = math.fsum(differences) / len(differences)
    better, worse = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    sizes = {round(abs(value), 9) for value in differences if value}
    if not sizes:
        return Comparison(len(differences), 0.0, 0.0, 0.0, 1.0, "none: no row differs", 0, 0, 0.0)
    values = numpy.asarray(differences)
    deviation = float(numpy.std(values, ddof=1))
    if len(sizes) == 1:
        p, test = float(stats.binomtest(better, better + worse).pvalue), "McNemar, exact"
    else:
        found = stats.permutation_test(
            (values,), numpy.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=seed
        )
        p, test = float(found.pvalue), "permutation of signs"
    low, high = (mean, mean) if deviation == 0 else _interval(stats, numpy, values, seed)
    return Comparison(len(differences), mean, low, high, p, test, better, worse, deviation)


def doubt(comparison: Comparison) -> str | None:
    """A sentence where a gain is claimed that so few rows do not show; None where there is no gain, or it is clear."""
    if comparison.difference <= 0 or comparison.is_clear:
        return None
    return (
        f"The gain of {comparison.difference:.3f} on {comparison.rows} rows may be chance (p = {comparison.p:.2f}):"
        f" these rows show gains from about {comparison.detectable:.2f} on, and one of this size needs about"
        f" {comparison.rows_needed:,} rows."
    )


def over_seeds(scores: Sequence[float]) -> Interval:
    """The mean of one score a seed, with Student's 95 % interval; as wide as the line for a single seed.

    Raises: ValueError if empty; ConfigError where scipy is not installed.
    """
    if not scores:
        raise ValueError("an interval needs at least one score")
    mean = math.fsum(scores) / len(scores)
    if len(scores) == 1:
        return Interval(mean, -math.inf, math.inf)
    stats, numpy = _libraries()
    half = float(stats.t.ppf(0.975, len(scores) - 1) * numpy.std(scores, ddof=1) / math.sqrt(len(scores)))
    return Interval(mean, mean - half, mean + half)


def _interval(stats: ModuleType, numpy: ModuleType, values: Any, seed: int) -> tuple[float, float]:
    """BCa, or the percentiles where its acceleration is not defined."""
    low = high = math.nan
    for method in ("BCa", "percentile"):
        with numpy.errstate(all="ignore"):
            found = stats.bootstrap((values,), numpy.mean, n_resamples=RESAMPLES, method=method, rng=seed)
        low, high = (float(bound) for bound in found.confidence_interval)
        if math.isfinite(low) and math.isfinite(high):
            break
    return low, high


def _libraries() -> tuple[ModuleType, ModuleType]:
    """scipy.stats and numpy, imported when they are first needed: they take a second. Raises: ConfigError."""
    try:
        import numpy
        from scipy import stats
    except ImportError as error:
        raise ConfigError(
            f"Paired tests need scipy, which does not import: {error}.", hint='pip install "lmgraph[optimize]"'
        ) from error
    return stats, numpy
