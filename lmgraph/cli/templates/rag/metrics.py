"""Metrics that program.lmg names. Each gets a row and what the flow gave back; both have attributes."""

import re
from collections import Counter
from typing import Any


def shared_words(gold: Any, pred: Any) -> float:
    """How well the answer's words agree with the right answer's, from 0 to 1 (F1 over words)."""
    expected, given = _words(gold.answer), _words(pred.answer)
    common = sum((Counter(expected) & Counter(given)).values())
    return 2 * common / (len(expected) + len(given)) if common else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
