"""data/ten: rows of ten of the 77 labels, at most 30 of each to learn from: `python programs/banking77/make_ten.py`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

DATA = Path(__file__).parent / "data"
LABELS = (
    "activate_my_card", "age_limit", "apple_pay_or_google_pay", "atm_support", "automatic_top_up", "cancel_transfer",
    "card_arrival", "change_pin", "exchange_rate", "lost_or_stolen_card",
)  # fmt: skip
MOST = {"train": 30, "dev": 10, "test": 10}


def main() -> None:
    (DATA / "ten").mkdir(exist_ok=True)
    for split, most in MOST.items():
        taken: Counter[str] = Counter()
        kept = []
        for line in (DATA / f"{split}.jsonl").read_text("utf-8").splitlines():
            label = json.loads(line)["intent"]
            if label in LABELS and taken[label] < most:
                taken[label] += 1
                kept.append(line + "\n")
        (DATA / "ten" / f"{split}.jsonl").write_text("".join(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
