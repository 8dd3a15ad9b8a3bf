"""The token trie: which tokens one forward pass computes.

All sequences of a step form a trie of token ids; each different prefix is computed once, at the position it had when it
was sampled, and sees its ancestors only. So a prompt's static part is computed once for all calls, a prompt once for
all its samples, and calls that chose the same tokens share their logits. Ratio, clip and loss stay each call's own.
Shapes: K trie nodes, N gathered tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lmgraph_optimizers.mmgrpo.advantages import TrainingSample


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One prompt with one completion, and every sample that is these very tokens."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    samples: tuple[TrainingSample, ...]

    @property
    def read_ids(self) -> tuple[int, ...]:
        """What the model reads: the last token of a completion is predicted, never read."""
        return self.prompt_ids + self.completion_ids[:-1]


@dataclass(frozen=True, slots=True)
class TokenTrie:
    """Model inputs for some sequences, and where the logits of each sampled token are."""

    input_ids_K: torch.Tensor
    position_ids_K: torch.Tensor
    """Depth in the trie: the position in the sequence."""
    visible_KK: torch.Tensor
    """True where node (first axis) may read node (second): itself and its ancestors."""
    nodes_N: torch.Tensor
    """The node whose logits predict sampled token n."""
    targets_N: torch.Tensor
    segments: tuple[tuple[slice, tuple[TrainingSample, ...]], ...]
    """For each sequence its slice of N, and its samples."""

    @property
    def size(self) -> int:
        return len(self.input_ids_K)


def unique_sequences(samples: Sequence[TrainingSample]) -> list[TokenSequence]:
    """Samples by their tokens, in the order of the tokens, so that neighbours share the longest prefixes."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], list[TrainingSample]] = {}
    for sample in samples:
        key = (tuple(sample.call.prompt_ids), tuple(sample.call.completion_ids))
        found.setdefault(key, []).append(sample)
    sequences = [TokenSequence(prompt, completion, tuple(same)) for (prompt, completion), same in found.items()]
    return sorted(sequences, key=lambda sequence: sequence.read_ids)


def micro_batches(sequences: Sequence[TokenSequence], max_tokens: int) -> Iterator[list[TokenSequence]]:
    """Neighbouring sequences whose trie has at most ``max_tokens`` nodes; a longer sequence goes alone."""
    batch: list[TokenSequence] = []
    size = 0
    for sequence in sequences:
        ids = sequence.read_ids
        added = len(ids) - (_shared(batch[-1].read_ids, ids) if batch else 0)
        if batch and size + added > max_tokens:
            yield batch
            batch, added, size = [], len(ids), 0
        batch.append(sequence)
        size += added
    if batch:
        yield batch


def build_trie(sequences: Sequence[TokenSequence], device: torch.device) -> TokenTrie:
    """The trie of ``sequences``, which are in the order of their tokens."""
    tokens: list[int] = []
    depths: list[int] = []
    parents: list[int] = []
    gathered: list[tuple[int, int]] = []
    segments: list[tuple[slice, tuple[TrainingSample, ...]]] = []
    previous: tuple[int, ...] = ()
    path: list[int] = []
    for sequence in sequences:
        ids = sequence.read_ids
        del path[_shared(previous, ids) :]
        for depth in range(len(path), len(ids)):
            parents.append(path[-1] if path else -1)
            path.append(len(tokens))
            tokens.append(ids[depth])
            depths.append(depth)
        previous = ids
        first = len(sequence.prompt_ids) - 1
        segments.append((slice(len(gathered), len(gathered) + len(sequence.completion_ids)), sequence.samples))
        gathered += [(path[first + offset], token) for offset, token in enumerate(sequence.completion_ids)]
    visible_KK = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            visible_KK[node] = visible_KK[parent]
        visible_KK[node, node] = True
    nodes_N, targets_N = torch.tensor(gathered).unbind(1)
    return TokenTrie(
        torch.tensor(tokens, device=device),
        torch.tensor(depths, device=device),
        visible_KK.to(device),
        nodes_N.to(device),
        targets_N.to(device),
        tuple(segments),
    )


def _shared(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Length of the longest common prefix."""
    limit = min(len(left), len(right))
    if left[:limit] == right[:limit]:
        return limit
    low, high = 0, limit
    while low + 1 < high:  # left[:low] is shared, left[:high] is not
        middle = (low + high) // 2
        low, high = (middle, high) if left[:middle] == right[:middle] else (low, middle)
    return low
