"""The token trie: which tokens one forward pass computes, and what each of them may read.

All sequences of a step form a trie of token ids; each different prefix is computed once, at the position it had when it
was sampled, and sees its ancestors only. So a prompt's static part is computed once for all calls, a prompt once for
all its samples, and calls that chose the same tokens share their hidden states. Ratio, clip and loss stay each call's
own.

Nodes are in depth-first order: a subtree is one range, and an ancestor that stands before a range of nodes is an
ancestor of its first node. So a block of queries reads the path to its first node, and itself, and nothing else.
Shapes: K trie nodes, N sampled tokens, Q queries of a block, S nodes that a block reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from lmgraph_optimizers.mmgrpo.batch import TrainingSample

QUERY_BLOCK = 128
"""Queries that attend together: each block reads at most this many nodes that most of its queries may not see."""


SequenceKey: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], float, tuple[bytes, ...] | None]
"""Prompt, completion, temperature, and the packed sets of allowed tokens."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One prompt with one completion, and every sample that is these very tokens under the same masks."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    temperature: float
    allowed: tuple[bytes, ...] | None
    """The packed set of tokens the sampler could choose from, at each step; None where it was all of them."""
    samples: tuple[TrainingSample, ...]

    @property
    def read_ids(self) -> tuple[int, ...]:
        """What the model reads: the last token of a completion is predicted, never read."""
        return self.prompt_ids + self.completion_ids[:-1]

    @property
    def key(self) -> SequenceKey:
        return self.prompt_ids, self.completion_ids, self.temperature, self.allowed


@dataclass(frozen=True, slots=True)
class QueryBlock:
    """Nodes ``start`` to ``stop`` as queries, and what they read."""

    start: int
    stop: int
    reads_S: torch.Tensor
    """Indices of nodes: the path to the first query, then the queries themselves."""
    hidden_QS: torch.Tensor
    """True where a query may not see a node."""
    distance_QS: torch.Tensor
    """Positions from node to query, for layers with a sliding window."""


@dataclass(frozen=True, slots=True)
class TokenTrie:
    """Model inputs for some sequences, and where the hidden state of each sampled token is."""

    input_ids_K: torch.Tensor
    position_ids_K: torch.Tensor
    """Depth in the trie: the position in the sequence."""
    blocks: tuple[QueryBlock, ...]
    nodes_N: torch.Tensor
    """The node whose hidden state predicts sampled token n."""
    targets_N: torch.Tensor
    temperatures_N: torch.Tensor
    """float64, to be rounded once to the precision of the logits."""
    allowed_N: tuple[bytes | None, ...]
    segments: tuple[tuple[slice, tuple[TrainingSample, ...]], ...]
    """For each sequence its slice of N, and its samples."""

    @property
    def size(self) -> int:
        return len(self.input_ids_K)


def unique_sequences(samples: Sequence[TrainingSample]) -> list[TokenSequence]:
    """Samples by their tokens, in the order of the tokens, so that neighbours share the longest prefixes."""
    found: dict[SequenceKey, list[TrainingSample]] = {}
    for sample in samples:
        call = sample.call
        allowed = None if call.allowed is None else tuple(call.allowed)
        key: SequenceKey = (tuple(call.prompt_ids), tuple(call.completion_ids), call.temperature, allowed)
        found.setdefault(key, []).append(sample)
    sequences = [TokenSequence(*key, tuple(same)) for key, same in found.items()]
    return sorted(sequences, key=lambda sequence: sequence.read_ids)


def trie_size(sequences: Sequence[TokenSequence]) -> int:
    """Nodes of one trie of all ``sequences``: the fewest tokens any exact computation must read."""
    size = 0
    previous: tuple[int, ...] = ()
    for sequence in sequences:
        ids = sequence.read_ids
        size += len(ids) - shared_prefix(previous, ids)
        previous = ids
    return size


def micro_batches(sequences: Sequence[TokenSequence], max_tokens: int) -> Iterator[list[TokenSequence]]:
    """Neighbouring sequences whose trie has at most ``max_tokens`` nodes and as many sampled tokens; a longer sequence
    goes alone."""
    batch: list[TokenSequence] = []
    size = sampled = 0
    for sequence in sequences:
        ids = sequence.read_ids
        added = len(ids) - (shared_prefix(batch[-1].read_ids, ids) if batch else 0)
        more = len(sequence.completion_ids)
        if batch and (size + added > max_tokens or sampled + more > max_tokens):
            yield batch
            batch, added, size, sampled = [], len(ids), 0, 0
        batch.append(sequence)
        size += added
        sampled += more
    if batch:
        yield batch


def build_trie(sequences: Sequence[TokenSequence], device: torch.device) -> TokenTrie:
    """The trie of ``sequences``, which are in the order of their tokens."""
    tokens: list[int] = []
    depths: list[int] = []
    parents: list[int] = []
    nodes: list[int] = []
    targets: list[int] = []
    temperatures: list[float] = []
    allowed: list[bytes | None] = []
    segments: list[tuple[slice, tuple[TrainingSample, ...]]] = []
    previous: tuple[int, ...] = ()
    path: list[int] = []
    for sequence in sequences:
        ids = sequence.read_ids
        del path[shared_prefix(previous, ids) :]
        for depth in range(len(path), len(ids)):
            parents.append(path[-1] if path else -1)
            path.append(len(tokens))
            tokens.append(ids[depth])
            depths.append(depth)
        previous = ids
        first, count = len(sequence.prompt_ids) - 1, len(sequence.completion_ids)
        segments.append((slice(len(nodes), len(nodes) + count), sequence.samples))
        nodes += path[first : first + count]
        targets += sequence.completion_ids
        temperatures += [sequence.temperature] * count
        allowed += sequence.allowed or [None] * count
    depths_K = torch.tensor(depths)
    return TokenTrie(
        torch.tensor(tokens, device=device),
        depths_K.to(device),
        tuple(_query_blocks(parents, depths_K, device)),
        torch.tensor(nodes, device=device),
        torch.tensor(targets, device=device),
        torch.tensor(temperatures, dtype=torch.float64, device=device),
        tuple(allowed),
        tuple(segments),
    )


def shared_prefix(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Length of the longest common prefix."""
    limit = min(len(left), len(right))
    if left[:limit] == right[:limit]:
        return limit
    low, high = 0, limit
    while low + 1 < high:  # left[:low] is shared, left[:high] is not
        middle = (low + high) // 2
        low, high = (middle, high) if left[:middle] == right[:middle] else (low, middle)
    return low


def _query_blocks(parents: Sequence[int], depths_K: torch.Tensor, device: torch.device) -> Iterator[QueryBlock]:
    ends_K = torch.tensor(_subtree_ends(parents))
    for start in range(0, len(parents), QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, len(parents))
        path: list[int] = []
        node = parents[start]
        while node >= 0:
            path.append(node)
            node = parents[node]
        reads_S = torch.tensor([*reversed(path), *range(start, stop)])
        queries_Q1 = torch.arange(start, stop)[:, None]
        # In depth-first order a node is an ancestor of exactly the nodes in its own range.
        seen_QS = (reads_S <= queries_Q1) & (queries_Q1 < ends_K[reads_S])
        distance_QS = depths_K[queries_Q1] - depths_K[reads_S]
        yield QueryBlock(start, stop, reads_S.to(device), ~seen_QS.to(device), distance_QS.to(device))


def _subtree_ends(parents: Sequence[int]) -> list[int]:
    """For each node the first index after its subtree."""
    ends = list(range(1, len(parents) + 1))
    for node in range(len(parents) - 1, -1, -1):
        if parents[node] >= 0:
            ends[parents[node]] = max(ends[parents[node]], ends[node])
    return ends
