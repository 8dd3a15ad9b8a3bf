"""Makes data/train.jsonl, dev.jsonl and test.jsonl of this program.

    python programs/support/make_data.py banking77_train.jsonl

The argument is a JSON Lines file made from the public Banking77 training file, one object a row with `input` (the
message) and `label` (the intent). All three splits come from it, so the public test file stays untouched.

Nine intents of three teams are used. Rows whose texts are equal but for case, spaces and punctuation count as one.
The messages of every intent are shared out to the splits first, so no message stands in two of them. Then tickets
are drawn within each split: a team, two or three messages of its intents, no message twice in a ticket. Within a
split a message may come back in another ticket; each is used about as often as the others of its intent.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

SEED = 77
TEAMS = {
    "cards": ["card_arrival", "activate_my_card", "change_pin"],
    "transfers": ["cancel_transfer", "transfer_fee_charged", "transfer_timing"],
    "top_up": ["automatic_top_up", "top_up_limits", "verify_top_up"],
}
TICKETS = {"train": 400, "dev": 100, "test": 200}
SHARES = {"train": 0.56, "dev": 0.16, "test": 0.28}
"""Of the messages of each intent; what rounding leaves over goes to the last split."""

Ticket = dict[str, object]
Pool = dict[str, list[str]]
"""Messages by intent."""


def normal(text: str) -> str:
    """The text without case, punctuation and extra spaces: what decides whether two rows are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def messages_by_intent(lines: list[str]) -> Pool:
    """The messages of the nine intents, each text once, sorted. A text with two labels is left out."""
    labels: dict[str, set[str]] = {}
    texts: dict[str, str] = {}
    for line in lines:
        row = json.loads(line)
        key = normal(row["input"])
        labels.setdefault(key, set()).add(row["label"])
        texts.setdefault(key, " ".join(row["input"].split()))
    used = [intent for intents in TEAMS.values() for intent in intents]
    return {intent: [texts[key] for key in sorted(texts) if labels[key] == {intent}] for intent in used}


def share_out(pool: Pool, source: random.Random) -> dict[str, Pool]:
    """One pool a split; no message in two of them."""
    pools: dict[str, Pool] = {name: {} for name in SHARES}
    for intent, messages in pool.items():
        shuffled = list(messages)
        source.shuffle(shuffled)
        start, last = 0, list(SHARES)[-1]
        for name, share in SHARES.items():
            stop = len(shuffled) if name == last else start + round(share * len(shuffled))
            pools[name][intent] = shuffled[start:stop]
            start = stop
    return pools


class Deck:
    """Deals the messages of one intent; shuffles them anew when all are dealt."""

    def __init__(self, messages: list[str], source: random.Random) -> None:
        self._messages = messages
        self._source = source
        self._left: list[str] = []

    def deal(self, taken: list[str]) -> str:
        """A message that is not in ``taken``."""
        while True:
            if not self._left:
                self._left = list(self._messages)
                self._source.shuffle(self._left)
            message = self._left.pop()
            if message not in taken:
                return message


def draw_tickets(pool: Pool, count: int, source: random.Random) -> list[Ticket]:
    decks = {intent: Deck(messages, source) for intent, messages in pool.items()}
    tickets: list[Ticket] = []
    teams = list(TEAMS)
    for number in range(count):
        team = teams[number % len(teams)]
        intents = [source.choice(TEAMS[team]) for _ in range(source.choice([2, 3]))]
        messages: list[str] = []
        for intent in intents:
            messages.append(decks[intent].deal(messages))
        tickets.append({"messages": messages, "intents": intents, "team": team})
    source.shuffle(tickets)
    return tickets


def make(lines: list[str]) -> dict[str, list[Ticket]]:
    source = random.Random(SEED)
    pools = share_out(messages_by_intent(lines), source)
    return {name: draw_tickets(pools[name], count, source) for name, count in TICKETS.items()}


def write(splits: dict[str, list[Ticket]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, tickets in splits.items():
        text = "".join(json.dumps(ticket, ensure_ascii=False) + "\n" for ticket in tickets)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python make_data.py FILE.jsonl")
    splits = make(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    write(splits, Path(__file__).parent / "data")
    for name, tickets in splits.items():
        print(f"{name}: {len(tickets)} tickets")


if __name__ == "__main__":
    main()
