"""The trainer of one adapter: an AdamW update from recorded calls.

It reads token ids and logprobs only. Prompts are never rendered here, and nothing is tokenised.
Shapes: N sampled tokens of a micro-batch's sequences, M tokens of all samples of it.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lmgraph_optimizers.mmgrpo.base_model import SMALL_MODEL, BaseModel
from lmgraph_optimizers.mmgrpo.batch import TrainingSample, is_forced
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.gap import Gap
from lmgraph_optimizers.mmgrpo.loss import clipped_share, importance_weights, k3, surrogate
from lmgraph_optimizers.mmgrpo.trie import (
    SequenceKey,
    TokenTrie,
    build_trie,
    micro_batches,
    trie_size,
    unique_sequences,
)


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """What one update did."""

    loss: float
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    gap: Gap
    """Between the sampler and the policy that it should have had: this trainer's, before the first update on these
    rollouts."""
    entropy: float
    """Mean over sampled tokens, of the trainer's own distribution."""
    kl: float
    """Mean k3 towards the reference; 0 where beta is."""
    clipped: float
    """Share of tokens that the clip takes out of the gradient."""
    plain_tokens: int
    """Tokens that one forward pass a call would read."""
    unique_tokens: int
    """Tokens that any exact computation must read: nodes of one trie of everything."""
    computed_tokens: int
    """Tokens that were read: nodes of the micro-batches' tries."""
    skipped: bool
    """True where loss or gradient was not finite: the adapter is as it was."""


@dataclass(frozen=True, slots=True)
class _Members:
    """The tokens of all samples of a micro-batch, flat."""

    sources_M: torch.Tensor
    """Index into N."""
    calls_M: torch.Tensor
    """Number of the call, from 0."""
    sampler_M: torch.Tensor
    """log mu."""
    advantages_M: torch.Tensor
    weights_M: torch.Tensor
    """Zero where only one token was allowed."""


class LoraTrainer:
    """One adapter over a base model that it may share with others."""

    def __init__(
        self, base: BaseModel, config: MmgrpoConfig, *, name: str = "shared", seed: int, start: Path | None = None
    ) -> None:
        """Start from the PEFT folder ``start``, or from a new adapter that changes nothing. Raises: OptimizeError."""
        self.base = base
        self.name = name
        self._config = config
        self._trained = base.add_adapter(name, seed=seed, start=start)
        self.learning_rate = config.learning_rate or (3e-4 if base.size < SMALL_MODEL else 2e-5)
        parameters = [parameter for _, parameter in self._trained]
        self._optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=0.0)
        self.steps = 0
        """Updates made, skipped ones included; a step whose groups all agree makes none."""

    def update(
        self, samples: Sequence[TrainingSample], old: dict[SequenceKey, torch.Tensor] | None = None
    ) -> UpdateStats:
        """One optimizer step on samples with fixed weights, so that micro-batches add up to the plain loss. Calls that
        sampler and trainer are too far apart on (``max_gap``) weigh nothing.

        ``old`` has log pi_old of sequences, from ``policy``; None where this is the first update on these rollouts, so
        that pi_old is pi.
        """
        config = self._config
        self._set_learning_rate()
        self._optimizer.zero_grad(set_to_none=True)
        moving = [sample for sample in samples if sample.advantage != 0.0 or config.kl > 0]
        sequences = unique_sequences(moving)
        gap = Gap()
        loss = entropy = divergence = 0.0
        clipped = counted = sampled = computed = 0
        for part in micro_batches(sequences, config.micro_tokens):
            trie = build_trie(part, self.base.device)
            members = self._members(trie)
            logprobs_N, entropies_N = self.base.logprobs(trie, self.name)
            logprobs_M = logprobs_N[members.sources_M]
            old_N = logprobs_N.detach() if old is None else torch.cat([old[one.key] for one in part])
            old_M = old_N.to(logprobs_N.device)[members.sources_M]
            chosen_M = (members.weights_M > 0).to(old_M.dtype)
            kept_M = members.weights_M * gap.keep(old_M, members.sampler_M, members.calls_M, chosen_M, config.max_gap)
            weights_M = kept_M
            # What weighs nothing has ratio 1: far apart, it would be infinite, and 0 times infinity is no gradient.
            behaviour_M = torch.where(kept_M > 0, members.sampler_M, logprobs_M.detach())
            if config.mismatch == "tis":
                behaviour_M = old_M
                weights_M = weights_M * importance_weights(behaviour_M, members.sampler_M)
            terms_M = surrogate(
                logprobs_M, behaviour_M, members.advantages_M,
                clip_low=config.clip_low, clip_high=config.clip_high, dual_clip=config.dual_clip,
            )  # fmt: skip
            objective_M = weights_M * terms_M
            if config.kl > 0:
                with torch.no_grad():
                    reference_N, _ = self.base.logprobs(trie, None)
                divergence_M = k3(logprobs_M, reference_N[members.sources_M])
                objective_M = objective_M - config.kl * kept_M * divergence_M
                divergence += float((kept_M * divergence_M.detach()).sum())
            part_loss = -objective_M.sum()
            torch.autograd.backward(part_loss)
            with torch.no_grad():
                loss += float(part_loss)
                clipped += int(
                    clipped_share(logprobs_M, behaviour_M, members.advantages_M, config.clip_low, config.clip_high)
                )
                entropy += float(entropies_N.sum())
                counted += len(logprobs_M)
                sampled += len(entropies_N)
                computed += trie.size
        norm = self._clip()
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        _return_freed_memory()
        plain = sum(len(sample.call.prompt_ids) + len(sample.call.completion_ids) - 1 for sample in moving)
        return UpdateStats(
            loss, norm, self._optimizer.param_groups[0]["lr"], gap, entropy / max(sampled, 1), divergence,
            clipped / max(counted, 1), plain, trie_size(sequences), computed, not finite,
        )  # fmt: skip

    @torch.no_grad()
    def policy(self, samples: Sequence[TrainingSample]) -> dict[SequenceKey, torch.Tensor]:
        """log pi of every sequence now: pi_old of the updates that follow."""
        found: dict[SequenceKey, torch.Tensor] = {}
        for part in micro_batches(unique_sequences(samples), self._config.micro_tokens):
            trie = build_trie(part, self.base.device)
            logprobs_N, _ = self.base.logprobs(trie, self.name)
            for sequence, (where, _) in zip(part, trie.segments, strict=True):
                found[sequence.key] = logprobs_N[where]
        return found

    def save_optimizer(self, path: Path) -> None:
        """Moments and step count of AdamW, by parameter name, as safetensors."""
        state = self._optimizer.state
        tensors = {
            f"{name}/{key}": value.contiguous()
            for name, parameter in self._trained
            for key, value in state.get(parameter, {}).items()
        }
        save_file(tensors, path, {"steps": str(self.steps)})

    def load_optimizer(self, path: Path) -> None:
        """What ``save_optimizer`` wrote: the next update is the one that would have come next."""
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            self.steps = int(file.metadata()["steps"])
        mine: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            parameter, _, part = key.rpartition("/")
            mine.setdefault(parameter, {})[part] = value if part == "step" else value.to(self.base.device)
        for name, parameter in self._trained:
            if name in mine:
                self._optimizer.state[parameter] = mine[name]

    def _set_learning_rate(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, (self.steps + 1) / (self._config.warmup + 1))

    def _clip(self) -> float:
        parameters = [parameter for _, parameter in self._trained]
        return float(torch.nn.utils.clip_grad_norm_(parameters, self._config.max_grad_norm))

    def _members(self, trie: TokenTrie) -> _Members:
        sources: list[int] = []
        calls: list[int] = []
        sampler: list[float] = []
        advantages: list[float] = []
        weights: list[float] = []
        number = 0
        for where, samples in trie.segments:
            for sample in samples:
                call = sample.call
                count = len(call.completion_ids)
                sources += range(where.start, where.stop)
                calls += [number] * count
                number += 1
                sampler += call.logprobs
                advantages += [sample.advantage] * count
                if call.allowed is None:
                    weights += [sample.weight] * count
                else:
                    weights += [0.0 if is_forced(packed) else sample.weight for packed in call.allowed]
        device = self.base.device
        dtype = torch.float64 if self._trained[0][1].dtype == torch.float64 else torch.float32
        return _Members(
            torch.tensor(sources, device=device),
            torch.tensor(calls, device=device),
            torch.tensor(sampler, dtype=dtype, device=device),
            torch.tensor(advantages, dtype=dtype, device=device),
            torch.tensor(weights, dtype=dtype, device=device),
        )


def _return_freed_memory() -> None:
    """Give what backward passes of many shapes left in glibc's heap back to the system.

    Sampling allocates in other sizes: without this a process that does both in turn keeps gigabytes it does not use.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
