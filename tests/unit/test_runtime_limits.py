"""Budgets: how they are written, and that they stop."""

from __future__ import annotations

import pytest

from lmgraph.errors import BudgetExhausted, ConfigError
from lmgraph.runtime import Budget, Meter
from lmgraph.runtime.seeds import derive_seed


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("calls=10", Budget(calls=10)),
        ("calls=2000, tokens=1e6", Budget(2000, 1_000_000)),
        ("minutes=1.5", Budget(seconds=90.0)),
        ("hours=1,minutes=1,seconds=1", Budget(seconds=3661.0)),
        ("calls=0", Budget(calls=0)),
    ],
)
def test_budgets_are_read(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize("text", ["", "calls", "calls=", "calls=x", "calls=-1", "dollars=3", "calls=nan", "calls=inf"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="budget"):
        Budget.parse(text)


def test_calls_under_way_count() -> None:
    meter = Meter(Budget(calls=2))
    meter.admit()
    meter.admit()
    with pytest.raises(BudgetExhausted, match="2 calls"):
        meter.admit()
    meter.count(5)
    with pytest.raises(BudgetExhausted):
        meter.admit()
    assert (meter.calls, meter.tokens) == (1, 5)


def test_tokens_and_seconds_stop_between_calls() -> None:
    now = [0.0]
    meter = Meter(Budget(tokens=10, seconds=60.0), clock=lambda: now[0])
    meter.admit()
    meter.count(9)
    meter.admit()
    meter.count(9)
    with pytest.raises(BudgetExhausted, match="tokens"):
        meter.admit()
    other = Meter(Budget(seconds=60.0), seconds=50.0, clock=lambda: now[0])
    other.check()
    now[0] = 11.0
    with pytest.raises(BudgetExhausted, match="60 seconds"):
        other.check()


def test_what_was_spent_before_counts() -> None:
    with pytest.raises(BudgetExhausted):
        Meter(Budget(calls=5), calls=5).admit()


def test_seeds_do_not_collide_by_joining() -> None:
    seeds = {derive_seed("a", "bc"), derive_seed("ab", "c"), derive_seed("abc"), derive_seed("a", "b", "c")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "x") == derive_seed(1, "x")
    derive_seed("\ud800")
