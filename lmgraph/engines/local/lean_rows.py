"""Rows on the lean path: prompts come in, every row takes a token a step, and rows leave.

Shape suffixes: B or N rows, V vocabulary. What is sampled, and when requests come and go, is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lmgraph.engines.local.adapters import Adapter
from lmgraph.engines.local.huge_pages import HugePages
from lmgraph.engines.local.jobs import Admission, Job
from lmgraph.engines.local.lean_admit import Prefiller, PromptKey
from lmgraph.engines.local.lean_slots import LONGEST_COPY, Slots
from lmgraph.engines.local.llama import LlamaModel
from lmgraph.engines.local.lora import LoraStack, LoraStacks
from lmgraph.engines.local.plan import shared_lengths


class LeanRows:
    """The rows under way on one lean model; a `Rows`. Used by one thread at a time."""

    def __init__(
        self, model: LlamaModel, *, share_prefixes: bool, cache_bytes: int, max_rows: int, max_tokens: int
    ) -> None:
        self._model = model
        self._share = share_prefixes
        self._max_rows = max_rows
        self._max_tokens = max_tokens
        self._loras = LoraStacks(model.linears, model.dtype, model.device)
        self._prefiller = Prefiller(model, self._loras, share_prefixes=share_prefixes, cache_bytes=cache_bytes)
        on_cpu = model.device.type == "cpu"
        self._pages = HugePages(linear.memory for linear in model.linears if on_cpu)
        self._slots = Slots(model.shape, model.dtype, model.device)
        self._adapters: list[Adapter | None] = []
        self._needed: list[int] = []
        """Most slots of its own each row can come to need."""
        self._lora: LoraStack | None = None
        self._changed = False

    @property
    def count(self) -> int:
        return len(self._adapters)

    @property
    def cached_bytes(self) -> int:
        return self._prefiller.tree.bytes

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        room = waiting[: max(0, self._max_rows - self.count)]
        shared = shared_lengths([job.prompt_ids for job in room]) if self._share else [0] * len(room)
        chosen: list[Job] = []
        longest = max(self._needed, default=0)
        for job, known in zip(room, shared, strict=True):
            longest = max(longest, min(len(job.prompt_ids) - known, LONGEST_COPY) + job.sampling.max_tokens)
            rows = self.count + len(chosen) + 1
            if rows > 1 and rows * longest > self._max_tokens:
                break
            chosen.append(job)
        return chosen

    @torch.inference_mode()
    def admit(self, jobs: Sequence[Job]) -> Admission:
        keys: list[PromptKey] = [(None if job.adapter is None else job.adapter.digest, job.prompt_ids) for job in jobs]
        prompts = self._prefiller.run({key: job.adapter for key, job in zip(keys, jobs, strict=True)})
        logits_BV = torch.stack([logits_V for key in keys if (logits_V := prompts[key].logits_V) is not None])
        cached = [
            # Of equal prompts one is computed.
            prompts[key].cached_tokens if key not in keys[:place] else len(job.prompt_ids)
            for place, (key, job) in enumerate(zip(keys, jobs, strict=True))
        ]
        owns = self._slots.join([prompts[key].path for key in keys])
        self._adapters += [job.adapter for job in jobs]
        self._needed += [own + job.sampling.max_tokens for own, job in zip(owns, jobs, strict=True)]
        self._changed = True
        return Admission(logits_BV, cached)

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int]) -> torch.Tensor:
        if self._changed:
            self._lora = self._loras.for_rows(self._adapters)
            self._changed = False
        positions_N = self._slots.begin_step()
        ids_N = torch.tensor(token_ids, device=self._model.device)
        hidden_NE = self._model.forward(ids_N, positions_N, self._slots, self._lora)
        self._slots.end_step()
        self._pages.after_step()
        return self._model.logits(hidden_NE, self._lora)

    @torch.inference_mode()
    def drop_row(self, row: int) -> None:
        self._slots.leave(row)
        self._adapters[row] = self._adapters[-1]
        self._adapters.pop()
        self._needed[row] = self._needed[-1]
        self._needed.pop()
        self._changed = True

    def clear(self) -> None:
        self._slots.clear()
        self._adapters.clear()
        self._needed.clear()

    def forget(self, digest: str) -> None:
        self._prefiller.tree.forget(digest)
        self._loras.forget(digest)
