"""One optimize run for each of several seeds: how much of a gain is the seed's, and the best of them to keep."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.evaluate.statistics import Interval
from lmgraph.evaluate.statistics_paired import over_seeds
from lmgraph.optimize.compose import OptimizeRun
from lmgraph.optimize.records import StageRecord
from lmgraph.program import artifact

KEPT_FILES = ("report.md", "report.html", "scores.json", "events.jsonl")


@dataclass(frozen=True, slots=True)
class SeedsRun:
    """The runs of all seeds."""

    runs: Mapping[int, OptimizeRun]
    """By seed."""
    chosen: int
    """The seed with the best dev score, the first of equal ones: its program is the result."""
    artifact: Path
    start: Interval
    """Dev scores of the start over the seeds, with Student's 95 % interval."""
    best: Interval
    """Dev scores of what each seed kept. The chosen one's own score is the best of several and so too good."""
    test: Interval | None
    """Test scores of what each seed kept, where all were scored."""

    def to_data(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "chosen": self.chosen,
            "artifact": str(self.artifact),
            "start": interval_data(self.start),
            "best": interval_data(self.best),
            "test": None if self.test is None else interval_data(self.test),
        }


async def optimize_seeds(seeds: Sequence[int], work: Callable[[int], Awaitable[OptimizeRun]], output: Path) -> SeedsRun:
    """Do ``work`` for each seed, one after the other, and keep the best program at ``output`` with what all scored.

    Raises: ConfigError where scipy is not installed, before anything runs; what ``work`` raises.
    """
    if not seeds:
        raise ConfigError("There is no seed to run.", hint="--seeds takes a number from 1")
    over_seeds([0.0, 1.0])
    runs = {seed: await work(seed) for seed in seeds}
    ends = {seed: kept(run.stages).dev["score"] for seed, run in runs.items()}
    chosen = max(ends, key=lambda seed: (ends[seed], -list(ends).index(seed)))
    tests = [run.test["best"]["score"] for run in runs.values() if run.test is not None]
    found = SeedsRun(
        runs,
        chosen,
        output,
        over_seeds([run.stages[0].dev["score"] for run in runs.values()]),
        over_seeds(list(ends.values())),
        over_seeds(tests) if len(tests) == len(runs) else None,
    )
    run = runs[chosen]
    extra = {name: (run.artifact / name).read_bytes() for name in KEPT_FILES}
    artifact.save(run.program, output, extra={**extra, "seeds.json": json.dumps(found.to_data(), indent=1)})
    return found


def kept(records: Sequence[StageRecord]) -> StageRecord:
    """The last stage that was kept: what the run ends with."""
    return [record for record in records if record.kept][-1]


def interval_data(interval: Interval) -> dict[str, float | None]:
    """JSON-ready; a single seed has no interval."""
    bounds = {"low": interval.low, "high": interval.high}
    finite = {name: value if abs(value) != float("inf") else None for name, value in bounds.items()}
    return {"mean": interval.mean, **finite}
