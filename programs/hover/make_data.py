"""Makes data/train.jsonl, dev.jsonl and test.jsonl of this program.

    python programs/hover/make_data.py --rows A.jsonl … --test B.jsonl …

The files are JSON Lines made from HotpotQA questions and HoVer claims, one object a row with `input` (the question or
claim), `gold_titles` (the pages it needs) and `hpqa_id` (the HotpotQA question it is, or comes from). The rows of
`--test` become the test rows; the others are cut into training and dev rows. Rows of one HotpotQA question stay in one
split.

Every page that a row needs must be in the corpus; a row that needs another one is left out.
"""

from __future__ import annotations

import argparse
import html
import json
import lzma
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SEED = 2018
DEV_ROWS = 150
CORPUS = Path(__file__).parent / "corpus" / "wiki17.jsonl.xz"

Row = dict[str, Any]


def normal(text: str) -> str:
    """The text without case, punctuation and extra spaces: what decides whether two rows are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def read(lines: Iterable[str], known: set[str]) -> list[tuple[str, Row]]:
    """The HotpotQA id and the fields that the program needs; only rows whose pages are all known."""
    rows = []
    for line in lines:
        raw = json.loads(line)
        titles = [" ".join(html.unescape(title).split()) for title in raw["gold_titles"]]
        if titles and known.issuperset(titles):
            rows.append((str(raw["hpqa_id"]), {"question": " ".join(raw["input"].split()), "titles": titles}))
    return rows


def make(rows: list[tuple[str, Row]], test: list[tuple[str, Row]]) -> dict[str, list[Row]]:
    """The three splits: no HotpotQA question and no text in two of them."""
    source = random.Random(SEED)
    taken = {normal(row["question"]) for _, row in test}
    closed = {group for group, _ in test}
    groups: dict[str, list[Row]] = {}
    for group, row in rows:
        key = normal(row["question"])
        if group not in closed and key not in taken:
            taken.add(key)
            groups.setdefault(group, []).append(row)
    order = sorted(groups)
    source.shuffle(order)
    splits: dict[str, list[Row]] = {"train": [], "dev": [], "test": [row for _, row in test]}
    for group in order:
        splits["dev" if len(splits["dev"]) < DEV_ROWS else "train"] += groups[group]
    for name in ("train", "dev", "test"):
        source.shuffle(splits[name])
    return splits


def write(splits: dict[str, list[Row]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut question files into the splits of this program.")
    parser.add_argument("--rows", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--test", type=Path, nargs="+", required=True, metavar="FILE")
    options = parser.parse_args()
    with lzma.open(CORPUS, "rt", encoding="utf-8") as file:
        known = {json.loads(line)["title"] for line in file}
    rows, test = (
        [row for path in paths for row in read(path.read_text(encoding="utf-8").splitlines(), known)]
        for paths in (options.rows, options.test)
    )
    splits = make(rows, test)
    write(splits, Path(__file__).parent / "data")
    for name, found in splits.items():
        print(f"{name}: {len(found)} rows")


if __name__ == "__main__":
    main()
