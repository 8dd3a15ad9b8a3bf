"""Choosing one token a row from logits: temperature, top-k, top-p, one uniform number a token.

Shape suffixes: B rows, V vocabulary, R rows that sample. A row's uniforms come from its own seed and prompt, so its
tokens do not depend on the batch it is in. Which rows there are, and masks of constraints, are the caller's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch

from lmgraph.runtime.engine import SamplingParams


@dataclass(frozen=True, slots=True)
class ChosenTokens:
    """One token a row."""

    token_ids: list[int]
    logprobs: list[float]
    """log-softmax of logits / temperature, in nats, before top-k and top-p."""


class UniformStream:
    """The uniform numbers of one request: the n-th depends on seed, prompt and n only."""

    def __init__(self, seed: int, prompt_ids: Sequence[int]) -> None:
        # The prompt takes part so that equal seeds of different prompts do not draw alike.
        identity = f"{seed}:{','.join(map(str, prompt_ids))}"
        key = int.from_bytes(hashlib.blake2b(identity.encode("ascii"), digest_size=16).digest(), "little")
        self._generator = numpy.random.Generator(numpy.random.Philox(key=key))

    def draw(self) -> float:
        """The next number in [0, 1)."""
        return float(self._generator.random())


def choose_tokens(
    logits_BV: torch.Tensor, sampling: Sequence[SamplingParams], uniforms: Sequence[UniformStream]
) -> ChosenTokens:
    """Choose one token for every row of fp32 logits; masked tokens are -inf there."""
    temperatures = [params.temperature if params.temperature > 0 else 1.0 for params in sampling]
    if any(temperature != 1.0 for temperature in temperatures):
        logits_BV = logits_BV / torch.tensor(temperatures, device=logits_BV.device).unsqueeze(1)
    logprobs_BV = torch.log_softmax(logits_BV, dim=-1)
    tokens_B = torch.argmax(logits_BV, dim=-1)
    sampled = [row for row, params in enumerate(sampling) if params.temperature > 0]
    if sampled:
        rows_R = torch.tensor(sampled, device=logits_BV.device)
        probabilities_RV = logprobs_BV[rows_R].exp()
        for index, row in enumerate(sampled):
            if sampling[row].top_k > 0 or sampling[row].top_p < 1.0:
                probabilities_RV[index] = keep_top(probabilities_RV[index], sampling[row].top_k, sampling[row].top_p)
        drawn_R = torch.tensor([uniforms[row].draw() for row in sampled], dtype=torch.float64, device=logits_BV.device)
        tokens_B[rows_R] = invert_distribution(probabilities_RV, drawn_R)
    logprobs_B = logprobs_BV.gather(1, tokens_B.unsqueeze(1)).squeeze(1)
    return ChosenTokens(tokens_B.tolist(), logprobs_B.tolist())


def keep_top(probabilities_V: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """``probabilities_V`` with everything outside the top k and the top-p nucleus set to 0."""
    sorted_V, order_V = torch.sort(probabilities_V, descending=True, stable=True)
    if 0 < top_k < sorted_V.numel():
        sorted_V[top_k:] = 0
    if top_p < 1.0:
        # The token that crosses top_p stays in: what counts is the mass before it. top-p follows top-k, so the mass
        # is of what top-k left.
        before_V = sorted_V.cumsum(0) - sorted_V
        sorted_V[before_V >= top_p * sorted_V.sum()] = 0
    return torch.zeros_like(probabilities_V).scatter(0, order_V, sorted_V)


def invert_distribution(probabilities_RV: torch.Tensor, uniforms_R: torch.Tensor) -> torch.Tensor:
    """The first token whose cumulative probability exceeds the row's uniform number, [R]."""
    # Double precision: in single precision the sum over a vocabulary is off by more than a rare token's probability.
    cumulative_RV = probabilities_RV.double().cumsum(dim=-1)
    targets_R1 = (uniforms_R * cumulative_RV[:, -1]).unsqueeze(1)
    tokens_R = torch.searchsorted(cumulative_RV, targets_R1, right=True).squeeze(1)
    # Rounding may put a target on the total: the last token with any probability is meant then.
    last_R = torch.searchsorted(cumulative_RV, cumulative_RV[:, -1:].contiguous()).squeeze(1)
    return torch.minimum(tokens_R, last_R)
