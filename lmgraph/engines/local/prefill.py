"""Prefill: prompts to key-values, every shared beginning computed once.

Shape suffixes: B prompts, T suffix tokens (padded on the left), S cached and suffix tokens, H heads, D head dimension.
Prompts that begin alike form a family: their common prefix goes through the model alone, is expanded, and the
remainders follow in batches of similar length. Equal prompts are one prompt. Sampling is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from lmgraph.engines.local.kv import PromptState
from lmgraph.engines.local.plan import PromptFamily, find_families
from lmgraph.engines.local.prefix_tree import TokenIds
from lmgraph.engines.local.weights import Weights

LARGEST_PREFILL_TOKENS = 8192
"""Padded tokens of one forward pass, which bound its memory."""


def prefill(
    weights: Weights, prompts: Sequence[TokenIds], *, share_prefixes: bool = True
) -> dict[TokenIds, PromptState]:
    """The state of every distinct prompt."""
    distinct = sorted(set(prompts))
    families = find_families(distinct) if share_prefixes else [PromptFamily(distinct, 0)]
    states: dict[TokenIds, PromptState] = {}
    for family in families:
        prefix = _prefill_prefix(weights, family.prompts[0][: family.shared]) if family.shared else None
        # Padding stands between the prefix and the rest, where it would push the prefix out of a window.
        for portion in _portions(family, padded=not (family.shared and weights.windowed)):
            states.update(_prefill_portion(weights, portion, family.shared, prefix))
        # One prompt of a family pays for the prefix; the others find it there.
        payer = states[family.prompts[0]]
        states[family.prompts[0]] = PromptState(payer.keys_HTD, payer.values_HTD, payer.logits_V, payer.length, 0)
    return states


def _portions(family: PromptFamily, *, padded: bool) -> list[list[TokenIds]]:
    """The family's prompts by length, cut so that a forward pass stays within the memory bound.

    Without ``padded``, all prompts of a portion are equally long.
    """
    portions: list[list[TokenIds]] = []
    for prompt in sorted(family.prompts, key=len):
        # Sorted by length: the newest is the longest, and all others are padded to it.
        fits = portions and (len(portions[-1]) + 1) * (len(prompt) - family.shared) <= LARGEST_PREFILL_TOKENS
        if fits and (padded or len(portions[-1][0]) == len(prompt)):
            portions[-1].append(prompt)
        else:
            portions.append([prompt])
    return portions


def _prefill_prefix(weights: Weights, prefix: TokenIds) -> Any:
    cache: Any = DynamicCache()
    ids_BT = torch.tensor([prefix], device=weights.device)
    positions_BT = torch.arange(len(prefix), device=weights.device).unsqueeze(0)
    weights.last_logits(ids_BT, positions_BT, None, cache)
    return cache


def _prefill_portion(
    weights: Weights, portion: list[TokenIds], shared: int, prefix: Any
) -> dict[TokenIds, PromptState]:
    device = weights.device
    lengths = [len(prompt) - shared for prompt in portion]
    longest = max(lengths)
    pads = [longest - length for length in lengths]
    cache: Any = DynamicCache()
    if prefix is not None:
        for index, layer in enumerate(prefix.layers):
            cache.update(
                layer.keys.expand(len(portion), -1, -1, -1), layer.values.expand(len(portion), -1, -1, -1), index
            )
    ids_BT = torch.tensor(
        [[0] * pad + list(prompt[shared:]) for pad, prompt in zip(pads, portion, strict=True)], device=device
    )
    pads_B1 = torch.tensor(pads, device=device).unsqueeze(1)
    slots_T = torch.arange(longest, device=device)
    positions_BT = (shared + slots_T - pads_B1).clamp(min=0)
    mask_BS: torch.Tensor | None = None
    if any(pads):
        own_BT = (slots_T >= pads_B1).long()
        mask_BS = torch.cat([own_BT.new_ones((len(portion), shared)), own_BT], dim=1)
    logits_BV = weights.last_logits(ids_BT, positions_BT, mask_BS, cache)
    return {
        prompt: PromptState(
            keys_HTD=[_without_padding(layer.keys[row], shared, pad) for layer in cache.layers],
            values_HTD=[_without_padding(layer.values[row], shared, pad) for layer in cache.layers],
            logits_V=logits_BV[row],
            length=len(prompt),
            cached_tokens=shared,
        )
        for row, (prompt, pad) in enumerate(zip(portion, pads, strict=True))
    }


def _without_padding(slots_HSD: torch.Tensor, shared: int, pad: int) -> torch.Tensor:
    if pad == 0:
        return slots_HSD
    return torch.cat([slots_HSD[:, :shared], slots_HSD[:, shared + pad :]], dim=1)
