"""Attention over a token trie: each block of queries reads its ancestors and itself, so that cost grows with nodes
times depth and not with nodes times nodes.

Shapes: K trie nodes, Q queries of a block, S nodes it reads, H key-value heads, G query heads a key-value head, D head
size.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lmgraph_optimizers.mmgrpo.trie import QueryBlock, TokenTrie

IMPLEMENTATION = "lmgraph_trie"


def register_attention() -> str:
    """Make the attention known to transformers; returns the name to load a model with."""
    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _no_mask)
    return IMPLEMENTATION


def attend(
    module: torch.nn.Module,
    query_1QKD: torch.Tensor,
    key_1HKD: torch.Tensor,
    value_1HKD: torch.Tensor,
    attention_mask: None,
    *,
    trie: TokenTrie,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the form transformers' models call it, for one row whose tokens are the nodes of ``trie``: a tensor
    of shape [1, K, heads, D] and no weights. ``s_aux`` are sinks, one for each query head: they take a share of the
    weights and give nothing."""
    del module, attention_mask, options
    heads, nodes, size = key_1HKD.shape[1:]
    query_HGKD = query_1QKD.view(heads, -1, nodes, size) * (size**-0.5 if scaling is None else scaling)
    outputs = []
    for block in trie.blocks:
        queries = block.stop - block.start
        key_HSD = key_1HKD[0].index_select(1, block.reads_S)
        value_HSD = value_1HKD[0].index_select(1, block.reads_S)
        # The query heads of one key-value head lie in one matrix: no copies of keys, and few, large products.
        packed_HPD = query_HGKD[:, :, block.start : block.stop].flatten(1, 2)
        scores_HPS = packed_HPD @ key_HSD.transpose(1, 2)
        if softcap is not None:
            scores_HPS = softcap * torch.tanh(scores_HPS / softcap)
        scores_HGQS = scores_HPS.view(heads, -1, queries, len(block.reads_S))
        scores_HGQS = scores_HGQS.masked_fill(_hidden(block, sliding_window), -torch.inf)
        if s_aux is not None:
            sinks_HGQ1 = s_aux.to(scores_HGQS.dtype).view(heads, -1, 1, 1).expand(-1, -1, queries, 1)
            scores_HGQS = torch.cat((scores_HGQS, sinks_HGQ1), dim=-1)
        weights_HGQS = torch.softmax(scores_HGQS, dim=-1)[..., : len(block.reads_S)]
        packed_HPD = weights_HGQS.flatten(1, 2).to(value_HSD.dtype) @ value_HSD
        outputs.append(packed_HPD.view(heads, -1, queries, value_HSD.shape[-1]))
    output_HGKD = torch.cat(outputs, dim=2)
    return output_HGKD.flatten(0, 1).transpose(0, 1)[None], None


def _hidden(block: QueryBlock, sliding_window: int | None) -> torch.Tensor:
    if sliding_window is None:
        return block.hidden_QS
    return block.hidden_QS | (block.distance_QS >= sliding_window)


def _no_mask(*arguments: Any, **options: Any) -> None:
    """What may be seen is the trie's affair."""
    del arguments, options
