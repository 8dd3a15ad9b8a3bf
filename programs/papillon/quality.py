"""How close a reply is to the reference, without a model."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(f"[{_SPACELESS}]|(?:(?![{_SPACELESS}])[^\\W_])+")
"""A word; in scripts that write no spaces, a sign."""

MOST_WORDS = 600
"""What is compared of each text: the time grows with the product of both lengths."""


def overlap(gold: Any, pred: Any) -> float:
    """ROUGE-L of the reply against the reference, from 0 to 1.

    The longest common subsequence of words: precision says how much of the reply is in the reference, recall how much
    of the reference is in the reply, and the score is their harmonic mean. Two empty texts are equal.
    """
    wanted, given = words(gold.reference), words(pred.reply)
    if not wanted and not given:
        return 1.0
    common = longest_common(wanted, given)
    return 2 * common / (len(wanted) + len(given))


def words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())[:MOST_WORDS]


def longest_common(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0  # the row above, one place to the left
        for place, candidate in enumerate(other, 1):
            above = row[place]
            row[place] = before + 1 if word == candidate else max(above, row[place - 1])
            before = above
    return row[-1]
