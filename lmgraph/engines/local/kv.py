"""Key-value memory: what a prompt leaves behind, and the growing buffer a batch decodes in.

Shape suffixes: B rows, H key-value heads, T tokens, S slots, D head dimension. All rows of a buffer end at the same
slot; shorter ones begin later, and what lies before them is masked. This module knows no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

SLOT_CHUNK = 64
"""Slots a full buffer grows by at the least."""


@dataclass(frozen=True, slots=True)
class PromptState:
    """One prompt after its prefill."""

    keys_HTD: list[torch.Tensor]
    """One tensor a layer."""
    values_HTD: list[torch.Tensor]
    logits_V: torch.Tensor
    """fp32 logits of the token after the prompt."""
    length: int
    cached_tokens: int
    """Tokens of the prompt that another prompt of the batch had computed."""


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values in preallocated slots: a step writes one slot and copies nothing."""

    def __init__(self, keys_BHSD: torch.Tensor, values_BHSD: torch.Tensor, used: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys_BHSD = keys_BHSD
        self.values_BHSD = values_BHSD
        self.used = used
        self.rows = keys_BHSD.shape[0]
        self.dtype, self.device = keys_BHSD.dtype, keys_BHSD.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = self.used + key_states.shape[-2]
        if end > self.keys_BHSD.shape[2]:
            self.keys_BHSD = _grown(self.keys_BHSD, end)
            self.values_BHSD = _grown(self.values_BHSD, end)
        self.keys_BHSD[: self.rows, :, self.used : end] = key_states
        self.values_BHSD[: self.rows, :, self.used : end] = value_states
        self.used = end
        return self.keys_BHSD[: self.rows, :, :end], self.values_BHSD[: self.rows, :, :end]

    def get_seq_length(self) -> int:
        return self.used


class BatchMemory:
    """The keys and values of the rows that are being decoded; row ``i`` began with ``states[i]``."""

    def __init__(self, states: Sequence[PromptState]) -> None:
        self.width = max(state.length for state in states)
        self.lengths = [state.length for state in states]
        layers: list[SlotLayer] = []
        for index in range(len(states[0].keys_HTD)):
            sample_HTD = states[0].keys_HTD[index]
            heads, _, key_size = sample_HTD.shape
            value_size = states[0].values_HTD[index].shape[-1]
            slots = self.width + SLOT_CHUNK
            keys_BHSD = sample_HTD.new_zeros((len(states), heads, slots, key_size))
            values_BHSD = sample_HTD.new_zeros((len(states), heads, slots, value_size))
            for row, state in enumerate(states):
                keys_BHSD[row, :, self.width - state.length : self.width] = state.keys_HTD[index]
                values_BHSD[row, :, self.width - state.length : self.width] = state.values_HTD[index]
            layers.append(SlotLayer(keys_BHSD, values_BHSD, self.width))
        self.layers = layers
        self.cache = Cache(layers=list(layers))
        self.steps = 0

    @property
    def rows(self) -> int:
        return len(self.lengths)

    def position_ids(self, device: torch.device) -> torch.Tensor:
        """Positions of the tokens of the coming step, [B, 1]."""
        return torch.tensor([[length + self.steps] for length in self.lengths], device=device)

    def attention_mask(self, device: torch.device) -> torch.Tensor | None:
        """1 where a row has a token, the coming step's included, [B, S]; None where all rows are equally long."""
        if min(self.lengths) == self.width:
            return None
        slots_S = torch.arange(self.width + self.steps + 1, device=device)
        starts_B1 = torch.tensor([[self.width - length] for length in self.lengths], device=device)
        return (slots_S >= starts_B1).long()

    def drop_row(self, row: int) -> None:
        """Forget ``row``; the last row takes its place."""
        last = self.rows - 1
        for layer in self.layers:
            if row != last:
                layer.keys_BHSD[row, :, : layer.used] = layer.keys_BHSD[last, :, : layer.used]
                layer.values_BHSD[row, :, : layer.used] = layer.values_BHSD[last, :, : layer.used]
            layer.rows = last
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()


def _grown(slots_BHSD: torch.Tensor, needed: int) -> torch.Tensor:
    rows, heads, slots, size = slots_BHSD.shape
    larger = slots_BHSD.new_zeros((rows, heads, needed + max(SLOT_CHUNK, slots // 4), size))
    larger[:, :, :slots] = slots_BHSD
    return larger
