"""Makes data/train.jsonl, dev.jsonl and test.jsonl of this program.

    python programs/inbox/make_data.py banking77_train.jsonl sms_spam_train.jsonl [MORE_SPAM.jsonl]

The arguments are JSON Lines files, one object a row with `input` (the message) and `label`: the first made from the
public Banking77 training file, the others from the SMS Spam Collection, of which the rows labelled `spam` are used.
The public Banking77 test file stays untouched, and so does the quarter of the collection that is not in these files.

Customers' messages are those of nine Banking77 intents of three teams. Messages of 160 characters and more are left
out. Messages whose letters are equal count as one, so spam that comes back with another telephone number does too.
All messages are shared out to the splits first, so none stands in two of them. Then inboxes are drawn within each
split: the place of the first customer (0, 1, 2 and 3 equally often), spam before it, its team (each equally often),
and after it messages of either kind, up to four in all. Within a split a message may come back in another inbox; each
is used about as often as the others of its kind.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

SEED = 160
TEAMS = {
    "cards": ["card_arrival", "activate_my_card", "change_pin"],
    "transfers": ["cancel_transfer", "transfer_fee_charged", "transfer_timing"],
    "top_up": ["automatic_top_up", "top_up_limits", "verify_top_up"],
}
SPAM = "spam"
INBOXES = {"train": 300, "dev": 80, "test": 200}
SHARES = {"train": 0.5, "dev": 0.15, "test": 0.35}
"""Of the messages of each team and of the spam; what rounding leaves over goes to the last split."""
SHORTER_THAN = 160
FEWEST, MOST = 2, 4
"""Messages in an inbox."""

Inbox = dict[str, object]
Pool = dict[str, list[str]]
"""Messages by team, and the spam."""


def letters(text: str) -> str:
    """The words without case, digits and punctuation: what decides whether two messages are the same."""
    return " ".join(re.findall(r"[^\W\d_]+", text.lower()))


def messages_by_group(bank: list[str], sms: list[str]) -> Pool:
    """The messages of each team and the spam, each once, sorted. One that belongs to two of them is left out."""
    team_of = {intent: team for team, intents in TEAMS.items() for intent in intents}
    groups: dict[str, set[str]] = {}
    texts: dict[str, list[str]] = {}
    for lines, group_of in ((bank, team_of), (sms, {SPAM: SPAM})):
        for line in lines:
            row = json.loads(line)
            text = " ".join(row["input"].split())
            key = letters(text)
            if key and len(text) < SHORTER_THAN:
                groups.setdefault(key, set()).add(group_of.get(row["label"], "not used"))
                texts.setdefault(key, []).append(text)
    return {group: [min(texts[key]) for key in sorted(texts) if groups[key] == {group}] for group in [*TEAMS, SPAM]}


def share_out(pool: Pool, source: random.Random) -> dict[str, Pool]:
    """One pool a split; no message in two of them."""
    pools: dict[str, Pool] = {name: {} for name in SHARES}
    for group, messages in pool.items():
        shuffled = list(messages)
        source.shuffle(shuffled)
        start, last = 0, list(SHARES)[-1]
        for name, share in SHARES.items():
            stop = len(shuffled) if name == last else start + round(share * len(shuffled))
            pools[name][group] = shuffled[start:stop]
            start = stop
    return pools


class Deck:
    """Deals the messages of one group; shuffles them anew when all are dealt."""

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


def draw_inboxes(pool: Pool, count: int, source: random.Random) -> list[Inbox]:
    decks = {group: Deck(messages, source) for group, messages in pool.items()}
    inboxes: list[Inbox] = []
    teams = list(TEAMS)
    for number in range(count):
        place = number % MOST
        team = teams[number // MOST % len(teams)]
        after = source.randint(max(0, FEWEST - place - 1), MOST - place - 1)
        groups = [SPAM] * place + [team]
        groups += [source.choice([SPAM, source.choice(teams)]) for _ in range(after)]
        messages: list[str] = []
        for group in groups:
            messages.append(decks[group].deal(messages))
        teams_of = [None if group == SPAM else group for group in groups]
        inboxes.append({"messages": messages, "place": place, "team": team, "teams": teams_of})
    source.shuffle(inboxes)
    return inboxes


def make(bank: list[str], sms: list[str]) -> dict[str, list[Inbox]]:
    source = random.Random(SEED)
    pools = share_out(messages_by_group(bank, sms), source)
    return {name: draw_inboxes(pools[name], count, source) for name, count in INBOXES.items()}


def write(splits: dict[str, list[Inbox]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, inboxes in splits.items():
        text = "".join(json.dumps(inbox, ensure_ascii=False) + "\n" for inbox in inboxes)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def lines_of(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit("usage: python make_data.py BANK.jsonl SMS.jsonl [MORE_SMS.jsonl]")
    splits = make(lines_of(sys.argv[1]), [line for path in sys.argv[2:] for line in lines_of(path)])
    write(splits, Path(__file__).parent / "data")
    for name, inboxes in splits.items():
        print(f"{name}: {len(inboxes)} inboxes")


if __name__ == "__main__":
    main()
