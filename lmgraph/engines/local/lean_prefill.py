"""Prefill on the lean path: the new tokens of several prompts, each after spans that are known already.

Shape suffixes: N tokens of all sequences in one list, B sequences of a group, T tokens of its longest, Q query heads, H
key-value heads, G queries a key-value head, D head size, L layers. Only attention among new tokens is padded, in
groups of similar length. What is computed for whom is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lmgraph.engines.local.adapters import Adapter
from lmgraph.engines.local.cascade import SharedBlock, attend_part, attend_shared
from lmgraph.engines.local.llama import LlamaModel
from lmgraph.engines.local.lora import LoraStacks
from lmgraph.engines.local.plan import similar
from lmgraph.engines.local.prefix_tree import Span, TokenIds


@dataclass(frozen=True, slots=True)
class Stretch:
    """New tokens of one sequence."""

    context: list[Span]
    ids: TokenIds
    adapter: Adapter | None
    wants_logits: bool

    @property
    def start(self) -> int:
        return sum(span.length for span in self.context)


@dataclass(frozen=True, slots=True)
class Computed:
    """What a stretch left behind."""

    span: Span
    logits_V: torch.Tensor | None
    """fp32 logits of the token after the stretch."""


def compute(model: LlamaModel, loras: LoraStacks, stretches: Sequence[Stretch]) -> list[Computed]:
    """One forward pass over ``stretches``. Those that share spans should stand together."""
    lengths = [len(stretch.ids) for stretch in stretches]
    device = model.device
    ids_N = torch.tensor([token for stretch in stretches for token in stretch.ids], device=device)
    positions_N = torch.cat(
        [torch.arange(stretch.start, stretch.start + len(stretch.ids), device=device) for stretch in stretches]
    )
    attention = PrefillAttention(model, stretches)
    lora = loras.for_rows([stretch.adapter for stretch in stretches for _ in stretch.ids])
    hidden_NE = model.forward(ids_N, positions_N, attention, lora)
    ends: list[int] = []
    for length in lengths:
        ends.append(length + (ends[-1] if ends else 0))
    wanted = [place for place, stretch in enumerate(stretches) if stretch.wants_logits]
    logits: dict[int, torch.Tensor] = {}
    if wanted:
        last_BE = hidden_NE[torch.tensor([ends[place] - 1 for place in wanted], device=device)]
        logits_BV = model.logits(last_BE, loras.for_rows([stretches[place].adapter for place in wanted]))
        logits = dict(zip(wanted, logits_BV, strict=True))
    return [Computed(span, logits.get(place)) for place, span in enumerate(attention.spans)]


class PrefillAttention:
    """Attention of one pass; its spans are filled layer by layer."""

    def __init__(self, model: LlamaModel, stretches: Sequence[Stretch]) -> None:
        shape = model.shape
        self._shape = shape
        self._groups = _groups([len(stretch.ids) for stretch in stretches], model.device)
        self._shared = _shared(stretches)
        self.spans = [
            Span(
                torch.empty(
                    (shape.layers, 2, shape.heads, len(stretch.ids), shape.head_size),
                    dtype=model.dtype,
                    device=model.device,
                )
            )
            for stretch in stretches
        ]

    def __call__(self, layer: int, query_NQD: torch.Tensor, key_value_N2HD: torch.Tensor) -> torch.Tensor:
        count, query_heads, size = query_NQD.shape
        key_NHD, value_NHD = key_value_N2HD.unbind(1)
        heads = key_NHD.shape[1]
        output_NQD = torch.empty_like(query_NQD, memory_format=torch.contiguous_format)
        log_sum_NQ = torch.empty((count, query_heads), device=query_NQD.device)
        for group in self._groups:
            key_BHTD = group.take(key_NHD)
            value_BHTD = group.take(value_NHD)
            for row, place in enumerate(group.places):
                kept_2HTD = self.spans[place].keys_values_L2HTD[layer]
                kept_2HTD[0] = key_BHTD[row, :, : kept_2HTD.shape[2]]
                kept_2HTD[1] = value_BHTD[row, :, : kept_2HTD.shape[2]]
            # Padding stands at the end, so no token of a sequence attends to it.
            found_BQTD, log_sum_BQT = attend_part(
                group.take(query_NQD),
                key_BHTD.repeat_interleave(query_heads // heads, dim=1),
                value_BHTD.repeat_interleave(query_heads // heads, dim=1),
                self._shape.scale,
                causal=True,
            )
            group.put(found_BQTD, output_NQD)
            group.put(log_sum_BQT, log_sum_NQ)
        grouped = (count, heads, query_heads // heads)
        if self._shared:
            attend_shared(
                layer,
                query_NQD.view(*grouped, size),
                self._shared,
                output_NQD.view(*grouped, size),
                log_sum_NQ.view(grouped),
                self._shape.scale,
            )
        return output_NQD.view(count, -1)


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences of similar length."""

    places: list[int]
    """Which sequences."""
    longest: int
    taken: torch.Tensor | slice
    """Where in the list of tokens each of the padded slots comes from, [B * T]."""
    slots_n: torch.Tensor | None
    """Which padded slots hold tokens; None if all do."""
    tokens: torch.Tensor | slice
    """Where these tokens stand in the list."""

    def take(self, x_NXD: torch.Tensor) -> torch.Tensor:
        """[B, X, T, D]."""
        return x_NXD[self.taken].view(len(self.places), self.longest, *x_NXD.shape[1:]).transpose(1, 2)

    def put(self, x_BXT: torch.Tensor, out_NX: torch.Tensor) -> None:
        """Write [B, X, T, ...] back to the list of tokens."""
        slots = x_BXT.transpose(1, 2).flatten(0, 1)
        out_NX[self.tokens] = slots if self.slots_n is None else slots[self.slots_n]


def _groups(lengths: Sequence[int], device: torch.device) -> list[Group]:
    starts = [sum(lengths[:place]) for place in range(len(lengths))]
    groups: list[Group] = []
    for places in similar(lengths):
        longest = lengths[places[0]]
        if len(places) == 1:
            whole = slice(starts[places[0]], starts[places[0]] + longest)
            groups.append(Group(places, longest, whole, None, whole))
            continue
        taken = [starts[place] + min(slot, lengths[place] - 1) for place in places for slot in range(longest)]
        slots = [row * longest + slot for row, place in enumerate(places) for slot in range(lengths[place])]
        taken_BT, slots_n = torch.tensor(taken, device=device), torch.tensor(slots, device=device)
        groups.append(Group(places, longest, taken_BT, slots_n, taken_BT[slots_n]))
    return groups


def _shared(stretches: Sequence[Stretch]) -> list[SharedBlock]:
    """Every span of the contexts with the tokens that attend to it."""
    shared: list[SharedBlock] = []
    open_spans: dict[int, tuple[Span, int, int]] = {}
    end = 0
    for stretch in stretches:
        start, end = end, end + len(stretch.ids)
        for span in stretch.context:
            known = open_spans.get(id(span))
            if known is not None and known[2] == start:
                open_spans[id(span)] = (span, known[1], end)
                continue
            if known is not None:
                shared.append(SharedBlock(span.block, slice(known[1], known[2])))
            open_spans[id(span)] = (span, start, end)
    shared.extend(SharedBlock(span.block, slice(start, stop)) for span, start, stop in open_spans.values())
    return shared
