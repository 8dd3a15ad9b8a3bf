"""Log-probabilities of sampled tokens from hidden states, without ever holding the logits of all of them.

The output layer W is frozen, so the derivative of log pi(t) by the hidden state h is (W_t - sum_v pi(v) W_v) / T: one
row a token. It is computed beside the value, a chunk of tokens at a time, and the logits are dropped at once. A chunk
of 256 tokens and a vocabulary of 49,152 take 50 MB where 2,048 tokens with their gradients would take 1.6 GB.
Shapes: N sampled tokens, C tokens of a chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

CHUNK = 256


class SampledLogprobs(torch.autograd.Function):
    """log pi and entropy of each sampled token, both of shape N; the entropy has no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        temperatures_N: torch.Tensor,
        allowed_N: Sequence[bytes | None],
        low_precision: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs_N = torch.empty(len(targets_N), dtype=_precise(hidden_ND.dtype), device=hidden_ND.device)
        entropies_N = torch.empty_like(logprobs_N)
        slopes_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        weight_VD = weight_VD.to(torch.bfloat16) if low_precision else weight_VD
        vocabulary, device = weight_VD.shape[0], weight_VD.device
        for start in range(0, len(targets_N), CHUNK):
            chunk = slice(start, start + CHUNK)
            targets_C1 = targets_N[chunk, None]
            temperatures_C1 = temperatures_N[chunk, None].to(logprobs_N.dtype)
            logits_CV = (hidden_ND[chunk].to(weight_VD.dtype) @ weight_VD.T).to(logprobs_N.dtype) / temperatures_C1
            for row, packed in enumerate(allowed_N[chunk]):
                if packed is not None:
                    logits_CV[row].masked_fill_(~unpack_allowed(packed, vocabulary, device), -torch.inf)
            log_CV = torch.log_softmax(logits_CV, dim=-1)
            del logits_CV
            logprobs_N[chunk] = log_CV.gather(1, targets_C1)[:, 0]
            probabilities_CV = log_CV.exp()
            # 0 times log 0 is 0 here: a token that may not come has no share in the entropy.
            entropies_N[chunk] = -(probabilities_CV * log_CV.clamp_(min=torch.finfo(log_CV.dtype).min)).sum(-1)
            if slopes_ND is not None:
                expected_CD = (probabilities_CV.to(weight_VD.dtype) @ weight_VD).to(hidden_ND.dtype)
                difference_CD = weight_VD[targets_C1[:, 0]].to(hidden_ND.dtype) - expected_CD
                slopes_ND[chunk] = difference_CD / temperatures_C1.to(hidden_ND.dtype)
        ctx.save_for_backward(slopes_ND)
        ctx.mark_non_differentiable(entropies_N)
        return logprobs_N, entropies_N

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor | None, ...]:
        (slopes_ND,) = ctx.saved_tensors
        return (gradients[0][:, None].to(slopes_ND.dtype) * slopes_ND, None, None, None, None, None)


def logprobs_of_logits(
    logits_NV: torch.Tensor,
    targets_N: torch.Tensor,
    temperatures_N: torch.Tensor,
    allowed_N: Sequence[bytes | None],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for a model whose output layer does more than multiply: its logits are needed as a whole."""
    logits_NV = logits_NV.to(_precise(logits_NV.dtype))
    logits_NV = logits_NV / temperatures_N[:, None].to(logits_NV.dtype)
    if any(packed is not None for packed in allowed_N):
        size, device = logits_NV.shape[1], logits_NV.device
        everything_V = torch.ones(size, dtype=torch.bool, device=device)
        rows = [everything_V if packed is None else unpack_allowed(packed, size, device) for packed in allowed_N]
        logits_NV = logits_NV.masked_fill(~torch.stack(rows), -torch.inf)
    log_NV = torch.log_softmax(logits_NV, dim=-1)
    entropies_N = torch.special.entr(log_NV.detach().exp()).sum(-1)
    return log_NV.gather(1, targets_N[:, None])[:, 0], entropies_N


def unpack_allowed(packed: bytes, size: int, device: torch.device) -> torch.Tensor:
    """The set of tokens that ``Call.allowed`` packs, as bool [size]."""
    return _unpacked(packed, size).to(device)


@lru_cache(maxsize=256)  # constrained calls of one module go through the same sets again and again
def _unpacked(packed: bytes, size: int) -> torch.Tensor:
    bits = torch.frombuffer(bytearray(zlib.decompress(packed)), dtype=torch.uint8)
    allowed_V = (bits[:, None] >> torch.arange(8, dtype=torch.uint8)).bitwise_and_(1).flatten()[:size].bool()
    return torch.nn.functional.pad(allowed_V, (0, max(0, size - len(allowed_V))))


def _precise(dtype: torch.dtype) -> torch.dtype:
    """float64 stays; everything else becomes float32."""
    return dtype if dtype == torch.float64 else torch.float32
