"""Scores of choices by row: remembered in the checkpoint, so that a resumed search replays them instead of running."""

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
        wanted = [position for position in positions if position not in seen]
        missing = [position for position in wanted if str(position) not in kept]
        if missing:
            rows = [self.rows[position] for position in missing]
            done = await score_rows(self._lab, self._space.applied(choice), rows, phase=PHASE)
            kept.update({str(position): score for position, score in zip(missing, done.scores, strict=True)})
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
        """All choices, best gain first; equal ones by how little they change, then the earlier."""
        found = [choice for choice in self.choices.values() if self.seen(choice)]
        return sorted(found, key=lambda choice: (-self.gain(choice), sum(map(bool, choice.values()))))
