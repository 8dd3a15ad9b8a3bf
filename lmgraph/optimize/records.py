"""What a finished stage is remembered by, in memory and in study.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What one finished stage came to. The first record is the start, which no optimizer touched."""

    name: str
    dev: Mapping[str, Any]
    """As `Evaluation.to_data(rows=False)`."""
    kept: bool
    """Whether its program is the best so far."""
    calls: int
    tokens: int
    seconds: float
    notes: tuple[str, ...]
    details: Mapping[str, Any]
    options: Mapping[str, Any]
    artifact: str
    """Folder of the stage's own program."""
    scores: tuple[float, ...] = ()
    """Of the dev rows, in their order; empty in studies of earlier versions."""
    paired: Mapping[str, Any] | None = None
    """Against the start on the same rows, as `Comparison.to_data`, with `doubt` where the gain may be chance; None for
    the start, for fewer than two rows, and where scipy is not installed."""
    reused: int = 0
    """Calls that runs made before answered: those of modules that were not changed. Not part of ``calls``."""
    usd: float = 0.0
    """By the engines' price tables."""
    recovered: int = 0
    """Those of ``reused`` that were made before an interruption, and not again."""


def record_data(record: StageRecord) -> dict[str, Any]:
    """JSON-ready."""
    return {name: getattr(record, name) for name in StageRecord.__dataclass_fields__}


def read_record(data: Mapping[str, Any]) -> StageRecord:
    return StageRecord(**{**data, "notes": tuple(data["notes"]), "scores": tuple(data.get("scores", ()))})
