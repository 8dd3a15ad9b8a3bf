"""The trainer: an fp32 LoRA adapter over a frozen base model, updated from recorded calls.

It reads token ids and logprobs only. Prompts are never rendered here, and nothing is tokenised.
Shapes: K trie nodes, N sampled tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import ctypes
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from lmgraph.errors import OptimizeError
from lmgraph_optimizers.mmgrpo.advantages import TrainingSample
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.loss import surrogate
from lmgraph_optimizers.mmgrpo.trie import TokenTrie, build_trie, micro_batches, unique_sequences

SMALL_MODEL = 500_000_000
"""Parameters under which a model takes the larger learning rate."""


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """What one update did."""

    loss: float
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    max_gap: float
    """Largest |log pi - log mu| over tokens before the update: what sampler and trainer differ by in numerics."""
    computed_tokens: int
    """Tokens that went through the model: nodes of the token tries."""
    skipped: bool
    """True where loss or gradient was not finite: the adapter is as it was."""


class LoraTrainer:
    """One adapter over one base model."""

    def __init__(self, model_folder: Path, config: MmgrpoConfig, *, seed: int, adapter: Path | None = None) -> None:
        """Start from ``adapter`` (a PEFT folder), or from a new one that changes nothing. Raises: OptimizeError."""
        self._config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(), _quiet_loading():
            torch.manual_seed(seed)
            base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32, attn_implementation="sdpa")
            base.config.use_cache = False
            if adapter is None:
                lora = LoraConfig(
                    r=config.rank,
                    lora_alpha=config.alpha,
                    lora_dropout=0.0,
                    target_modules="all-linear",
                    task_type="CAUSAL_LM",
                )
                self.model: Any = get_peft_model(base, lora)
            else:
                self.model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
        self.model.to(self.device).train()
        self._trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if not self._trained:
            raise OptimizeError("The model has no linear layer that LoRA can adapt.")
        size = sum(parameter.numel() for parameter in base.parameters())
        self.learning_rate = config.learning_rate or (3e-4 if size < SMALL_MODEL else 2e-5)
        self._optimizer = torch.optim.AdamW(
            [parameter for _, parameter in self._trained], lr=self.learning_rate, weight_decay=0.0
        )
        self._bf16 = config.precision == "bfloat16" or (config.precision == "auto" and _multiplies_bf16(self.device))
        self.steps = 0
        """Updates made, skipped ones included; a step whose groups all agree makes none."""

    def update(self, samples: Sequence[TrainingSample], tokens: int, temperature: float) -> UpdateStats:
        """One optimizer step. ``tokens`` is N, fixed for the batch, so that micro-batches add up to the plain loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, (self.steps + 1) / (self._config.warmup + 1))
        self._optimizer.zero_grad(set_to_none=True)
        loss = gap = 0.0
        computed = 0
        for sequences in micro_batches(unique_sequences(samples), self._config.micro_tokens):
            trie = build_trie(sequences, self.device)
            logprobs_N = self.logprobs(trie, temperature)
            part = -self._surrogate(trie, logprobs_N) / tokens
            torch.autograd.backward(part)
            loss += float(part.detach())
            gap = max(gap, self._gap(trie, logprobs_N.detach()))
            computed += trie.size
        norm = float(torch.nn.utils.clip_grad_norm_([p for _, p in self._trained], self._config.max_grad_norm))
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        _return_freed_memory()
        return UpdateStats(loss, norm, self._optimizer.param_groups[0]["lr"], gap, computed, not finite)

    def logprobs(self, trie: TokenTrie, temperature: float) -> torch.Tensor:
        """log pi of every sampled token, shape N: fp32 log-softmax of logits / temperature, over the vocabulary."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            hidden_KD = self.model.get_base_model().model(
                input_ids=trie.input_ids_K[None],
                position_ids=trie.position_ids_K[None],
                attention_mask=trie.visible_KK[None, None],
                use_cache=False,
            )[0][0]
            logits_NV = self.model.get_base_model().lm_head(hidden_KD[trie.nodes_N])
        logprobs_NV = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
        return logprobs_NV.gather(1, trie.targets_N[:, None])[:, 0]

    def save_adapter(self, folder: Path, base_model: str) -> None:
        """Write the adapter as PEFT does: adapter_config.json, which names ``base_model``, and the safetensors."""
        self.model.peft_config["default"].base_model_name_or_path = base_model  # its folder is this machine's affair
        # "auto" would ask a hub whether the vocabulary changed; LoRA on linear layers cannot change it.
        self.model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)

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
        for name, parameter in self._trained:
            mine = {key.rpartition("/")[2]: value for key, value in tensors.items() if key.startswith(f"{name}/")}
            if mine:
                self._optimizer.state[parameter] = mine

    def _surrogate(self, trie: TokenTrie, logprobs_N: torch.Tensor) -> torch.Tensor:
        total = logprobs_N.new_zeros(())
        for where, samples in trie.segments:
            for sample in samples:
                sampler_T = torch.tensor(sample.call.logprobs, dtype=torch.float32, device=self.device)
                total = total + surrogate(
                    logprobs_N[where],
                    sampler_T,
                    sample.advantage,
                    clip_low=self._config.clip_low,
                    clip_high=self._config.clip_high,
                    dual_clip=self._config.dual_clip,
                )
        return total

    def _gap(self, trie: TokenTrie, logprobs_N: torch.Tensor) -> float:
        gaps = [
            float((logprobs_N[where] - torch.tensor(sample.call.logprobs, device=self.device)).abs().max())
            for where, samples in trie.segments
            for sample in samples
        ]
        return max(gaps, default=0.0)


def _multiplies_bf16(device: torch.device) -> bool:
    """What `auto` comes to: bf16 on CUDA where it is native, fp32 on a CPU, as the embedded engine samples."""
    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported())


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """No progress bar and no notes to transformers' own developers: the lab shows what goes on."""
    bars: Any = logging  # its functions have no annotations
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _return_freed_memory() -> None:
    """Give what backward passes of many shapes left in glibc's heap back to the system.

    Sampling allocates in other sizes: without this a process that does both in turn keeps gigabytes it does not use.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
