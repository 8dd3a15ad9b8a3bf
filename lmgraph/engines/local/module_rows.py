"""Rows of models that run through transformers' own forward pass: any causal decoder with attention.

Shape suffixes: B or N rows, V vocabulary. Rows of a batch begin together and have one adapter; a new batch begins when
all rows have left. Key-values are not kept from batch to batch. What is sampled is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lmgraph.engines.local.adapters import Adapter
from lmgraph.engines.local.jobs import Admission, Job
from lmgraph.engines.local.kv import BatchMemory
from lmgraph.engines.local.module_adapters import MergedAdapters
from lmgraph.engines.local.prefill import prefill
from lmgraph.engines.local.weights import Weights


class ModuleRows:
    """The rows under way; a `Rows`. Used by one thread at a time."""

    def __init__(
        self, weights: Weights, *, share_prefixes: bool, merged_adapters: int, max_rows: int, max_tokens: int
    ) -> None:
        self._weights = weights
        self._merged = MergedAdapters(weights, merged_adapters)
        self._share = share_prefixes
        self._max_rows = max_rows
        self._max_tokens = max_tokens
        self._memory: BatchMemory | None = None
        self._adapter: Adapter | None = None

    @property
    def count(self) -> int:
        return 0 if self._memory is None else self._memory.rows

    @property
    def cached_bytes(self) -> int:
        return 0

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        chosen: list[Job] = []
        if self.count:
            return chosen
        tokens = 0
        for job in waiting:
            needed = len(job.prompt_ids) + job.sampling.max_tokens
            if not chosen or (
                job.adapter is chosen[0].adapter
                and len(chosen) < self._max_rows
                and tokens + needed <= self._max_tokens
            ):
                chosen.append(job)
                tokens += needed
        return chosen

    @torch.inference_mode()
    def admit(self, jobs: Sequence[Job]) -> Admission:
        self._adapter = jobs[0].adapter
        with self._merged.serving(self._adapter):
            states = prefill(self._weights, [job.prompt_ids for job in jobs], share_prefixes=self._share)
        cached: list[int] = []
        for place, job in enumerate(jobs):
            state = states[job.prompt_ids]
            again = any(other.prompt_ids == job.prompt_ids for other in jobs[:place])
            cached.append(state.length if again else state.cached_tokens)
        self._memory = BatchMemory([states[job.prompt_ids] for job in jobs])
        return Admission(torch.stack([states[job.prompt_ids].logits_V for job in jobs]), cached)

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int]) -> torch.Tensor:
        assert self._memory is not None
        device = self._weights.device
        ids_BT = torch.tensor([[token] for token in token_ids], device=device)
        with self._merged.serving(self._adapter):
            logits_BV = self._weights.last_logits(
                ids_BT, self._memory.position_ids(device), self._memory.attention_mask(device), self._memory.cache
            )
        self._memory.steps += 1
        return logits_BV

    @torch.inference_mode()
    def drop_row(self, row: int) -> None:
        assert self._memory is not None
        self._memory.drop_row(row)
        if not self._memory.rows:
            self._memory = None

    def clear(self) -> None:
        self._memory = None

    def forget(self, digest: str) -> None:
        self._merged.forget(digest)
