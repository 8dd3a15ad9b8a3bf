"""Key-values of the rows that are being decoded: what is each row's own, in slots that grow with it.

Shape suffixes: L layers, R rows there is room for, N rows there are, H key-value heads, G queries a key-value head, Q
query heads, S slots, D head size, M written slots; the 2 is keys and values. A row begins at slot 0 and shorter rows
leave their last slots empty; spans that several rows share stay where they are. Sampling and scheduling are not known
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lmgraph.engines.local.blocks import Blocks
from lmgraph.engines.local.cascade import SharedBlock, attend_part, attend_shared
from lmgraph.engines.local.llama import LlamaShape
from lmgraph.engines.local.prefix_tree import Span

SLOT_CHUNK = 32
"""Slots are added in multiples of this."""
WORTH_SHARING = 128
"""Key-values, in tokens, that must not be copied for it: each span costs some calls a layer and step."""
LONGEST_COPY = 512
"""Tokens; a longer span is never copied, even where only one row has it."""


@dataclass(slots=True)
class SlotRow:
    """One row's place in the memory."""

    shared: list[Span]
    length: int
    """Tokens of its prompt, and of its completion as far as they went through the model."""
    own: int
    """How many of them lie in its slots."""


class Slots:
    """The rows' memory, and attention of one decode step over it."""

    def __init__(self, shape: LlamaShape, dtype: torch.dtype, device: torch.device) -> None:
        self._shape = shape
        self._dtype = dtype
        self._device = device
        self.rows: list[SlotRow] = []
        self._slots_L2RHSD: torch.Tensor | None = None
        self._blocks = Blocks()
        self._shared: list[SharedBlock] | None = None
        self._used = 0
        """Slots that some row uses, this step's included."""
        self._used_L2NHSD = torch.empty(0)
        """These slots of the rows there are."""
        self._bias_NHGS: torch.Tensor | None = None
        """None where all rows use equally many."""
        self._written_M = torch.empty(0)
        """Where that is not so: the slots this step writes, of all keys and values of a layer in one list."""

    def join(self, paths: Sequence[Sequence[Span]]) -> list[int]:
        """New rows, each with the spans of its whole prompt; returns how many slots each begins with."""
        followers: dict[int, int] = {}
        for path in (*paths, *(row.shared for row in self.rows)):
            for span in path:
                followers[id(span)] = followers.get(id(span), 0) + 1
        in_place = {id(span) for row in self.rows for span in row.shared}
        copies: list[list[Span]] = []
        joined: list[SlotRow] = []
        for path in paths:
            shared = [span for span in path if id(span) in in_place or _stays(span, followers[id(span)])]
            copied = [span for span in path if not any(span is other for other in shared)]
            own = sum(span.length for span in copied)
            joined.append(SlotRow(shared, own + sum(span.length for span in shared), own))
            copies.append(copied)
        first = len(self.rows)
        slots_L2RHSD = self._ensure(first + len(joined), max((row.own for row in joined), default=0) + 1)
        for place, copied in enumerate(copies, start=first):
            end = 0
            for span in copied:
                start, end = end, end + span.length
                slots_L2RHSD[:, :, place, :, start:end] = span.keys_values_L2HTD
        self.rows.extend(joined)
        self._shared = None
        return [row.own for row in joined]

    def leave(self, place: int) -> None:
        """Forget a row; the last row takes its place."""
        last = len(self.rows) - 1
        if place != last and self._slots_L2RHSD is not None:
            own = self.rows[last].own
            self._slots_L2RHSD[:, :, place, :, :own] = self._slots_L2RHSD[:, :, last, :, :own]
            self.rows[place] = self.rows[last]
        self.rows.pop()
        self._shared = None
        if not self.rows:
            self.clear()

    def clear(self) -> None:
        self.rows.clear()
        self._slots_L2RHSD = None
        self._used_L2NHSD = torch.empty(0)
        self._shared = None
        self._blocks.clear()

    def begin_step(self) -> torch.Tensor:
        """Make ready for one token a row; returns their positions, [N]."""
        owns = [row.own for row in self.rows]
        self._used = max(owns) + 1
        slots_L2RHSD = self._ensure(len(owns), self._used)
        room, heads, slots = slots_L2RHSD.shape[2:5]
        self._used_L2NHSD = slots_L2RHSD[:, :, : len(owns), :, : self._used]
        self._bias_NHGS = None
        if min(owns) != max(owns):
            places_N1 = torch.arange(len(owns), device=self._device).unsqueeze(1)
            owns_N1 = torch.tensor(owns, device=self._device).unsqueeze(1)
            two_21 = torch.arange(2, device=self._device).unsqueeze(1)
            heads_H = torch.arange(heads, device=self._device)
            rows_N21 = (two_21 * room + places_N1.unsqueeze(1)) * heads
            self._written_M = ((rows_N21 + heads_H) * slots + owns_N1.unsqueeze(1)).flatten()
            empty_NS = torch.arange(self._used, device=self._device) > owns_N1
            bias_NS = torch.zeros(empty_NS.shape, dtype=self._dtype, device=self._device)
            bias_NS.masked_fill_(empty_NS, float("-inf"))
            groups = self._shape.query_heads // heads
            self._bias_NHGS = bias_NS[:, None, None].expand(-1, heads, groups, -1)
        if self._shared is None:
            self._shared = self._blocks.find([row.shared for row in self.rows])
        return torch.tensor([row.length for row in self.rows], device=self._device)

    def end_step(self) -> None:
        for row in self.rows:
            row.length += 1
            row.own += 1

    def __call__(self, layer: int, query_NQD: torch.Tensor, key_value_N2HD: torch.Tensor) -> torch.Tensor:
        assert self._slots_L2RHSD is not None
        count, query_heads, size = query_NQD.shape
        heads = key_value_N2HD.shape[2]
        used_2NHSD = self._used_L2NHSD[layer]
        if self._bias_NHGS is None:
            used_2NHSD[:, :, :, -1] = key_value_N2HD.transpose(0, 1)
        else:
            self._slots_L2RHSD[layer].view(-1, size).index_copy_(0, self._written_M, key_value_N2HD.reshape(-1, size))
        key_NHSD, value_NHSD = used_2NHSD.unbind(0)
        query_NHGD = query_NQD.view(count, heads, query_heads // heads, size)
        output_NHGD, log_sum_NHG = attend_part(
            query_NHGD, key_NHSD, value_NHSD, self._shape.scale, bias_BQTS=self._bias_NHGS
        )
        if self._shared:
            attend_shared(layer, query_NHGD, self._shared, output_NHGD, log_sum_NHG, self._shape.scale)
        return output_NHGD.reshape(count, -1)

    def _ensure(self, rows: int, slots: int) -> torch.Tensor:
        """The memory with room for this many; its contents are kept."""
        before = self._slots_L2RHSD
        room, length = (before.shape[2], before.shape[4]) if before is not None else (0, 0)
        if before is not None and rows <= room and slots <= length:
            return before
        if before is not None and rows > room:
            rows = max(rows, room + room // 4)
        if slots > length:
            wanted = max(slots, length + length // 4)
            length = (wanted + SLOT_CHUNK - 1) // SLOT_CHUNK * SLOT_CHUNK
        shape = self._shape
        # Zeros, because empty slots are read before they are masked.
        grown = torch.zeros(
            (shape.layers, 2, max(rows, room), shape.heads, length, shape.head_size),
            dtype=self._dtype,
            device=self._device,
        )
        if before is not None:
            kept = len(self.rows)
            grown[:, :, :kept, :, : before.shape[4]] = before[:, :, :kept]
        self._slots_L2RHSD = grown
        return grown


def _stays(span: Span, followers: int) -> bool:
    """Whether the span is better attended to in place than copied to every row that has it."""
    return span.length > LONGEST_COPY or (followers - 1) * span.length >= WORTH_SHARING
