"""Metrics of the extract program. Plain functions: no model, no state."""

from __future__ import annotations

from typing import Any

RATING_FIELDS = ("value", "best", "unit")


def details_right(gold: Any, pred: Any) -> float:
    """The share of the details of this kind of request that are right, from 0 to 1.

    A rating has three: value, best value and unit. A table has one, the number of people, which may be null. Any other
    request has none, and scores 1. A request taken for another kind scores 0: its details were not read.
    """
    if pred.kind != gold.kind:
        return 0.0
    if gold.kind == "rate":
        if gold.rating is None or pred.rating is None:
            return float(gold.rating is pred.rating)
        right = [name for name in RATING_FIELDS if gold.rating[name] == pred.rating[name]]
        return len(right) / len(RATING_FIELDS)
    if gold.kind == "book":
        return float(gold.people == pred.people)
    return 1.0
