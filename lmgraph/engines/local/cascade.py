"""Attention in parts: the same tokens attend to several stretches of keys, and the parts are put together exactly.

Shape suffixes: B blocks, N tokens, Q query heads, H key-value heads, G queries a key-value head, T queries, S keys, D
head size. Each part gives its output and the log of its sum of exponentials; weighted by these, the outputs add up to
attention over all keys at once. So rows with a common beginning read its keys once, in one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_FUSED = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
"""torch's attention kernel for CPUs, which gives the log of the sum as well; not one of its public names."""


def attend_part(
    query_BQTD: torch.Tensor,
    key_BQSD: torch.Tensor,
    value_BQSD: torch.Tensor,
    scale: float,
    *,
    bias_BQTS: torch.Tensor | None = None,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, Q, T, D] and log of the sum of exponentials [B, Q, T] over these keys."""
    if _FUSED is not None and query_BQTD.device.type == "cpu":
        output, log_sum = _FUSED(query_BQTD, key_BQSD, value_BQSD, 0.0, causal, attn_mask=bias_BQTS, scale=scale)
        return output, log_sum
    return attend_part_plainly(query_BQTD, key_BQSD, value_BQSD, scale, bias_BQTS=bias_BQTS, causal=causal)


def attend_part_plainly(
    query_BQTD: torch.Tensor,
    key_BQSD: torch.Tensor,
    value_BQSD: torch.Tensor,
    scale: float,
    *,
    bias_BQTS: torch.Tensor | None = None,
    causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`attend_part` in torch's public operations, on any device."""
    scores_BQTS = torch.matmul(query_BQTD, key_BQSD.transpose(2, 3)).float().mul_(scale)
    if bias_BQTS is not None:
        scores_BQTS = scores_BQTS + bias_BQTS
    if causal:
        tokens = scores_BQTS.shape[-1]
        later_TS = torch.ones((tokens, tokens), dtype=torch.bool, device=scores_BQTS.device).triu(1)
        scores_BQTS.masked_fill_(later_TS, float("-inf"))
    log_sum_BQT = torch.logsumexp(scores_BQTS, dim=-1)
    weights_BQTS = torch.exp(scores_BQTS - log_sum_BQT.unsqueeze(-1)).to(value_BQSD.dtype)
    return torch.matmul(weights_BQTS, value_BQSD), log_sum_BQT


@dataclass(frozen=True, slots=True)
class SharedBlock:
    """Spans that several tokens of the step attend to in full: to each span equally many."""

    keys_values_L2BHSD: torch.Tensor
    tokens: slice | torch.Tensor
    """Which tokens, those of the first span first: a slice, or indices. A token may stand there twice."""
    bias_BS: torch.Tensor | None = None
    """-inf where a span has no token, 0 elsewhere; None where all are equally long."""


def attend_shared(
    layer: int,
    query_NHGD: torch.Tensor,
    blocks: Sequence[SharedBlock],
    output_NHGD: torch.Tensor,
    log_sum_NHG: torch.Tensor,
    scale: float,
) -> None:
    """Put attention over ``blocks`` together with that over other keys, in place."""
    for block in blocks:
        tokens = block.tokens
        chosen_nHGD = query_NHGD[tokens]
        count, heads, queries, size = chosen_nHGD.shape
        keys_BHSD, values_BHSD = block.keys_values_L2BHSD[layer]
        spans = keys_BHSD.shape[0]
        folded = (spans, count // spans, heads, queries)
        bias = None if block.bias_BS is None else block.bias_BS[:, None, None]
        found_BHTD, log_sum_BHT = attend_part(
            chosen_nHGD.view(*folded, size).transpose(1, 2).reshape(spans, heads, -1, size),
            keys_BHSD,
            values_BHSD,
            scale,
            bias_BQTS=bias,
        )
        unfolded = (spans, heads, count // spans, queries)
        found_nHGD = found_BHTD.reshape(*unfolded, size).transpose(1, 2).flatten(0, 1)
        log_sum_nHG = log_sum_BHT.reshape(unfolded).transpose(1, 2).flatten(0, 1)
        before_nHG = log_sum_NHG[tokens]
        share_nHG1 = torch.sigmoid(log_sum_nHG - before_nHG).unsqueeze(-1).to(output_NHGD.dtype)
        both_nHG = torch.logaddexp(before_nHG, log_sum_nHG)
        if isinstance(tokens, slice):
            output_NHGD[tokens].lerp_(found_nHGD, share_nHG1)
            log_sum_NHG[tokens] = both_nHG
        else:
            # What stands there twice is written twice, with equal values.
            output_NHGD.index_copy_(0, tokens, torch.lerp(output_NHGD[tokens], found_nHGD, share_nHG1))
            log_sum_NHG.index_copy_(0, tokens, both_nHG)
