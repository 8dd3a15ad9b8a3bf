"""Choosing one token a row from logits: temperature, top-k, top-p, one uniform number a token.

Shape suffixes: B rows, V vocabulary, R rows that sample, K blocks of S tokens. A row's uniforms come from its own seed
and prompt, so its tokens do not depend on the batch it is in. Which rows there are, and masks of constraints, are the
caller's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch

from lmgraph.runtime.engine import SamplingParams

FIRST_NUCLEUS = 256
"""Tokens that are looked at first for top-p; more where they do not hold enough."""
BLOCK = 256
"""Tokens of the vocabulary that are summed up together."""


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
    """Choose one token for every row of fp32 logits, which are used up; masked tokens are -inf there."""
    device = logits_BV.device
    temperatures = [params.temperature if params.temperature > 0 else 1.0 for params in sampling]
    if any(temperature != 1.0 for temperature in temperatures):
        logits_BV.div_(torch.tensor(temperatures, device=device).unsqueeze(1))
    largest_B1, tokens_B1 = logits_BV.max(dim=-1, keepdim=True)
    tokens_B = tokens_B1.squeeze(1)
    # In place: over a large vocabulary, every further tensor of this size costs about as much as a layer of the model.
    weights_BV = logits_BV.sub_(largest_B1).exp_()
    sums_BK = _block_sums(weights_BV)
    totals_B = sums_BK.sum(dim=-1)
    free = [row for row, params in enumerate(sampling) if params.temperature > 0 and not _cuts(params)]
    if free:
        rows_R = torch.tensor(free, device=device)
        drawn_R = torch.tensor([uniforms[row].draw() for row in free], dtype=torch.float64, device=device)
        tokens_B[rows_R] = _invert_blocks(weights_BV, sums_BK, rows_R, drawn_R)
    for row, params in enumerate(sampling):
        if params.temperature > 0 and _cuts(params):
            kept_1V = keep_top(weights_BV[row], params.top_k, params.top_p).unsqueeze(0)
            drawn_1 = torch.tensor([uniforms[row].draw()], dtype=torch.float64, device=device)
            tokens_B[row] = invert_distribution(kept_1V, drawn_1)[0]
    logprobs_B = weights_BV.gather(1, tokens_B.unsqueeze(1)).squeeze(1).log() - totals_B.log()
    return ChosenTokens(tokens_B.tolist(), logprobs_B.tolist())


def keep_top(weights_V: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """``weights_V`` with everything outside the top k and the top-p nucleus set to 0."""
    size = weights_V.numel()
    limited = 0 < top_k < size
    if not limited and top_p >= 1.0:
        return weights_V.clone()
    # A nucleus is small as a rule, and a vocabulary takes long to sort.
    count = top_k if limited else min(FIRST_NUCLEUS, size)
    while True:
        kept, order = torch.topk(weights_V, count)
        if top_p < 1.0:
            # The token that crosses top_p stays in: what counts is the mass before it. top-p follows top-k, so the
            # mass is of what top-k left.
            inside = kept.cumsum(0) - kept < top_p * (kept if limited else weights_V).sum()
            if bool(inside[-1]) and not limited and count < size:
                count = min(size, count * 8)
                continue
            kept[~inside] = 0
        return torch.zeros_like(weights_V).scatter(0, order, kept)


def invert_distribution(probabilities_RV: torch.Tensor, uniforms_R: torch.Tensor) -> torch.Tensor:
    """The first token whose cumulative probability exceeds the row's uniform number, [R]."""
    # Double precision: in single precision the sum over a vocabulary is off by more than a rare token's probability.
    cumulative_RV = probabilities_RV.double().cumsum(dim=-1)
    return _first_above(cumulative_RV, (uniforms_R * cumulative_RV[:, -1]).unsqueeze(1)).squeeze(1)


def _cuts(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1.0


def _block_sums(weights_BV: torch.Tensor) -> torch.Tensor:
    """Sums of BLOCK tokens each, in double precision, [B, K]."""
    whole = weights_BV.shape[1] // BLOCK * BLOCK
    sums_BK: torch.Tensor = weights_BV[:, :whole].reshape(weights_BV.shape[0], -1, BLOCK).sum(dim=-1)
    if whole < weights_BV.shape[1]:
        sums_BK = torch.cat([sums_BK, weights_BV[:, whole:].sum(dim=-1, keepdim=True)], dim=1)
    return sums_BK.double()


def _invert_blocks(
    weights_BV: torch.Tensor, sums_BK: torch.Tensor, rows_R: torch.Tensor, uniforms_R: torch.Tensor
) -> torch.Tensor:
    """`invert_distribution` of the rows' weights, block first and token then: only one block a row is summed up."""
    cumulative_RK = sums_BK[rows_R].cumsum(dim=-1)
    targets_R1 = (uniforms_R * cumulative_RK[:, -1]).unsqueeze(1)
    blocks_R1 = _first_above(cumulative_RK, targets_R1)
    before_R1 = cumulative_RK.gather(1, blocks_R1) - sums_BK[rows_R].gather(1, blocks_R1)
    places_RS = blocks_R1 * BLOCK + torch.arange(BLOCK, device=weights_BV.device)
    last = weights_BV.shape[1] - 1
    block_RS = weights_BV[rows_R.unsqueeze(1), places_RS.clamp(max=last)].double()
    block_RS.masked_fill_(places_RS > last, 0.0)
    tokens_R1 = blocks_R1 * BLOCK + _first_above(block_RS.cumsum(dim=-1), (targets_R1 - before_R1).clamp(min=0.0))
    return tokens_R1.squeeze(1).clamp(max=last)


def _first_above(cumulative_RK: torch.Tensor, targets_R1: torch.Tensor) -> torch.Tensor:
    """The first place whose cumulative sum exceeds the target, [R, 1]."""
    places_R1 = torch.searchsorted(cumulative_RK, targets_R1, right=True)
    # Rounding may put a target on the total: the last place with any weight is meant then.
    return torch.minimum(places_R1, torch.searchsorted(cumulative_RK, cumulative_RK[:, -1:].contiguous()))
