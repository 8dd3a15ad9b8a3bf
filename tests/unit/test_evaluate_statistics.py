"""Intervals against published and independently computed values."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys

import pytest

from lmgraph.errors import ConfigError
from lmgraph.evaluate.statistics import bootstrap, mean_interval, wilson
from lmgraph.evaluate.statistics_paired import compare, doubt, over_seeds


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


@pytest.mark.parametrize(("better", "worse"), [(0, 5), (8, 2), (10, 1), (3, 3), (25, 10)])
def test_right_and_wrong_answers_get_mcnemars_exact_test(better: int, worse: int) -> None:
    """Against the binomial sum itself."""
    scores = [1.0] * better + [0.0] * worse + [1.0, 0.0] * 10
    others = [0.0] * better + [1.0] * worse + [1.0, 0.0] * 10
    found = compare(scores, others)
    count = better + worse
    tail = sum(math.comb(count, k) for k in range(max(better, worse), count + 1)) / 2**count
    assert found.test == "McNemar, exact"
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert (found.better, found.worse, found.rows) == (better, worse, count + 20)
    assert found.difference == pytest.approx((better - worse) / (count + 20))


def test_mcnemar_of_the_literature() -> None:
    """Agresti, Categorical Data Analysis (2002), table 10.1: 150 and 86 of 1600 change their minds, z = 4.17."""
    scores = [1.0] * 150 + [0.0] * 86 + [0.0] * 1364
    others = [0.0] * 150 + [1.0] * 86 + [0.0] * 1364
    found = compare(scores, others)
    assert found.p < 1e-4
    assert found.difference == pytest.approx(64 / 1600)
    assert found.low < 64 / 1600 < found.high
    # His Wald interval of the difference of dependent proportions, with the same formula on these counts.
    error = math.sqrt((150 + 86) - (150 - 86) ** 2 / 1600) / 1600
    assert found.low == pytest.approx(0.04 - 1.96 * error, abs=0.002)
    assert found.high == pytest.approx(0.04 + 1.96 * error, abs=0.002)


def test_other_scores_get_the_permutation_test() -> None:
    """Against all 2^8 flips of signs, counted one by one."""
    differences = [0.3, -0.1, 0.25, 0.4, 0.05, -0.2, 0.15, 0.35]
    found = compare(differences, [0.0] * 8)
    total = abs(sum(differences))
    flips = list(itertools.product((1, -1), repeat=8))
    extreme = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= total - 1e-12 for signs in flips)
    assert found.test == "permutation of signs"
    assert found.p == pytest.approx(extreme / len(flips))
    assert found.low < found.difference < found.high


def test_equal_scores_one_size_and_too_few_rows() -> None:
    same = compare([0.2, 0.7], [0.2, 0.7])
    assert (same.difference, same.p, same.rows_needed) == (0.0, 1.0, None)
    assert doubt(same) is None
    all_better = compare([1.0] * 3, [0.0] * 3)
    assert (all_better.low, all_better.high, all_better.p) == (1.0, 1.0, 0.25)
    two = compare([0.1, 0.5], [0.3, 0.4])
    assert math.isfinite(two.low)
    assert two.low <= two.difference <= two.high
    json.dumps(two.to_data(), allow_nan=False)
    for scores, others in (([1.0], [0.0]), ([1.0, 0.0], [1.0])):
        with pytest.raises(ValueError, match="at least two rows"):
            compare(scores, others)


def test_comparisons_repeat() -> None:
    rng = random.Random(2)
    scores, others = [[rng.random() for _ in range(40)] for _ in range(2)]
    assert compare(scores, others) == compare(scores, others)


def test_small_gains_on_few_rows_are_doubted() -> None:
    few = compare([1.0, 1.0, 0.0] + [0.0] * 27, [0.0, 0.0, 1.0] + [0.0] * 27)
    said = doubt(few)
    assert said is not None
    assert "The gain of 0.033 on 30 rows may be chance (p = 1.00)" in said
    assert few.rows_needed is not None
    # Lehr's rule (1992) for paired data: n is about 8 s^2 / d^2.
    assert few.rows_needed == pytest.approx(7.85 * few.deviation**2 / few.difference**2, rel=0.01)
    many = compare([1.0] * 40 + [0.0] * 60, [0.0] * 100)
    assert doubt(many) is None
    assert doubt(compare([0.0] * 10, [1.0] * 10)) is None


def test_seeds_get_students_interval() -> None:
    found = over_seeds([0.50, 0.60, 0.70])
    # t(0.975, 2) = 4.3027, s = 0.1
    assert (found.mean, found.low, found.high) == pytest.approx((0.6, 0.6 - 0.24842, 0.6 + 0.24842), abs=1e-4)
    assert over_seeds([0.5]).high == math.inf
    with pytest.raises(ValueError, match="at least one"):
        over_seeds([])


def test_without_scipy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ConfigError, match="need scipy") as caught:
        compare([1.0, 0.0], [0.0, 0.0])
    assert "lmgraph[optimize]" in str(caught.value.hint)
