"""The running batch: jobs join it, every row gets a token a step, and ended rows leave at once.

Shape suffixes: B or N rows, V vocabulary. Where key-values lie and how the model computes is the business of `Rows`;
where jobs come from is the worker's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lmgraph.engines.local.constrain import ConstrainedRow, ConstraintCompiler, mask_logits
from lmgraph.engines.local.jobs import Job, Rows
from lmgraph.engines.local.sample import UniformStream, choose_tokens
from lmgraph.errors import EngineError, LmgraphError
from lmgraph.runtime.engine import FinishReason, Generation


@dataclass(slots=True)
class Row:
    """A job while it is being decoded."""

    job: Job
    uniforms: UniformStream
    constraint: ConstrainedRow | None
    cached_tokens: int
    started: float
    prefilled: float
    logprobs: list[float] = field(default_factory=list)
    allowed: list[bytes] = field(default_factory=list)
    """Where a constrained row is sampled: the set each token was chosen from, which training needs."""
    complete: bool = False
    """The constraint's text has ended and the request has no stop token to say so."""


class RunningBatch:
    """Rows under way, in the order that ``memory`` has them in. Used by one thread at a time."""

    def __init__(self, memory: Rows, compiler: ConstraintCompiler) -> None:
        self._memory = memory
        self._compiler = compiler
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        """Those of ``waiting`` that can join now; at least one if nothing runs."""
        return self._memory.choose(waiting)

    @torch.inference_mode()
    def admit(self, jobs: Sequence[Job]) -> None:
        """Let ``jobs`` join and choose their first tokens. If that fails, it raises, and the rows are as before."""
        started = time.monotonic()
        constraints: dict[int, ConstrainedRow | None] = {}
        for job in jobs:
            if not job.ended:
                try:
                    constraints[id(job)] = self._start_constraint(job)
                except LmgraphError as error:
                    job.fail(error)
        jobs = [job for job in jobs if id(job) in constraints]
        if not jobs:
            return
        admission = self._memory.admit(jobs)
        prefilled = time.monotonic()
        before = len(self._rows)
        try:
            joined = [
                Row(
                    job,
                    UniformStream(job.sampling.seed, job.prompt_ids),
                    constraints[id(job)],
                    cached,
                    started,
                    prefilled,
                )
                for job, cached in zip(jobs, admission.cached_tokens, strict=True)
            ]
            self._rows += joined
            self._choose(joined, admission.logits_BV)
        except Exception:
            del self._rows[before:]
            for place in reversed(range(before, before + len(jobs))):
                self._memory.drop_row(place)
            raise
        self._leave()

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row that was not cancelled."""
        self._leave()
        if not self._rows:
            return
        logits_NV = self._memory.step([row.job.token_ids[-1] for row in self._rows])
        self._choose(self._rows, logits_NV)
        self._leave()

    def fail(self, error: BaseException) -> None:
        """End all rows with ``error``."""
        for row in self._rows:
            row.job.fail(error)
        self._rows.clear()
        self._memory.clear()

    def _start_constraint(self, job: Job) -> ConstrainedRow | None:
        constraint = job.sampling.constraint
        return None if constraint is None else self._compiler.start(constraint, job.stop_ids)

    def _choose(self, rows: Sequence[Row], logits_BV: torch.Tensor) -> None:
        """Append one token to every row; a row that cannot have one is settled here."""
        self._mask(rows, logits_BV)
        chosen = choose_tokens(logits_BV, [row.job.sampling for row in rows], [row.uniforms for row in rows])
        for row, token, logprob in zip(rows, chosen.token_ids, chosen.logprobs, strict=True):
            if row.job.ended or row.complete:
                continue
            if logprob != logprob:  # NaN is the only number that differs from itself
                row.job.fail(EngineError("the model's output is not a number; its weights may be damaged."))
                continue
            row.job.token_ids.append(token)
            row.logprobs.append(logprob)
            if row.constraint is not None:
                try:
                    row.constraint.accept(token)
                    _end_if_it_must(row, row.constraint)
                except EngineError as error:
                    row.job.fail(error)
            if row.job.on_token is not None:
                row.job.on_token()

    def _mask(self, rows: Sequence[Row], logits_BV: torch.Tensor) -> None:
        places = [place for place, row in enumerate(rows) if row.constraint is not None and not row.job.ended]
        if not places:
            return
        constraints = [constraint for place in places if (constraint := rows[place].constraint) is not None]
        everyone = len(places) == len(rows)
        places_R = torch.tensor(places, device=logits_BV.device)
        logits_RV = logits_BV if everyone else logits_BV[places_R]
        masks = mask_logits(constraints, logits_RV)
        if not everyone:
            logits_BV[places_R] = logits_RV
        for index, place in enumerate(places):
            row, problem = rows[place], masks.problems[index]
            row.complete = not masks.goes_on[index]
            if problem is not None:
                row.job.fail(problem)
            elif not row.complete and row.job.sampling.temperature > 0:
                row.allowed.append(masks.packed(index))

    def _leave(self) -> None:
        """Settle ended rows and take them out of the batch."""
        rows = self._rows
        for place in range(len(rows) - 1, -1, -1):
            row = rows[place]
            reason = _finish_reason(row)
            if reason is not None and not row.job.ended:
                row.job.succeed(
                    Generation(
                        token_ids=row.job.token_ids,
                        logprobs=row.logprobs,
                        allowed=row.allowed or None,
                        finish_reason=reason,
                        cached_tokens=row.cached_tokens,
                        queue_seconds=row.started - row.job.submitted_at,
                        prefill_seconds=row.prefilled - row.started,
                        decode_seconds=time.monotonic() - row.prefilled,
                    )
                )
            if row.job.ended:
                self._memory.drop_row(place)
                rows[place] = rows[-1]
                rows.pop()


def _end_if_it_must(row: Row, constraint: ConstrainedRow) -> None:
    """Where a constrained text can only end now, end it without asking the model."""
    if _finish_reason(row) is not None or not constraint.must_end():
        return
    end = constraint.end()
    if end is None:
        row.complete = True
        return
    token, only = end
    row.job.token_ids.append(token)
    row.logprobs.append(0.0)
    if row.job.sampling.temperature > 0:
        row.allowed.append(only)


def _finish_reason(row: Row) -> FinishReason | None:
    if row.complete or (row.job.token_ids and row.job.token_ids[-1] in row.job.stop_ids):
        return "stop"
    return "length" if len(row.job.token_ids) >= row.job.sampling.max_tokens else None
