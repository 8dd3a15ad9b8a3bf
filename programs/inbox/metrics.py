"""Metrics of every.lmg. Plain functions: no model, no state."""

from __future__ import annotations

from typing import Any


def share_right(gold: Any, pred: Any) -> float:
    """The share of messages with the right team, or rightly with none, from 0 to 1."""
    right = sum(wanted == got for wanted, got in zip(gold.teams, pred.teams, strict=True))
    return right / len(gold.teams)
