"""Makes data/train.jsonl, dev.jsonl and test.jsonl of this program. Prints counts only: the texts are real users'.

    python programs/papillon/make_data.py --rows A.jsonl … --test B.jsonl …

The files are JSON Lines made from PUPA, one object a row with `input` (the user's request), `label` (the reference
reply), `pii_units_in_query` and `conversation_hash`. The rows of `--test` become the test rows; the others are cut into
training and dev rows. Rows of one conversation stay in one split.

Left out are long rows, units that are placeholders or too short to mean anybody, units that are not in the request as
whole words, rows that then have no unit, and requests that are equal but for case, spaces and punctuation.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from privacy import mentions

SEED = 2410
DEV_ROWS = 40
LONGEST_QUERY, LONGEST_REFERENCE = 1600, 2000
"""Characters. The whole flow is to fit a small model's context and patience."""
SHORTEST_UNIT = 3
"""Letters and digits. PUPA's units of one or two letters are mostly initials that stand in many words."""

Row = dict[str, Any]

_PLACEHOLDER = re.compile(r"presidio|anonymi[sz]ed|redacted", re.IGNORECASE)


def normal(text: str) -> str:
    """The text without case, punctuation and extra spaces: what decides whether two rows are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def units_of(query: str, units: list[str]) -> list[str]:
    """The units that a leak can be measured by."""
    kept = [
        unit for unit in units if len(re.findall(r"[^\W_]", unit)) >= SHORTEST_UNIT and not _PLACEHOLDER.search(unit)
    ]
    return mentions(query, kept)


def read(lines: Iterable[str]) -> list[tuple[str, Row]]:
    """The conversation and the fields that the program needs."""
    rows = []
    for line in lines:
        raw = json.loads(line)
        query, reference = raw["input"].strip(), raw["label"].strip()
        pii = units_of(query, raw["pii_units_in_query"])
        fits = 0 < len(query) <= LONGEST_QUERY and 0 < len(reference) <= LONGEST_REFERENCE
        if fits and pii:
            rows.append((str(raw["conversation_hash"]), {"query": query, "pii": pii, "reference": reference}))
    return rows


def make(rows: list[tuple[str, Row]], test: list[tuple[str, Row]]) -> dict[str, list[Row]]:
    """The three splits: no conversation and no request in two of them."""
    source = random.Random(SEED)
    taken: set[str] = set()
    closed = {group for group, _ in test}
    groups: dict[str, list[Row]] = {}
    splits: dict[str, list[Row]] = {"train": [], "dev": [], "test": []}
    for _, row in test:
        if normal(row["query"]) not in taken:
            taken.add(normal(row["query"]))
            splits["test"].append(row)
    for group, row in rows:
        if group not in closed and normal(row["query"]) not in taken:
            taken.add(normal(row["query"]))
            groups.setdefault(group, []).append(row)
    order = sorted(groups)
    source.shuffle(order)
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
    parser = argparse.ArgumentParser(description="Cut PUPA's rows into the splits of this program.")
    parser.add_argument("--rows", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--test", type=Path, nargs="+", required=True, metavar="FILE")
    options = parser.parse_args()
    rows, test = (
        [row for path in paths for row in read(path.read_text(encoding="utf-8").split("\n")[:-1])]
        for paths in (options.rows, options.test)
    )
    splits = make(rows, test)
    write(splits, Path(__file__).parent / "data")
    for name, found in splits.items():
        print(f"{name}: {len(found)} rows")


if __name__ == "__main__":
    main()
