"""Key-values of prompts that were computed, by their tokens: a radix tree with a bound on its bytes.

Shape suffixes: L layers, H key-value heads, T tokens, D head size; the 2 is keys and values. An edge holds the
key-values of its tokens; what two prompts begin with alike lies on edges they share. The key-values of a span are
never written again, so rows that are being decoded may go on with spans that the tree has split or dropped. Which
spans are attended to in place and which are copied is not known here.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch

TokenIds = tuple[int, ...]


@dataclass(eq=False, slots=True)
class Span:
    """Key-values of some consecutive tokens; compared by identity."""

    keys_values_L2HTD: torch.Tensor

    @property
    def length(self) -> int:
        return int(self.keys_values_L2HTD.shape[3])

    @property
    def bytes(self) -> int:
        return self.keys_values_L2HTD.numel() * self.keys_values_L2HTD.element_size()

    @property
    def block(self) -> torch.Tensor:
        """The same memory as a block of one span, [L, 2, 1, H, T, D]."""
        return self.keys_values_L2HTD.unsqueeze(2)

    def part(self, start: int, end: int) -> Span:
        """A copy of some of the tokens, in memory of its own."""
        return Span(self.keys_values_L2HTD[:, :, :, start:end].clone(memory_format=torch.contiguous_format))

    def beginning(self, end: int) -> Span:
        """The first ``end`` tokens, in the same memory."""
        return self if end == self.length else Span(self.keys_values_L2HTD[:, :, :, :end])


@dataclass(eq=False, slots=True)
class Node:
    """One edge of the tree and what follows it."""

    ids: TokenIds
    span: Span | None
    """None for a root."""
    parent: Node | None
    children: dict[int, Node] = field(default_factory=dict)
    """By their first token."""
    used_at: int = 0


class PrefixTree:
    """One tree for each owner of key-values: None is the base model, else an adapter's digest. For one thread."""

    def __init__(self) -> None:
        self._roots: dict[Hashable, Node] = {}
        self._bytes = 0
        self._clock = 0

    @property
    def bytes(self) -> int:
        """Bytes of all spans in the tree."""
        return self._bytes

    def find(self, owner: Hashable, ids: TokenIds) -> list[Span]:
        """The spans of the longest known beginning of ``ids``; the last one may be cut short."""
        self._clock += 1
        spans: list[Span] = []
        node, place = self._roots.get(owner), 0
        while node is not None and place < len(ids):
            node = node.children.get(ids[place])
            if node is None or node.span is None:
                break
            node.used_at = self._clock
            common = common_length(node.ids, ids, place)
            spans.append(node.span.beginning(common))
            place += common
            if common < len(node.ids):
                break
        return spans

    def add(self, owner: Hashable, ids: TokenIds, start: int, span: Span) -> None:
        """Keep ``span``, the key-values of ``ids[start:]``. Nothing is kept if the beginning is not in the tree."""
        node, place, common = self._descend(self._roots.setdefault(owner, Node((), None, None)), ids)
        if start <= place < len(ids):
            if common < len(node.ids):
                node = self._split(node, common)
            kept = span if place == start else span.part(place - start, span.length)
            node.children[ids[place]] = Node(ids[place:], kept, node, used_at=self._clock)
            self._bytes += kept.bytes

    def cut(self, owner: Hashable, ids: TokenIds) -> None:
        """Let an edge end where ``ids`` end, so that all who go on from there find the same spans."""
        root = self._roots.get(owner)
        if root is not None:
            node, place, common = self._descend(root, ids)
            if place == len(ids) and common < len(node.ids):
                self._split(node, common)

    def trim(self, most_bytes: int) -> None:
        """Drop what was not used for longest, ends of prompts before their beginnings, until the bound is kept."""
        while self._bytes > most_bytes:
            leaves = sorted(self._leaves(), key=lambda leaf: leaf.used_at)
            for leaf in leaves:
                if self._bytes > most_bytes:
                    self._drop(leaf)
        self._roots = {owner: root for owner, root in self._roots.items() if root.children}

    def forget(self, owner: Hashable) -> None:
        """Drop everything of ``owner``."""
        root = self._roots.pop(owner, None)
        if root is not None:
            self._bytes -= sum(node.span.bytes for node in _below(root) if node.span is not None)

    def _descend(self, root: Node, ids: TokenIds) -> tuple[Node, int, int]:
        """The last edge that ``ids`` follow, how many of ``ids`` are followed, and how many of the edge's tokens."""
        self._clock += 1
        node, place, common = root, 0, 0
        while place < len(ids) and common == len(node.ids):
            child = node.children.get(ids[place])
            if child is None:
                break
            child.used_at = self._clock
            common = common_length(child.ids, ids, place)
            place += common
            node = child
        return node, place, common

    def _leaves(self) -> list[Node]:
        return [node for root in self._roots.values() for node in _below(root) if not node.children and node.parent]

    def _drop(self, leaf: Node) -> None:
        assert leaf.parent is not None
        assert leaf.span is not None
        del leaf.parent.children[leaf.ids[0]]
        self._bytes -= leaf.span.bytes

    def _split(self, node: Node, at: int) -> Node:
        """Cut the edge after ``at`` tokens; returns the upper part. Both get memory of their own."""
        assert node.parent is not None
        assert node.span is not None
        upper = Node(node.ids[:at], node.span.part(0, at), node.parent, used_at=node.used_at)
        node.parent.children[node.ids[0]] = upper
        node.span = node.span.part(at, node.span.length)
        node.ids = node.ids[at:]
        node.parent = upper
        upper.children[node.ids[0]] = node
        return upper


def common_length(left: Sequence[int], right: Sequence[int], right_start: int = 0) -> int:
    """Tokens that ``left`` and ``right`` from ``right_start`` on begin with alike."""
    limit = min(len(left), len(right) - right_start)
    if left[:limit] == right[right_start : right_start + limit]:
        return limit
    low, high = 0, limit  # the first `low` are alike, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[right_start + low : right_start + middle]:
            low = middle
        else:
            high = middle
    return low


def _below(root: Node) -> list[Node]:
    """``root`` and all nodes under it."""
    found = [root]
    for node in found:
        found.extend(node.children.values())
    return found
