"""Makes data/train.jsonl, dev.jsonl and test.jsonl of this program.

    python programs/banking77/make_data.py banking77_train.jsonl banking77_more.jsonl

Both arguments are JSON Lines files made from the public Banking77 training file, one object a row with `input` (the
message) and `label` (the intent), and no row in both. The second one becomes the test rows as it is. The first one
is cut: ten rows of every intent become the dev rows, the others the training rows. The public test file stays
untouched.

Rows whose texts are equal but for case, spaces and punctuation count as one: the one that is read first stays, and
the test rows are read before the others. A text that stands there with two intents is left out everywhere.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

SEED = 7
DEV_ROWS = 10
"""Of each intent."""

Row = dict[str, str]


def normal(text: str) -> str:
    """The text without case, punctuation and extra spaces: what decides whether two rows are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def read(lines: list[str]) -> list[Row]:
    """The fields that the program needs, white space tidied."""
    rows = (json.loads(line) for line in lines)
    return [{"text": " ".join(row["input"].split()), "intent": row["label"]} for row in rows]


def make(rows: list[Row], test: list[Row]) -> dict[str, list[Row]]:
    """The three splits; no text in two of them."""
    labels: dict[str, set[str]] = {}
    for row in [*test, *rows]:
        labels.setdefault(normal(row["text"]), set()).add(row["intent"])
    taken = {key for key, found in labels.items() if len(found) > 1 or not key}
    kept_test = _first_ones(test, taken)
    by_intent: dict[str, list[Row]] = {}
    for row in _first_ones(rows, taken):
        by_intent.setdefault(row["intent"], []).append(row)
    source = random.Random(SEED)
    splits: dict[str, list[Row]] = {"train": [], "dev": [], "test": kept_test}
    for intent in sorted(by_intent):
        found = sorted(by_intent[intent], key=lambda row: row["text"])
        source.shuffle(found)
        splits["dev"] += found[:DEV_ROWS]
        splits["train"] += found[DEV_ROWS:]
    for name in ("train", "dev", "test"):
        source.shuffle(splits[name])
    return splits


def _first_ones(rows: list[Row], taken: set[str]) -> list[Row]:
    """The rows whose texts are not in ``taken``, each text once; ``taken`` grows by them."""
    kept = []
    for row in rows:
        key = normal(row["text"])
        if key not in taken:
            taken.add(key)
            kept.append(row)
    return kept


def write(splits: dict[str, list[Row]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python make_data.py TRAIN.jsonl TEST.jsonl")
    rows, test = (read(Path(name).read_text(encoding="utf-8").splitlines()) for name in sys.argv[1:])
    splits = make(rows, test)
    write(splits, Path(__file__).parent / "data")
    for name, found in splits.items():
        print(f"{name}: {len(found)} rows")


if __name__ == "__main__":
    main()
