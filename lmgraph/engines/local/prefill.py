"""Prefill: prompts to key-values, every shared beginning computed once.

Shape suffixes: B prompts, T suffix tokens (padded on the left), S cached and suffix tokens, H heads, D head dimension.
Prompts that begin alike form a family: their common prefix goes through the model alone, is expanded, and the
remainders follow in batches of similar length. Equal prompts are one prompt. Sampling is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from lmgraph.engines.local.kv import PromptState
from lmgraph.engines.local.weights import Weights

PromptIds = tuple[int, ...]

SMALLEST_SHARED_PREFIX = 16
"""Tokens; a shorter common beginning is not worth a forward pass of its own."""
LARGEST_PREFILL_TOKENS = 8192
"""Padded tokens of one forward pass, which bound its memory."""


@dataclass(frozen=True, slots=True)
class PromptFamily:
    """Distinct prompts that share their first ``shared`` tokens."""

    prompts: list[PromptIds]
    shared: int
    """0: computed without sharing. Always shorter than the shortest prompt."""


def prefill(
    weights: Weights, prompts: Sequence[PromptIds], *, share_prefixes: bool = True
) -> dict[PromptIds, PromptState]:
    """The state of every distinct prompt."""
    distinct = sorted(set(prompts))
    families = find_families(distinct) if share_prefixes else [PromptFamily(distinct, 0)]
    states: dict[PromptIds, PromptState] = {}
    for family in families:
        prefix = _prefill_prefix(weights, family.prompts[0][: family.shared]) if family.shared else None
        for portion in _portions(family):
            states.update(_prefill_portion(weights, portion, family.shared, prefix))
        # One prompt of a family pays for the prefix; the others find it there.
        payer = states[family.prompts[0]]
        states[family.prompts[0]] = PromptState(payer.keys_HTD, payer.values_HTD, payer.logits_V, payer.length, 0)
    return states


def find_families(distinct: Sequence[PromptIds]) -> list[PromptFamily]:
    """Split sorted distinct prompts into families, greedily: a prompt joins as long as the family saves more by it."""
    families: list[PromptFamily] = []
    members: list[PromptIds] = []
    shared = 0
    for prompt in distinct:
        common = min(shared, common_length(members[0], prompt)) if members else 0
        if members and common >= SMALLEST_SHARED_PREFIX and common * len(members) >= shared * (len(members) - 1):
            members.append(prompt)
            shared = common
        else:
            if members:
                families.append(_family(members, shared))
            members, shared = [prompt], len(prompt) - 1
    if members:
        families.append(_family(members, shared))
    return _merge_loners(families)


def common_length(left: PromptIds, right: PromptIds) -> int:
    """Tokens both begin with, at least one token of each left over."""
    limit = min(len(left), len(right)) - 1
    for index in range(limit):
        if left[index] != right[index]:
            return index
    return max(limit, 0)


def _family(members: list[PromptIds], shared: int) -> PromptFamily:
    return PromptFamily(list(members), shared if len(members) > 1 else 0)


def _merge_loners(families: list[PromptFamily]) -> list[PromptFamily]:
    """Prompts that share with none go through the model together."""
    loners = [family.prompts[0] for family in families if len(family.prompts) == 1]
    kept = [family for family in families if len(family.prompts) > 1]
    return [*kept, PromptFamily(loners, 0)] if loners else kept


def _portions(family: PromptFamily) -> list[list[PromptIds]]:
    """The family's prompts by length, cut so that a forward pass stays within the memory bound."""
    portions: list[list[PromptIds]] = []
    for prompt in sorted(family.prompts, key=len):
        # Sorted by length: the newest is the longest, and all others are padded to it.
        if portions and (len(portions[-1]) + 1) * (len(prompt) - family.shared) <= LARGEST_PREFILL_TOKENS:
            portions[-1].append(prompt)
        else:
            portions.append([prompt])
    return portions


def _prefill_prefix(weights: Weights, prefix: PromptIds) -> Any:
    cache: Any = DynamicCache()
    ids_BT = torch.tensor([prefix], device=weights.device)
    positions_BT = torch.arange(len(prefix), device=weights.device).unsqueeze(0)
    weights.last_logits(ids_BT, positions_BT, None, cache)
    return cache


def _prefill_portion(
    weights: Weights, portion: list[PromptIds], shared: int, prefix: Any
) -> dict[PromptIds, PromptState]:
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
