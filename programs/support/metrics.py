"""Metrics of the support program. Plain functions: no model, no state."""

from __future__ import annotations

from typing import Any


def share_right(gold: Any, pred: Any) -> float:
    """The share of messages whose intent is right, from 0 to 1.

    Intents are compared place by place. A missing one counts as wrong; so does one too many.
    """
    places = max(len(gold.intents), len(pred.intents))
    if places == 0:
        return 1.0
    right = sum(wanted == got for wanted, got in zip(gold.intents, pred.intents, strict=False))
    return right / places
