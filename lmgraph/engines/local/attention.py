"""Attention of models that run through transformers' own forward pass: torch's, where torch can do it.

Shape suffixes: B rows, Q query heads, H key-value heads, G queries a key-value head, T new tokens, S slots, D head
size.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

IMPLEMENTATION = "lmgraph"
LOWEST = torch.finfo(torch.float32).min
"""Score of what may not be seen; not -inf, for padding sees nothing at all."""


def register_attention() -> str:
    """Make the attention known to transformers; returns the name to load a model with."""
    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, sdpa_mask)
    return IMPLEMENTATION


def attend(
    module: torch.nn.Module,
    query_BQTD: torch.Tensor,
    key_BHSD: torch.Tensor,
    value_BHSD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the form transformers' models call it: [B, T, Q, D] and no weights. ``s_aux`` are sinks, [Q]."""
    rows, query_heads, tokens, size = query_BQTD.shape
    heads = key_BHSD.shape[1]
    if softcap is not None or s_aux is not None:
        if position_bias is not None:
            raise NotImplementedError("attention with a position bias and capped scores or sinks")
        scale = size**-0.5 if scaling is None else scaling
        return attend_plainly(query_BQTD, key_BHSD, value_BHSD, attention_mask, scale, softcap, s_aux), None
    # transformers packs the heads itself where there is a mask, and asks torch for grouped heads where there is none;
    # for one token that kernel takes five times as long on a CPU.
    plain = attention_mask is None and position_bias is None
    if tokens == 1 and plain and query_heads > heads and query_BQTD.device.type == "cpu":
        packed_BHGD = query_BQTD.reshape(rows, heads, query_heads // heads, size)
        output_BHGD = torch.nn.functional.scaled_dot_product_attention(
            packed_BHGD, key_BHSD, value_BHSD, scale=scaling, is_causal=False
        )
        return output_BHGD.reshape(rows, 1, query_heads, -1), None
    output, _ = sdpa_attention_forward(
        module,
        query_BQTD,
        key_BHSD,
        value_BHSD,
        attention_mask,
        scaling=scaling,
        position_bias=position_bias,
        **options,
    )
    return output, None


def attend_plainly(
    query_BQTD: torch.Tensor,
    key_BHSD: torch.Tensor,
    value_BHSD: torch.Tensor,
    mask_B1TS: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    sinks_Q: torch.Tensor | None,
) -> torch.Tensor:
    """What torch's attention does not know: scores that are capped, and sinks that take a share of the weights."""
    rows, query_heads, tokens, size = query_BQTD.shape
    heads, slots = key_BHSD.shape[1:3]
    packed_BHPD = query_BQTD.reshape(rows, heads, -1, size)
    scores_BQTS = (packed_BHPD @ key_BHSD.transpose(2, 3)).float().mul_(scale).view(rows, query_heads, tokens, slots)
    if softcap is not None:
        scores_BQTS = scores_BQTS.div_(softcap).tanh_().mul_(softcap)
    if mask_B1TS is None and tokens > 1:
        mask_B1TS = torch.ones((tokens, slots), dtype=torch.bool, device=key_BHSD.device).tril(slots - tokens)
    if mask_B1TS is not None:
        hidden = mask_B1TS.logical_not() if mask_B1TS.dtype == torch.bool else None
        scores_BQTS = scores_BQTS + mask_B1TS if hidden is None else scores_BQTS.masked_fill_(hidden, LOWEST)
    if sinks_Q is not None:
        sinks_BQT1 = sinks_Q.float().view(1, -1, 1, 1).expand(rows, -1, tokens, 1)
        scores_BQTS = torch.cat([scores_BQTS, sinks_BQT1], dim=-1)
    weights_BQTS = torch.softmax(scores_BQTS, dim=-1)[..., :slots].to(value_BHSD.dtype)
    output_BHPD = weights_BQTS.reshape(rows, heads, -1, slots) @ value_BHSD
    return output_BHPD.view(rows, query_heads, tokens, -1).transpose(1, 2)
