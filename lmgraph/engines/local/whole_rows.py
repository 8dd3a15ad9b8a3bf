"""Rows of models whose state the engine cannot keep from token to token: every step runs their whole sequences again.

Shape suffixes: N rows, V vocabulary, T tokens of a sequence. Slow, one row after another, and right for any causal
model that transformers loads: recurrent ones, for example. What is sampled is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lmgraph.engines.local.adapters import Adapter
from lmgraph.engines.local.jobs import Admission, Job
from lmgraph.engines.local.module_adapters import MergedAdapters
from lmgraph.engines.local.module_rows import ModuleRows
from lmgraph.engines.local.weights import Weights
from lmgraph.errors import EngineUnavailable
from lmgraph.runtime.engine import SamplingParams

PROBE_SHARED = 20
"""Tokens the probe's two prompts begin with alike: enough to be computed apart."""
PROBE_TAILS = (3, 7)
LARGEST_ERROR = 1e-3
"""Of the logits, relative, in fp32; batches add in another order."""
LARGEST_ROUNDED_ERROR = 0.1
"""The same in bf16, where every layer rounds."""


@dataclass(slots=True)
class WholeRow:
    adapter: Adapter | None
    ids: list[int] = field(default_factory=list)


class WholeRows:
    """The rows under way; a `Rows`. Used by one thread at a time."""

    def __init__(self, weights: Weights, *, merged_adapters: int, max_rows: int) -> None:
        self._weights = weights
        self._merged = MergedAdapters(weights, merged_adapters)
        self._max_rows = max_rows
        self._rows: list[WholeRow] = []

    @property
    def count(self) -> int:
        return len(self._rows)

    @property
    def cached_bytes(self) -> int:
        return 0

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        # Rows are computed one by one, so nothing is won by many, and nothing of their memory is kept.
        return list(waiting[: max(0, self._max_rows - self.count)])

    @torch.inference_mode()
    def admit(self, jobs: Sequence[Job]) -> Admission:
        joining = [WholeRow(job.adapter, list(job.prompt_ids)) for job in jobs]
        logits_NV = torch.stack([self._logits(row) for row in joining])
        self._rows += joining
        return Admission(logits_NV, [0] * len(jobs))

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int]) -> torch.Tensor:
        for row, token in zip(self._rows, token_ids, strict=True):
            row.ids.append(token)
        return torch.stack([self._logits(row) for row in self._rows])

    def drop_row(self, row: int) -> None:
        self._rows[row] = self._rows[-1]
        self._rows.pop()

    def clear(self) -> None:
        self._rows.clear()

    def forget(self, digest: str) -> None:
        self._merged.forget(digest)

    def _logits(self, row: WholeRow) -> torch.Tensor:
        with self._merged.serving(row.adapter):
            return self._weights.whole_logits(row.ids)


@torch.inference_mode()
def why_not_kept(weights: Weights) -> str | None:
    """Why the state of ``weights`` cannot be kept in `ModuleRows`; None if that gives the logits it should.

    Two prompts with a common beginning go through it for a token and are compared with their whole sequences.
    Raises: EngineUnavailable if not even those can be computed.
    """
    size = weights.vocabulary_size
    beginning = [place % size for place in range(1, PROBE_SHARED + 1)]
    prompts = [(*beginning, *((7 * place + tail) % size for place in range(tail))) for tail in PROBE_TAILS]
    ends = [1 % size, 2 % size]
    try:
        expected = [weights.whole_logits(prompt) for prompt in prompts]
        expected += [weights.whole_logits((*prompt, end)) for prompt, end in zip(prompts, ends, strict=True)]
    except Exception as error:
        raise EngineUnavailable(
            f"the model of {weights.folder} cannot be run: {type(error).__name__}: {error}"
        ) from error
    try:
        rows = ModuleRows(weights, share_prefixes=True, merged_adapters=1, max_rows=2, max_tokens=1 << 20)
        jobs = [Job(prompt, SamplingParams(max_tokens=2), (), None) for prompt in prompts]
        found = [*rows.admit(jobs).logits_BV, *rows.step(ends)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    limit = LARGEST_ERROR if weights.dtype == torch.float32 else LARGEST_ROUNDED_ERROR
    errors = [float((ours - theirs).norm() / theirs.norm()) for ours, theirs in zip(found, expected, strict=True)]
    return None if all(error <= limit for error in errors) else f"its logits come out {max(errors):.1e} off"
