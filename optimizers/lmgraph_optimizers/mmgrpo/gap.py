"""How far sampler and trainer are apart in what they give the same tokens, and what becomes of calls that are too far.

Shapes: M tokens of all samples of a micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(slots=True)
class Gap:
    """|log pi - log mu| over the tokens of an update that were a choice, in nats, summed up over its micro-batches."""

    total: float = 0.0
    largest: float = 0.0
    tokens: int = 0
    calls: int = 0
    dropped_calls: int = 0
    dropped_tokens: int = 0

    @property
    def mean(self) -> float:
        return self.total / max(self.tokens, 1)

    def keep(
        self,
        trainer_M: torch.Tensor,
        sampler_M: torch.Tensor,
        calls_M: torch.Tensor,
        chosen_M: torch.Tensor,
        most: float,
    ) -> torch.Tensor:
        """1 for the tokens of calls that may train and 0 for those of calls that may not, [M]; counts them.

        ``trainer_M`` is the policy that the sampler should have had, ``calls_M`` numbers the calls from 0 and
        ``chosen_M`` is 0 where one token only was allowed. A call is outside the band where its mean over chosen
        tokens is above ``most``. What is not finite stays inside: the update is then skipped, and says so.
        """
        gaps_M = (trainer_M - sampler_M).abs() * chosen_M
        calls = int(calls_M[-1]) + 1
        sums = torch.zeros(calls, dtype=gaps_M.dtype, device=gaps_M.device).index_add_(0, calls_M, gaps_M)
        counts = torch.zeros_like(sums).index_add_(0, calls_M, chosen_M)
        outside = sums / counts.clamp(min=1) > most
        self.total += float(gaps_M.sum())
        self.largest = max(self.largest, float(gaps_M.max()))
        self.tokens += int(counts.sum())
        self.calls += calls
        self.dropped_calls += int(outside.sum())
        self.dropped_tokens += int(counts[outside].sum())
        return (~outside).to(gaps_M.dtype)[calls_M]
