"""Requests on their way through the engine, and what it asks of the memory their sequences live in.

Shape suffixes: B or N rows, V vocabulary. There are two kinds of memory: that of the lean path (lean_rows.py), and
that of models which run through transformers' own forward pass (module_rows.py).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Protocol

import torch

from lmgraph.engines.local.adapters import Adapter
from lmgraph.runtime.engine import Generation, SamplingParams


@dataclass(slots=True)
class Job:
    """One request. Ended once its future is done, cancelled included."""

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    stop_ids: tuple[int, ...]
    adapter: Adapter | None
    rank: tuple[int, int] = (0, 0)
    """`GenerateRequest.rank`."""
    on_token: Callable[[], None] | None = None
    """Called on the worker's thread where ``token_ids`` have grown."""
    token_ids: list[int] = field(default_factory=list)
    """What was sampled so far. Other threads may read it at any time."""
    future: Future[Generation] = field(default_factory=Future)
    submitted_at: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> bool:
        return self.future.done()

    def succeed(self, generation: Generation) -> None:
        # The state is invalid if the request was cancelled meanwhile: then nobody waits.
        with contextlib.suppress(InvalidStateError):
            self.future.set_result(generation)

    def fail(self, error: BaseException) -> None:
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Admission:
    """What the prompts of new rows left behind."""

    logits_BV: torch.Tensor
    """fp32 logits of the token after each prompt."""
    cached_tokens: list[int]
    """Tokens of each prompt that were not computed for it."""


class Rows(Protocol):
    """The sequences under way, in one order; each has taken in all but its newest token."""

    @property
    def count(self) -> int: ...

    @property
    def cached_bytes(self) -> int:
        """Bytes of the key-values that are kept for later requests."""
        ...

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        """Those of ``waiting`` that can become rows now, in their order; at least one if there are no rows."""
        ...

    def admit(self, jobs: Sequence[Job]) -> Admission:
        """Compute the jobs' prompts; each becomes a row after those there are. If it raises, the rows are as before."""
        ...

    def step(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Take in one token a row; fp32 logits of the next ones, [N, V]."""
        ...

    def drop_row(self, row: int) -> None:
        """Forget ``row``; the last row takes its place."""
        ...

    def clear(self) -> None:
        """Forget all rows."""
        ...

    def forget(self, digest: str) -> None:
        """Keep nothing of an adapter that was unloaded; rows that have it go on."""
        ...
