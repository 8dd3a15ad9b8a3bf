"""The spans that rows share, made ready for attention: long ones as they are, short ones side by side.

Shape suffixes: L layers, B spans, H key-value heads, S slots, D head size; the 2 is keys and values. Every block costs
some calls a layer and step, so spans of similar length are put into one. Whose rows they are is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lmgraph.engines.local.cascade import SharedBlock
from lmgraph.engines.local.plan import similar
from lmgraph.engines.local.prefix_tree import Span

LONGEST_STACKED = 256
"""Tokens; longer spans are not copied to stand beside others."""
Followed = tuple[Span, list[int]]
"""A span, and the rows that have it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Spans side by side, padded to the longest."""

    spans: list[Span]
    keys_values_L2BHSD: torch.Tensor
    bias_BS: torch.Tensor | None


class Blocks:
    """Finds blocks for rows, and keeps the copies it made as long as their spans are asked for together."""

    def __init__(self) -> None:
        self._stacks: dict[tuple[int, ...], Stack] = {}

    def clear(self) -> None:
        self._stacks.clear()

    def find(self, rows: Sequence[Sequence[Span]]) -> list[SharedBlock]:
        """Blocks so that every row attends to each of its spans once."""
        followers: dict[int, Followed] = {}
        for place, spans in enumerate(rows):
            for span in spans:
                followers.setdefault(id(span), (span, []))[1].append(place)
        short = [known for known in followers.values() if known[0].length <= LONGEST_STACKED]
        groups = [
            disjoint
            for group in similar([span.length for span, _ in short])
            for disjoint in _disjoint([short[place] for place in group])
        ]
        alone = [known for known in followers.values() if known[0].length > LONGEST_STACKED]
        alone += [group[0] for group in groups if len(group) == 1]
        blocks = [SharedBlock(span.block, _indices(places, span.block.device)) for span, places in alone]
        before, self._stacks = self._stacks, {}
        for group in groups:
            if len(group) > 1:
                key = tuple(id(span) for span, _ in group)
                stack = self._stacks[key] = before.get(key) or _stack([span for span, _ in group])
                most = max(len(places) for _, places in group)
                # Spans with fewer rows have their last row several times.
                tokens = [places[min(nth, len(places) - 1)] for _, places in group for nth in range(most)]
                kept = stack.keys_values_L2BHSD
                blocks.append(SharedBlock(kept, torch.tensor(tokens, device=kept.device), stack.bias_BS))
        return blocks


def _disjoint(spans: list[Followed]) -> list[list[Followed]]:
    """The spans in groups of which no row has two: a row's output can be added to once a block."""
    groups: list[tuple[set[int], list[Followed]]] = []
    for span, places in spans:
        for rows, group in groups:
            if rows.isdisjoint(places):
                rows.update(places)
                group.append((span, places))
                break
        else:
            groups.append((set(places), [(span, places)]))
    return [group for _, group in groups]


def _indices(places: list[int], device: torch.device) -> slice | torch.Tensor:
    if places[-1] - places[0] == len(places) - 1:
        return slice(places[0], places[-1] + 1)
    return torch.tensor(places, device=device)


def _stack(spans: list[Span]) -> Stack:
    longest = max(span.length for span in spans)
    layers, two, heads, _, size = spans[0].keys_values_L2HTD.shape
    stacked = spans[0].keys_values_L2HTD.new_zeros((layers, two, len(spans), heads, longest, size))
    for place, span in enumerate(spans):
        stacked[:, :, place, :, : span.length] = span.keys_values_L2HTD
    if all(span.length == longest for span in spans):
        return Stack(spans, stacked, None)
    lengths_B1 = torch.tensor([[span.length] for span in spans], device=stacked.device)
    empty_BS = torch.arange(longest, device=stacked.device) >= lengths_B1
    bias_BS = stacked.new_zeros(empty_BS.shape).masked_fill_(empty_BS, float("-inf"))
    return Stack(spans, stacked, bias_BS)
