"""Makes data/train.jsonl, dev.jsonl and test.jsonl of this program.

    python programs/intent/make_data.py snips_train.jsonl

The argument is a JSON Lines file made from the public SNIPS training files, one object a row with `input` (the
utterance) and `label` (the intent). All three splits come from it, so the public test files stay untouched.

Rows whose texts are equal but for case, spaces and punctuation count as one; the first one stays. The rest is
shuffled with a fixed seed and cut. Every split keeps the labels' proportions of the public file, near one seventh
each.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

SEED = 20170612
SIZES = {"train": 600, "dev": 150, "test": 400}


def normal(text: str) -> str:
    """The text without case, punctuation and extra spaces: what decides whether two rows are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def unique_rows(lines: list[str]) -> list[dict[str, str]]:
    """The rows with the fields the program needs, each text once, sorted by text."""
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        row = json.loads(line)
        rows.setdefault(normal(row["input"]), {"text": row["input"].strip(), "intent": row["label"]})
    return [rows[key] for key in sorted(rows)]


def split(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Cuts the shuffled rows into the sizes above, each cut with the same proportions of labels."""
    source = random.Random(SEED)
    shuffled = list(rows)
    source.shuffle(shuffled)
    if len(shuffled) < sum(SIZES.values()):
        raise SystemExit(f"{sum(SIZES.values())} different rows are needed, the file has {len(shuffled)}")
    # Every k-th row of a label with n rows gets the place k / n: in that order each stretch holds all labels alike.
    totals = Counter(row["intent"] for row in shuffled)
    seen: Counter[str] = Counter()
    places = []
    for row in shuffled:
        seen[row["intent"]] += 1
        places.append(seen[row["intent"]] / totals[row["intent"]])
    order = sorted(range(len(shuffled)), key=lambda index: places[index])
    splits, start = {}, 0
    for name, size in SIZES.items():
        splits[name] = [shuffled[index] for index in order[start : start + size]]
        source.shuffle(splits[name])
        start += size
    return splits


def write(splits: dict[str, list[dict[str, str]]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python make_data.py FILE.jsonl")
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    splits = split(unique_rows(lines))
    write(splits, Path(__file__).parent / "data")
    for name, rows in splits.items():
        print(f"{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
