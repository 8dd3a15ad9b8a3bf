"""What may not leave: what looks private in a text, whether it appears in another text, and how it is struck out.

Texts are compared word by word. Case, accents, punctuation, spaces, line breaks and invisible characters do not count,
and a unit is found as whole words only: `Ali` is not in `alias`. Scripts without spaces are compared sign by sign.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

STRUCK = "[private]"
"""Stands where something was struck out."""

SHORTEST = 2
"""Letters and digits a unit must have. A single letter identifies nobody and would be found everywhere."""

UNTRUSTED = "Consult"
"""The module whose calls leave the house."""

_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese; and Korean, whose endings follow a name without a space."""

_MARKED = re.compile(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # a mail address
    r"|\b(?:https?://|www\.)[^\s<>\"')\]]+"
    r"|\+?\d[\d ().:/-]{2,}\d"  # a date, a time, a number of a phone, an account or a house
    r"|[$€£¥]\s?\d[\d.,]*"
    r"|\b(?=\w*\d)(?=\w*[^\W\d_])\w{4,}\b"  # letters and digits mixed, as in a reference number
)
_WORD = re.compile(r"(?<![^\W_])(?:[^\W\d_]\.|[^\W\d_][\w'’-]*)")
"""An initial with its point, or a word."""
_SENTENCE = re.compile(r"[.!?:;\n\"“”(\[•*|/]|\s-")
"""Between two words: the second one begins something and is capitalised for that."""
_PLAIN_WORDS = """
a an the i i'm i'd i've i'll my me we our you your he she it its they their this that these those there here
what who when where why how which can could would will shall should may might must do does did is are was were am
be been have has had not no yes and or but if then so as at by for from in into of on to with about after before
please write make give help tell explain create generate rewrite improve summarize translate dear hello hi thanks
thank regards sincerely sir madam mr mrs ms dr prof subject re ok okay
english monday tuesday wednesday thursday friday saturday sunday
"""
_PLAIN = frozenset(_PLAIN_WORDS.split())
"""Words that are capitalised for where they stand, or that say nothing about anybody."""


class Word(NamedTuple):
    folded: str
    start: int
    end: int


def mentions(text: str, units: list[str]) -> list[str]:
    """The units that appear in the text, in their order, each once."""
    words = _folded(text)
    found: dict[tuple[str, ...], str] = {}
    for unit, key in _keys(units):
        if key not in found and _places(words, key):
            found[key] = unit
    return list(found.values())


def redact(text: str, units: list[str]) -> str:
    """The text with every unit in it struck out. Without any it comes back as it is."""
    spans: list[tuple[int, int]] = []
    normal = unicodedata.normalize("NFC", text)
    words = _words(normal)
    folded = tuple(word.folded for word in words)
    for _, key in _keys(units):
        spans += [(words[place].start, words[place + len(key) - 1].end) for place in _places(folded, key)]
    if not spans:
        return text
    pieces, done = [], 0
    for start, end in sorted(spans):
        if start >= done:
            pieces += [normal[done:start], STRUCK]
        done = max(done, end)
    return "".join([*pieces, normal[done:]])


def suspects(text: str) -> list[str]:
    """What in a text looks like a name, an address, a date or a number that points to somebody, each once.

    A rule, no model: it cannot be talked out of it. It finds too much rather than too little, and it does not find a
    name that is written small, nor one in a script without capital letters.
    """
    found = [match.group().strip() for match in _MARKED.finditer(text)] + _names(text)
    unique: dict[tuple[str, ...], str] = {}
    for unit, key in _keys(found):
        unique.setdefault(key, unit)
    return list(unique.values())


def leakage(gold: Any, pred: Any) -> float:
    """The share of the row's private units that were sent to the untrusted model, from 0 to 1; 0 where there are none.

    ``pred`` is the trace: what counts is what was sent, retries included, not what a step meant to send.
    """
    sent = [text for call in pred.calls if call.module == UNTRUSTED for text in _texts(dict(call.inputs))]
    units = {key: unit for unit, key in _keys(gold.pii)}
    leaked = [unit for unit in units.values() if any(mentions(text, [unit]) for text in sent)]
    return len(leaked) / len(units) if units else 0.0


def _names(text: str) -> list[str]:
    """Words with a capital letter, those that stand together as one.

    A single word that begins a sentence is left out: its capital says nothing. So are the words of _PLAIN.
    """
    names: list[str] = []
    group: list[str] = []
    by_place = False
    end = 0
    for match in [*_WORD.finditer(text), None]:
        gap = text[end : match.start()] if match else "\n"
        word = re.sub(r"['’](?:s|S)$", "", match.group()) if match else ""
        named = any(char.isupper() for char in word) and word.casefold() not in _PLAIN
        if not named or gap.strip(" \t") or "\n" in gap:
            if group and not (by_place and len(group) == 1):
                names.append(" ".join(group))
            group = []
        if named:
            if not group:
                starts = end == 0 or _SENTENCE.search(gap) is not None
                by_place = starts and not any(char.isupper() for char in word[1:])
            group.append(word)
        end = match.end() if match else end
    return names


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif value is not None:
        yield str(value)


def _keys(units: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Units with their words, those left out that are too short to mean anybody."""
    keys = [(unit, _folded(unit)) for unit in units]
    return [(unit, key) for unit, key in keys if sum(map(len, key)) >= SHORTEST]


def _places(words: tuple[str, ...], key: tuple[str, ...]) -> list[int]:
    """Where ``key`` begins in ``words``."""
    return [place for place in range(len(words) - len(key) + 1) if words[place : place + len(key)] == key]


@lru_cache(maxsize=256)
def _folded(text: str) -> tuple[str, ...]:
    return tuple(word.folded for word in _words(unicodedata.normalize("NFC", text)))


def _words(text: str) -> list[Word]:
    """The words of a text in NFC, folded, with their places in it."""
    words: list[Word] = []
    letters: list[str] = []
    start = end = 0
    for place, char in enumerate(text):
        folded = _fold(char)
        if folded == "":  # an accent of its own or an invisible character: the word goes on
            end = place + 1 if letters else end
            continue
        alone = _SPACELESS.match(char) is not None
        if letters and (alone or not folded.isalnum()):
            words.append(Word("".join(letters), start, end))
            letters = []
        if folded.isalnum():
            start = start if letters else place
            letters.append(folded)
            end = place + 1
            if alone:
                words.append(Word(folded, start, end))
                letters = []
    if letters:
        words.append(Word("".join(letters), start, end))
    return words


@lru_cache(maxsize=4096)
def _fold(char: str) -> str:
    """One character without case, accents and width; empty for accents and for characters that cannot be seen."""
    if char.isascii():
        return char.lower()
    kept = [
        part for part in unicodedata.normalize("NFKD", char) if unicodedata.category(part) not in ("Mn", "Me", "Cf")
    ]
    return "".join(kept).casefold()
