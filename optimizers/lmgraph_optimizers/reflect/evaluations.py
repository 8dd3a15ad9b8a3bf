"""Candidates run on rows, and reflections asked for: each once, remembered in the checkpoint, so that a search that was
interrupted is told what it was told before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from typing import Any

from lmgraph.evaluate import Example
from lmgraph.optimize import Lab
from lmgraph.program import Program
from lmgraph_optimizers.reflect.feedback import Record, records
from lmgraph_optimizers.scoring import Reach, mean, reach, score_rows

PHASE = "reflect"
"""Names the random numbers that all candidates share."""
Texts = Mapping[str, str]
"""Instruction by module: what GEPA calls a candidate."""


class Evaluations:
    """All that a search asks of the outside. ``state`` is the stage's checkpoint."""

    def __init__(
        self,
        program: Program,
        lab: Lab,
        feedback: Sequence[Example],
        scoring: Sequence[Example],
        hidden: Mapping[str, AbstractSet[str]],
        state: dict[str, Any],
    ) -> None:
        self.feedback = feedback
        """Rows that reflections read."""
        self.scoring = scoring
        """Rows that the Pareto front and the choice at the end are over."""
        self.seen: dict[str, Texts] = {}
        """Candidates of this search, in the order in which they came up."""
        self._program = program
        self._lab = lab
        self._read = {row.id for row in feedback}
        self._hidden = hidden
        self._state = state
        self._scores: dict[str, dict[str, float]] = state.setdefault("scores", {})
        self._records: dict[str, dict[str, dict[str, Record]]] = state.setdefault("records", {})
        self._answers: dict[str, Any] = state.setdefault("answers", {})
        self.unscored: dict[str, str] = state.setdefault("unscored", {})
        """Why, by row, of rows without a number."""

    async def run(self, texts: Texts, rows: Sequence[Example]) -> list[tuple[float, dict[str, Record]]]:
        """The score of each row, and for rows that reflections read a record of every module that was called.

        Raises: BudgetExhausted."""
        key = self.key(texts)
        self.seen.setdefault(key, dict(texts))
        scores, kept = self._scores.setdefault(key, {}), self._records.setdefault(key, {})
        missing = list({row.id: row for row in rows if row.id not in scores}.values())
        if missing:
            done = await score_rows(self._lab, self.applied(texts), missing, phase=PHASE)
            for row, score, rollout in zip(missing, done.scores, done.rollouts, strict=True):
                scores[row.id] = score
                if row.id in self._read:
                    kept[row.id] = records(rollout, self._lab.task, self._hidden)
            self.unscored.update(done.unscored)
            self._state.setdefault("reach", asdict(reach(done.rollouts)))
            self._lab.checkpoint(self._state)
            total = self.score(texts)
            if total is not None:
                self._lab.log("full evaluation", texts=dict(texts), score=total)
        return [(scores[row.id], kept.get(row.id, {})) for row in rows]

    async def answer(self, number: int, ask: Callable[[], Awaitable[tuple[str | None, str]]]) -> tuple[str | None, str]:
        """What reflection ``number`` came to: a text, or None and why there is none. Raises: as ``ask``."""
        known = self._answers.get(str(number))
        if known is None:
            known = self._answers[str(number)] = list(await ask())
            self._lab.checkpoint(self._state)
            self._lab.log("reflection", number=number, text=known[0], dropped=known[1])
        return known[0], known[1] or ""

    @property
    def reach(self) -> Reach:
        """How far the runs came that were asked for first."""
        return Reach(**self._state["reach"])

    def instructions(self, module: str) -> set[str]:
        """All that ``module`` had in this search."""
        own = self._program.params.modules[module].instruction
        return {texts.get(module, own) for texts in self.seen.values()}

    def applied(self, texts: Texts) -> Program:
        params = self._program.params
        for module, text in texts.items():
            params = params.with_module(module, instruction=text)
        return self._program.with_params(params)

    def score(self, texts: Texts) -> float | None:
        """Mean over all scoring rows; None where it was not scored on all."""
        scores = self._scores.get(self.key(texts), {})
        found = [scores[row.id] for row in self.scoring if row.id in scores]
        return mean(found) if len(found) == len(self.scoring) else None

    def scored(self) -> list[tuple[Texts, float]]:
        """Candidates of this search that were scored on all scoring rows, in the order in which they came up."""
        found = [(texts, self.score(texts)) for texts in self.seen.values()]
        return [(texts, score) for texts, score in found if score is not None]

    def best(self) -> tuple[Texts, float]:
        """The first of the best of `scored`, which the program as it is must be among."""
        return max(self.scored(), key=lambda one: one[1])

    def key(self, texts: Texts) -> str:
        """Equal for equal programs."""
        own = self._program.params.modules
        changed = {name: text for name, text in sorted(texts.items()) if text != own[name].instruction}
        return hashlib.sha256(json.dumps(changed).encode()).hexdigest()[:16]
