"""Decoding one batch: prefill, then token by token until every row has ended.

Shape suffixes: B rows, V vocabulary. Rows end each in its own time and leave the batch at once. Where jobs come from
and where results go is the worker's business.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import torch

from lmgraph.engines.local.adapters import Adapter
from lmgraph.engines.local.constrain import ConstrainedRow, ConstraintCompiler, pack_allowed
from lmgraph.engines.local.kv import BatchMemory
from lmgraph.engines.local.prefill import PromptIds, prefill
from lmgraph.engines.local.sample import UniformStream, choose_tokens
from lmgraph.engines.local.weights import Weights
from lmgraph.errors import EngineError, LmgraphError
from lmgraph.runtime.engine import FinishReason, Generation, SamplingParams


@dataclass(slots=True)
class Job:
    """One request on its way through the engine. Ended once its future is done, cancelled included."""

    prompt_ids: PromptIds
    sampling: SamplingParams
    stop_ids: tuple[int, ...]
    adapter: Adapter | None
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


@dataclass(slots=True)
class Row:
    """A job while it is being decoded."""

    job: Job
    uniforms: UniformStream
    constraint: ConstrainedRow | None
    cached_tokens: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    allowed: list[bytes] = field(default_factory=list)
    """Where a constrained row is sampled: the set each token was chosen from, which training needs."""
    complete: bool = False
    """The constraint's text has ended and the request has no stop token to say so."""


class BatchDecoder:
    """Runs batches of jobs that share an adapter, which the caller has put in place."""

    def __init__(self, weights: Weights, compiler: ConstraintCompiler, *, share_prefixes: bool = True) -> None:
        self._weights = weights
        self._compiler = compiler
        self._share_prefixes = share_prefixes

    @torch.inference_mode()
    def run(self, jobs: Sequence[Job]) -> None:
        """Decode ``jobs`` and settle each as soon as it has ended."""
        started = time.monotonic()
        jobs = [job for job in jobs if not job.ended]
        constraints = {id(job): self._start_constraint(job) for job in jobs}
        jobs = sorted((job for job in jobs if not job.ended), key=lambda job: len(job.prompt_ids))
        if not jobs:
            return
        states = prefill(self._weights, [job.prompt_ids for job in jobs], share_prefixes=self._share_prefixes)
        seen: set[PromptIds] = set()
        rows: list[Row] = []
        for job in jobs:
            state = states[job.prompt_ids]
            cached = state.length if job.prompt_ids in seen else state.cached_tokens
            seen.add(job.prompt_ids)
            uniforms = UniformStream(job.sampling.seed, job.prompt_ids)
            rows.append(Row(job, uniforms, constraints[id(job)], cached))
        memory = BatchMemory([states[job.prompt_ids] for job in jobs])
        logits_BV = torch.stack([states[job.prompt_ids].logits_V for job in jobs])
        del states
        prefilled = time.monotonic()
        while True:
            self._choose(rows, logits_BV)
            self._leave(rows, memory, started, prefilled)
            if not rows:
                return
            logits_BV = self._step(rows, memory)

    def _start_constraint(self, job: Job) -> ConstrainedRow | None:
        if job.sampling.constraint is None:
            return None
        try:
            return self._compiler.start(job.sampling.constraint, job.stop_ids)
        except LmgraphError as error:
            job.fail(error)
            return None

    def _step(self, rows: Sequence[Row], memory: BatchMemory) -> torch.Tensor:
        device = self._weights.device
        ids_BT = torch.tensor([[row.token_ids[-1]] for row in rows], device=device)
        logits_BV = self._weights.last_logits(
            ids_BT, memory.position_ids(device), memory.attention_mask(device), memory.cache
        )
        memory.steps += 1
        return logits_BV

    def _choose(self, rows: Sequence[Row], logits_BV: torch.Tensor) -> None:
        """Append one token to every row; a row that cannot have one is settled here."""
        for index, row in enumerate(rows):
            if row.constraint is None or row.job.ended:
                continue
            try:
                allowed_V = row.constraint.allowed()
            except EngineError as error:
                row.job.fail(error)
                continue
            if not bool(allowed_V.any()):
                row.complete = True
                continue
            if row.job.sampling.temperature > 0:
                row.allowed.append(pack_allowed(allowed_V))
            logits_BV[index].masked_fill_(~allowed_V[: logits_BV.shape[1]].to(logits_BV.device), float("-inf"))
        chosen = choose_tokens(logits_BV, [row.job.sampling for row in rows], [row.uniforms for row in rows])
        for row, token, logprob in zip(rows, chosen.token_ids, chosen.logprobs, strict=True):
            if row.job.ended or row.complete:
                continue
            if logprob != logprob:  # NaN is the only number that differs from itself
                row.job.fail(EngineError("the model's output is not a number; its weights may be damaged."))
                continue
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            if row.constraint is not None:
                try:
                    row.constraint.accept(token)
                except EngineError as error:
                    row.job.fail(error)

    def _leave(self, rows: list[Row], memory: BatchMemory, started: float, prefilled: float) -> None:
        """Settle ended rows and take them out of the batch."""
        for index in range(len(rows) - 1, -1, -1):
            row = rows[index]
            reason = _finish_reason(row)
            if reason is not None and not row.job.ended:
                row.job.succeed(
                    Generation(
                        token_ids=row.token_ids,
                        logprobs=row.logprobs,
                        finish_reason=reason,
                        allowed=row.allowed or None,
                        cached_tokens=row.cached_tokens,
                        queue_seconds=started - row.job.submitted_at,
                        prefill_seconds=prefilled - started,
                        decode_seconds=time.monotonic() - prefilled,
                    )
                )
            if row.job.ended:
                memory.drop_row(index)
                rows[index] = rows[-1]
                rows.pop()


def _finish_reason(row: Row) -> FinishReason | None:
    if row.complete or (row.token_ids and row.token_ids[-1] in row.job.stop_ids):
        return "stop"
    return "length" if len(row.token_ids) >= row.job.sampling.max_tokens else None
