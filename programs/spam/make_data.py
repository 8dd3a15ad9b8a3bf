"""Makes data/train.jsonl, dev.jsonl and test.jsonl of this program.

    python programs/spam/make_data.py sms_spam_train.jsonl [MORE.jsonl]

The arguments are JSON Lines files made from the SMS Spam Collection, one object a row with `input` (the message) and
`label` (`ham` or `spam`). The files of this folder come from 75% of the collection and leave the rest untouched.

Messages of more than 300 characters are left out. Messages whose letters are equal (spam comes back with other
telephone numbers) count as one; the first in the order of the texts stays, and none stays if their labels differ.
The collection has far more ham than spam: every split here gets as many of the one as of the other.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

SEED = 228
LABELS = ("ham", "spam")
EACH = {"train": 180, "dev": 50, "test": 200}
"""Rows of each label in a split."""
LONGEST = 300

Row = dict[str, str]


def letters(text: str) -> str:
    """The words without case, digits and punctuation: what decides whether two rows are the same."""
    return " ".join(re.findall(r"[^\W\d_]+", text.lower()))


def unique_rows(lines: list[str]) -> list[Row]:
    """The rows with the fields the program needs, each message once, sorted by message."""
    labels: dict[str, set[str]] = {}
    texts: dict[str, list[str]] = {}
    for line in lines:
        row = json.loads(line)
        text = " ".join(row["input"].split())
        key = letters(text)
        if key and len(text) <= LONGEST:
            labels.setdefault(key, set()).add(row["label"])
            texts.setdefault(key, []).append(text)
    return [{"text": min(texts[key]), "kind": min(labels[key])} for key in sorted(texts) if len(labels[key]) == 1]


def split(rows: list[Row]) -> dict[str, list[Row]]:
    """As many rows of each label as are wanted, no row in two splits."""
    source = random.Random(SEED)
    splits: dict[str, list[Row]] = {name: [] for name in EACH}
    for label in LABELS:
        found = [row for row in rows if row["kind"] == label]
        if len(found) < sum(EACH.values()):
            raise SystemExit(f"{sum(EACH.values())} different messages of {label} are needed, there are {len(found)}")
        source.shuffle(found)
        start = 0
        for name, count in EACH.items():
            splits[name] += found[start : start + count]
            start += count
    for chosen in splits.values():
        source.shuffle(chosen)
    return splits


def write(splits: dict[str, list[Row]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit("usage: python make_data.py FILE.jsonl [MORE.jsonl]")
    lines = [line for path in sys.argv[1:] for line in Path(path).read_text(encoding="utf-8").splitlines()]
    splits = split(unique_rows(lines))
    write(splits, Path(__file__).parent / "data")
    for name, rows in splits.items():
        print(f"{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
