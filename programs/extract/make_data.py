"""Makes data/train.jsonl, dev.jsonl and test.jsonl of this program.

    python programs/extract/make_data.py ROWS.jsonl TEST.jsonl

Both arguments are JSON Lines files made from the public SNIPS training files, one object a row with `input` (the
utterance) and `label` (the intent), and no row in both. The second one becomes the test rows; the first one is cut into
training and dev rows. The public validation files stay untouched.

`kind` follows from the intent that SNIPS gives. The numbers, the rating and the number of people are read off the
utterance by the rules below. An utterance that the rules do not understand to its end is left out: better fewer rows
than wrong ones.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

SEED = 6
KINDS = {"RateBook": "rate", "BookRestaurant": "book"}
"""By SNIPS intent; every other intent is `other`."""
TRAIN_ROWS, DEV_ROWS, TEST_ROWS = 300, 50, 50
"""At most, of each kind."""
MOST_NUMBERS = 4

Row = dict[str, Any]

_NAMES = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBER_WORDS = {word: value for value, word in enumerate(_NAMES.split())}
_NUMBER = re.compile(rf"(?<![\w.,:’'-])(?:\d{{1,4}}|{'|'.join(NUMBER_WORDS)})(?![\w:’'-]|[.,]\d)", re.IGNORECASE)
_NUMERAL = re.compile(
    r"\d|\b(?:thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy"
    r"|eighty|ninety|hundred|thousand|half|dozen|couple|single|double)\b",
    re.IGNORECASE,
)
"""What must not be left when the numbers are taken out: a part of a number, or one in other words."""
_DATE = re.compile(r"\d\s*/\s*\d+\s*/\s*\d")

_N = "(\0\\d+\0)"
"""A number that was found, in the marked text."""
_SCALE = re.compile(rf"{_N}\s*(?:stars?|points?)?\s*(?:/|out of|out|of)\s*{_N}")
_UNIT = re.compile(rf"{_N}\s*(star|point)s?\b")
_LAST = re.compile(rf"{_N}\s*(?:(?:stars?|points?)\b|[.!]?$)")
_VALUE = re.compile(rf"(?:rating|value|rate it)(?: value)?(?: of)? {_N}|{_N} (?:rating|value)")
_TIME = re.compile(rf"{_N}\s*(?:a\.?m\b|p\.?m\b|o'?clock|(?:second|minute|hour|day|week|month|year)s?\b)")
_PEOPLE = re.compile(rf"(?:\bfor|\bof|\bseats?) {_N}|{_N} (?:people|persons?|guests|of us)\b")
_LOOSE_ONE = re.compile(
    r"(?<!\bfor )(?<!\bof )\bone\b"
    r"(?!\s*(?:(?:star|point|person|second|minute|hour|day|week|month|year)s?\b|people|out|of|/|rating|value|[.!]?$))"
    r"|\bone of (?:the|a|my|these|those)\b",
    re.IGNORECASE,
)
"""`one` that may be no number, as in `the one by the sea`."""


def normal(text: str) -> str:
    """The text without case, punctuation and extra spaces: what decides whether two rows are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def read_numbers(text: str) -> tuple[list[int], str] | None:
    """The whole numbers of the text, and the text in small letters with each as its place between two marks.

    None where a number stands in a form that is not read.
    """
    values: list[int] = []

    def mark(match: re.Match[str]) -> str:
        word = match.group().lower()
        values.append(NUMBER_WORDS[word] if word in NUMBER_WORDS else int(word))
        return f"\0{len(values) - 1}\0"

    marked = _NUMBER.sub(mark, text).lower()
    unread = _NUMERAL.search(re.sub("\0\\d+\0", "", marked))
    if unread or _DATE.search(text) or _LOOSE_ONE.search(text) or len(values) > MOST_NUMBERS:
        return None
    return values, marked


def read_rating(values: list[int], marked: str) -> dict[str, Any] | None:
    """Value, best value and unit of the one rating in the text. None where it is not plain."""
    scale, unit = _SCALE.search(marked), _UNIT.search(marked)
    if len(values) == 2 and scale:
        value, best = (values[_place(group)] for group in scale.groups())
        if best != 6:
            return None
    elif len(values) == 1 and (_LAST.search(marked) or _VALUE.search(marked)):
        value, best = values[0], None
    else:
        return None
    if not 0 <= value <= 6:
        return None
    return {"value": value, "best": best, "unit": f"{unit[2]}s" if unit else None}


def read_people(values: list[int], marked: str) -> tuple[int | None] | None:
    """The number of people, in a tuple; None in it where none is said. None where a number may mean something else."""
    times = {_place(match[1]) for match in _TIME.finditer(marked)}
    people = {_place(match[1] or match[2]) for match in _PEOPLE.finditer(marked)} - times
    if len(people) > 1 or len(times | people) < len(values):
        return None
    found = [values[place] for place in people]
    return None if found == [0] else (found[0] if found else None,)


def _place(group: str) -> int:
    return int(group.strip("\0"))


def read(line: str) -> Row | None:
    """One row of the program, or None where the utterance is not understood."""
    raw = json.loads(line)
    text = " ".join(raw["input"].split())
    found = read_numbers(text)
    if found is None or not normal(text):
        return None
    values, marked = found
    row: Row = {"text": text, "kind": KINDS.get(raw["label"], "other"), "numbers": values}
    row |= {"rating": None, "people": None}
    if row["kind"] == "rate":
        row["rating"] = read_rating(values, marked)
        return row if row["rating"] else None
    if row["kind"] == "book":
        people = read_people(values, marked)
        if people is None:
            return None
        row["people"] = people[0]
    return row


def make(rows: list[Row], test: list[Row]) -> dict[str, list[Row]]:
    """The three splits, each with about as many rows of every kind; no text in two of them."""
    source = random.Random(SEED)
    taken: set[str] = set()
    splits: dict[str, list[Row]] = {"train": [], "dev": [], "test": []}
    for pool, cuts in ((test, {"test": TEST_ROWS}), (rows, {"dev": DEV_ROWS, "train": TRAIN_ROWS})):
        by_kind: dict[str, list[Row]] = {}
        for row in sorted(pool, key=lambda row: str(row["text"])):
            if normal(row["text"]) not in taken:
                taken.add(normal(row["text"]))
                by_kind.setdefault(row["kind"], []).append(row)
        for kind in sorted(by_kind):
            source.shuffle(by_kind[kind])
            start = 0
            for name, count in cuts.items():
                splits[name] += by_kind[kind][start : start + count]
                start += count
    for name in ("train", "dev", "test"):
        source.shuffle(splits[name])
    return splits


def write(splits: dict[str, list[Row]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python make_data.py ROWS.jsonl TEST.jsonl")
    pools = []
    for name in sys.argv[1:]:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
        found = [row for row in map(read, lines) if row is not None]
        print(f"{name}: {len(found)} of {len(lines)} utterances understood")
        pools.append(found)
    splits = make(*pools)
    write(splits, Path(__file__).parent / "data")
    for name, rows in splits.items():
        print(f"{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
