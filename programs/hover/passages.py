"""What the flow does with passages besides finding them."""

from __future__ import annotations

import unicodedata
from typing import Any


def unique(passages: list[dict[str, Any]], seen: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The first ``most`` passages whose titles are not among ``seen``, each title once, in their order."""
    titles = {_key(passage["title"]) for passage in seen}
    fresh: list[dict[str, Any]] = []
    for passage in passages:
        key = _key(passage["title"])
        if key not in titles and len(fresh) < most:
            titles.add(key)
            fresh.append(passage)
    return fresh


def _key(title: str) -> str:
    """Two ways to write the same letters count as one; case counts, as it does in Wikipedia."""
    return " ".join(unicodedata.normalize("NFC", title).split())
