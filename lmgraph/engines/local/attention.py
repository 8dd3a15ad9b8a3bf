"""Attention of the local engine: torch's own, with the decode step of grouped heads taken off its slow path.

Shape suffixes: B rows, Q query heads, H key-value heads, G queries a key-value head, T new tokens, S slots, D head
size.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

IMPLEMENTATION = "lmgraph_sdpa"


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
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the form transformers' models call it: [B, T, Q, D] and no weights."""
    rows, query_heads, tokens, size = query_BQTD.shape
    heads = key_BHSD.shape[1]
    # transformers packs the heads itself where there is a mask, and asks torch for grouped heads where there is none;
    # for one token that kernel takes five times as long on a CPU.
    if tokens == 1 and attention_mask is None and query_heads > heads and query_BQTD.device.type == "cpu":
        packed_BHGD = query_BQTD.reshape(rows, heads, query_heads // heads, size)
        output_BHGD = torch.nn.functional.scaled_dot_product_attention(
            packed_BHGD, key_BHSD, value_BHSD, scale=scaling, is_causal=False
        )
        return output_BHGD.reshape(rows, 1, query_heads, -1), None
    output, _ = sdpa_attention_forward(
        module, query_BQTD, key_BHSD, value_BHSD, attention_mask, scaling=scaling, **options
    )
    return output, None
