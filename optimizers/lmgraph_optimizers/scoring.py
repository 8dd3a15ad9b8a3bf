"""Scores of rows for searches: one number a row, whatever a metric does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmgraph.evaluate import Example, Rollout
from lmgraph.optimize import Lab
from lmgraph.program import Program


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows run once each, in order."""

    rollouts: list[Rollout]
    scores: list[float]
    """The low end of the objective's range where a metric gave no number: every candidate is compared on equal rows."""
    unscored: dict[str, str]
    """Why, by row."""

    @property
    def tokens(self) -> list[int]:
        """What each row took: tokens that models read and wrote."""
        return [one.trace.prompt_tokens + one.trace.completion_tokens for one in self.rollouts]


async def score_rows(lab: Lab, program: Program, rows: Sequence[Example], *, phase: str) -> ScoredRows:
    """Run and score ``rows``. Equal phases share their random numbers, and calls that a change does not reach are taken
    from earlier runs. Raises: BudgetExhausted."""
    done = await lab.rollouts(program, rows, phase=phase, keep_unscored=True, reuse=True)
    scores, unscored = [], {}
    for rollout in done:
        if math.isfinite(rollout.score.value):
            scores.append(rollout.score.value)
        else:
            scores.append(lab.task.objective.low)
            unscored[rollout.example.id] = "; ".join(failure.message for failure in rollout.score.failed.values())
    return ScoredRows(done, scores, unscored)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far runs came, by module."""

    answered: list[str]
    """Modules that gave an answer at least once, be it one that does not parse."""
    failed: dict[str, str]
    """Modules that were called and gave none: why, the first time."""


def reach(rollouts: Sequence[Rollout]) -> Reach:
    """A call that its engine failed leaves a step in the trace and no call."""
    answered = dict.fromkeys(call.module for run in rollouts for call in run.trace.calls)
    failed: dict[str, str] = {}
    for step in (step for run in rollouts for step in run.trace.steps):
        if step.kind == "lm" and step.failure is not None and step.name not in answered:
            failed.setdefault(step.name, step.failure.message)
    return Reach(list(answered), failed)


def left_notes(modules: Sequence[str], found: Reach, rows: int) -> list[str]:
    """Sentences for the report on those of ``modules`` that are left as they are, because no run has an answer of
    them."""
    failed = [name for name in modules if name in found.failed]
    never = [name for name in modules if name not in found.failed and name not in found.answered]
    notes = [
        f"Every call of {name} failed on {rows} training rows, so it is left as it is: {found.failed[name]}"
        for name in failed
    ]
    if never:
        notes.append(f"Never called on {rows} training rows, so left as it is: {', '.join(never)}.")
    return notes


def unscored_note(unscored: dict[str, str]) -> str | None:
    """A sentence for the report, or None where every row has its score."""
    if not unscored:
        return None
    row, why = next(iter(unscored.items()))
    rows = f"{len(unscored)} rows" if len(unscored) > 1 else "a row"
    return f"On {rows} the metric gave no number, which counts as the lowest score; first on {row}: {why}"


def mean(values: Sequence[float]) -> float:
    """Raises: ZeroDivisionError if empty."""
    return sum(values) / len(values)


def divide(rows: Sequence[Example], scoring: int, source: int) -> tuple[list[Example], list[Example]]:
    """At most ``source`` rows that demos come from, and at most ``scoring`` that choose between candidates; disjoint
    unless there is only one row."""
    count = min(scoring, max(1, len(rows) // 2))
    rest = rows[count:] or rows
    return list(rest[:source]), list(rows[:count])
