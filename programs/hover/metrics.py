"""Metrics of the hover program. Plain functions: no model, no state."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

PLANNER = "NextQuery"
"""The module that writes searches."""


def title_recall(gold: Any, pred: Any) -> float:
    """The share of the pages needed that are among the evidence, from 0 to 1. A row that needs none scores 1."""
    wanted = {_title(title) for title in gold.titles}
    found = {_title(passage["title"]) for passage in pred.evidence}
    return len(wanted & found) / len(wanted) if wanted else 1.0


def fresh_queries(gold: Any, pred: Any) -> float:
    """The share of the model's searches that repeat neither the question nor one before, from 0 to 1.

    ``pred`` is the trace. Case, order of words and punctuation do not make a search new. Without searches: 1.
    """
    seen = {_words(gold.question)}
    total = fresh = 0
    for call in pred.calls:
        if call.module != PLANNER or call.outputs is None:
            continue
        words = _words(str(call.outputs["query"]))
        total += 1
        fresh += words not in seen
        seen.add(words)
    return fresh / total if total else 1.0


def _title(title: str) -> str:
    return " ".join(unicodedata.normalize("NFC", title).split())


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", unicodedata.normalize("NFC", text).casefold()))
