"""Scores of choices by row, and what they took: remembered in the checkpoint, so that a resumed search replays them
instead of running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lmgraph.evaluate import Example
from lmgraph.optimize import Lab
from lmgraph_optimizers.prompt.space import Choice, Space, choice_key
from lmgraph_optimizers.scoring import mean, score_rows

PHASE = "search"
"""Names the random numbers that all choices share."""
START: Choice = {}


class Scores:
    """Scores of rows by choice. What a search has looked at is kept apart from what the checkpoint remembers: a resumed
    search takes the same decisions at the same points as one that was never interrupted."""

    def __init__(
        self, space: Space, rows: Sequence[Example], lab: Lab, state: dict[str, Any], save: Callable[[], None]
    ):
        self.rows = rows
        self._space = space
        self._lab = lab
        self._kept: dict[str, dict[str, float]] = state.setdefault("scores", {})
        self._tokens: dict[str, dict[str, int]] = state.setdefault("tokens", {})
        self._unscored: dict[str, str] = state.setdefault("unscored", {})
        self._save = save
        self._seen: dict[str, dict[int, float]] = {}
        self.choices: dict[str, Choice] = {}
        """Every choice looked at, by its key, in the order of the search."""
        self.replayed = 0
        """Scores that came from the checkpoint."""

    async def look(self, choice: Choice, positions: Sequence[int]) -> None:
        """Score the choice on these rows, where it has none yet. Raises: BudgetExhausted."""
        key = choice_key(choice)
        self.choices.setdefault(key, dict(choice))
        seen, kept = self._seen.setdefault(key, {}), self._kept.setdefault(key, {})
        tokens = self._tokens.setdefault(key, {})
        wanted = [position for position in positions if position not in seen]
        missing = [position for position in wanted if str(position) not in tokens]
        if missing:
            rows = [self.rows[position] for position in missing]
            done = await score_rows(self._lab, self._space.applied(choice), rows, phase=PHASE)
            kept.update({str(position): score for position, score in zip(missing, done.scores, strict=True)})
            tokens.update({str(position): number for position, number in zip(missing, done.tokens, strict=True)})
            self._unscored.update(done.unscored)
            self._save()
        self.replayed += len(wanted) - len(missing)
        for position in wanted:
            seen[position] = kept[str(position)]

    @property
    def unscored(self) -> dict[str, str]:
        """Why, by row, of rows without a number."""
        return self._unscored

    def seen(self, choice: Choice) -> dict[int, float]:
        return self._seen.get(choice_key(choice), {})

    def is_full(self, choice: Choice) -> bool:
        return len(self.seen(choice)) == len(self.rows)

    def mean(self, choice: Choice) -> float:
        return mean(list(self.seen(choice).values()))

    def gain(self, choice: Choice) -> float:
        """Mean over the rows it was seen on of its score less the start's: rows that are hard for all cancel out."""
        start = self.seen(START)
        return mean([score - start[position] for position, score in self.seen(choice).items()])

    def order(self) -> list[Choice]:
        """All choices, best gain first; equal ones by how few texts and settings they change, then by what they take
        where there are counts to save by, then by how few counts they change, then the earlier."""
        found = [choice for choice in self.choices.values() if self.seen(choice)]
        return sorted(found, key=self._rank)

    def _rank(self, choice: Choice) -> tuple[float, int, float, int]:
        changed = [name for name, index in choice.items() if index]
        counts = sum(name in self._space.counts for name in changed)
        taken = self._extra_tokens(choice) if self._space.counts else 0.0
        return -self.gain(choice), len(changed) - counts, taken, counts

    def _extra_tokens(self, choice: Choice) -> float:
        """Mean over the rows it was seen on of what it took more than the start."""
        start, taken = self._tokens[choice_key(START)], self._tokens[choice_key(choice)]
        return mean([taken[str(position)] - start[str(position)] for position in self.seen(choice)])
