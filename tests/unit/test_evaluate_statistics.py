"""Intervals against published and independently computed values."""

from __future__ import annotations

import random

import pytest

from lmgraph.evaluate.statistics import bootstrap, mean_interval, wilson


@pytest.mark.parametrize(
    ("passed", "count", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (Wilson's score, no continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(passed: int, count: int, low: float, high: float) -> None:
    found = wilson(passed / count, count)
    assert found == pytest.approx((low, high), abs=6e-5)


def test_wilson_holds_the_share_and_stays_in_range() -> None:
    for count in (1, 2, 7, 100):
        for passed in range(count + 1):
            low, high = wilson(passed / count, count)
            assert 0 <= low <= passed / count <= high <= 1


def test_scores_at_the_ends_of_another_range_are_scaled() -> None:
    interval = mean_interval([-1.0, 1.0, 1.0, 1.0], low=-1.0, high=1.0)
    low, high = wilson(0.75, 4)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 2 * low - 1, 2 * high - 1))


def test_other_scores_are_bootstrapped_with_the_right_width() -> None:
    rng = random.Random(1)
    scores = [rng.gauss(0.5, 0.1) for _ in range(400)]
    interval = mean_interval(scores)
    mean = sum(scores) / len(scores)
    deviation = (sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) ** 0.5
    half = 1.96 * deviation / len(scores) ** 0.5
    assert interval.mean == pytest.approx(mean)
    assert interval.low == pytest.approx(mean - half, abs=0.15 * half)
    assert interval.high == pytest.approx(mean + half, abs=0.15 * half)


def test_the_bootstrap_is_the_same_each_time() -> None:
    scores = [0.1, 0.5, 0.7, 0.9]
    assert bootstrap(scores) == bootstrap(scores)


def test_one_score_and_none() -> None:
    assert mean_interval([0.4]).low == mean_interval([0.4]).high == 0.4
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])
