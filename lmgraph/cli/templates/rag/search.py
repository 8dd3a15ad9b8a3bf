"""Finds pages of the handbook by the words that they share with a search. Pure Python, no index to build."""

import math
import re
from functools import cache
from pathlib import Path

HANDBOOK = Path(__file__).with_name("data") / "handbook.txt"


def find(words: str, k: int = 2) -> list[dict[str, str]]:
    """The k pages that share most words with the search, rare words counting more; pages that share none are left out.

    A record, such as Page, is a dict.
    """
    wanted = set(_words(words))
    ranked = sorted(_pages(), key=lambda page: -_score(page, wanted))
    return [page for page in ranked if _score(page, wanted) > 0][:k]


@cache
def _pages() -> list[dict[str, str]]:
    """A page is a title line and the lines below it; an empty line ends it."""
    blocks = HANDBOOK.read_text(encoding="utf-8").strip().split("\n\n")
    parts = [block.partition("\n") for block in blocks]
    return [{"title": title.strip(), "text": " ".join(text.split())} for title, _, text in parts]


@cache
def _weights() -> dict[str, float]:
    """How much each word of the handbook says: rare ones more."""
    sets = [set(_words(page["title"] + " " + page["text"])) for page in _pages()]
    return {word: math.log(1 + len(sets) / sum(word in one for one in sets)) for word in set().union(*sets)}


def _score(page: dict[str, str], wanted: set[str]) -> float:
    title, text = set(_words(page["title"])), set(_words(page["text"]))
    return sum(_weights()[word] * (2 if word in title else 1) for word in wanted & (title | text))


def _words(text: str) -> list[str]:
    """Words of three letters or more, in lower case, without a plural s."""
    return [word.rstrip("s") for word in re.findall(r"[a-z0-9]{3,}", text.lower()) if word not in _COMMON]


_COMMON = {"the", "and", "are", "can", "does", "for", "from", "has", "have", "how", "may", "not", "one", "what", "when"}
_COMMON |= {"where", "which", "who", "with", "you", "your"}
