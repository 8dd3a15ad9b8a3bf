"""The model in memory: how it is loaded, in which precision, and one forward step for the last position.

Shape suffixes: B rows, T new tokens, S cached tokens and new ones together, V vocabulary, O x I a linear layer.
Which rows there are and what is sampled is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from lmgraph.engines.local.attention import register_attention
from lmgraph.errors import ConfigError, EngineUnavailable

Precision = Literal["auto", "float32", "bfloat16"]
SERVED_LAYERS = {"full_attention", "sliding_attention"}


@dataclass(slots=True)
class Weights:
    """One causal language model, in evaluation mode, without gradients."""

    model: Any
    """The transformers model; typed Any because its forward is. None once the lean path has taken its weights."""
    folder: Path
    dtype: torch.dtype
    device: torch.device
    vocabulary_size: int
    context_length: int
    stop_token_ids: tuple[int, ...]
    linear_shapes: dict[str, tuple[int, int]]
    """Outputs and inputs of every linear layer, by the module's name."""
    windowed: bool
    """Whether attention of some layers sees the last tokens only."""
    tied: frozenset[str]
    """Linear layers that share their weight with the embeddings."""

    def last_logits(
        self,
        input_ids_BT: torch.Tensor,
        position_ids_BT: torch.Tensor,
        attention_mask_BS: torch.Tensor | None,
        cache: Any,
    ) -> torch.Tensor:
        """fp32 logits of the last position, [B, V]; ``cache`` is extended by T tokens."""
        output = self.model(
            input_ids=input_ids_BT,
            position_ids=position_ids_BT,
            attention_mask=attention_mask_BS,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_BV: torch.Tensor = output.logits[:, -1, :]
        return logits_BV.float()

    def parameters_by_name(self) -> dict[str, torch.nn.Parameter]:
        return dict(self.model.named_parameters())

    def exact_tensor(self, name: str) -> torch.Tensor:
        """Parameter ``name`` in fp32, from its file where the model in memory is rounded."""
        if self.dtype != torch.float32:
            for path in sorted(self.folder.glob("*.safetensors")):
                with safe_open(path, framework="pt", device="cpu") as file:
                    if name in file.keys():  # noqa: SIM118  (safe_open has no __contains__)
                        stored: torch.Tensor = file.get_tensor(name)
                        return stored.to(self.device, torch.float32)
        return self.parameters_by_name()[name].detach().float()


def load_weights(folder: Path, precision: Precision, device: str, threads: int | None) -> Weights:
    """Load the model of ``folder``.

    Raises: EngineUnavailable if it is of a kind that is not served or cannot be loaded; ConfigError for a bad option.
    """
    chosen_device = choose_device(device)
    dtype = choose_dtype(precision, chosen_device)
    if chosen_device.type == "cpu":
        torch.set_num_threads(threads or usable_cores())
    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        other_layers = set(getattr(config, "layer_types", None) or ()) - SERVED_LAYERS
        if other_layers or getattr(config, "is_encoder_decoder", False):
            kind = ", ".join(sorted(other_layers)) or "an encoder and a decoder"
            raise EngineUnavailable(
                f"{folder.name} ({config.model_type}) has {kind}: the local engine serves decoders with attention only."
            )
        with _no_progress_bars():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=register_attention(),
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise EngineUnavailable(f"the model of {folder} cannot be loaded: {error}") from error
    model, report = loaded
    # transformers fills what a file lacks with random numbers and only warns.
    if absent := sorted(report["missing_keys"]) + sorted(report["mismatched_keys"]):
        raise EngineUnavailable(f"the weights of {folder} are incomplete: {len(absent)} tensors, first {absent[0]}.")
    model.to(chosen_device)
    model.eval()
    model.requires_grad_(False)
    model.get_output_embeddings().register_forward_pre_hook(_make_contiguous)
    linears = {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    embedding = model.get_input_embeddings().weight
    return Weights(
        model=model,
        folder=folder,
        dtype=dtype,
        device=chosen_device,
        vocabulary_size=int(model.get_output_embeddings().weight.shape[0]),
        context_length=int(config.max_position_embeddings),
        stop_token_ids=_configured_stops(config, model.generation_config),
        windowed=has_window(config),
        linear_shapes={name: (part.out_features, part.in_features) for name, part in linears.items()},
        tied=frozenset(name for name, part in linears.items() if part.weight is embedding),
    )


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises: ConfigError for a device this machine does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"`{name}` is no device; expected auto, cpu, cuda or cuda:N.") from error
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"the local engine does not run on `{name}`; expected auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device `{name}` is not there: torch sees {torch.cuda.device_count()} CUDA devices.")
    return device


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """`auto` is fp32 on a CPU, so that sampler and trainer agree token by token, and bf16 on CUDA where it is native.

    docs/decisions/0002-float32-on-cpu.md has the measurements.
    """
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto":
        raise ConfigError(f"`{precision}` is no precision; expected auto, float32 or bfloat16.")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.float32


def has_window(config: Any) -> bool:
    """Whether some layers of the model attend to a window of tokens."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return "sliding_attention" in kinds
    return getattr(config, "sliding_window", None) is not None and bool(getattr(config, "use_sliding_window", True))


def usable_cores() -> int:
    """Cores this process may use: its affinity, bounded by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cores


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    logging: Any = transformers_logging
    were_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            logging.enable_progress_bar()


def _make_contiguous(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    # The last position of many rows is a strided slice, and torch multiplies that by a copy of the whole vocabulary
    # matrix for every row: at 64 rows this was two thirds of the prefill.
    del module
    return tuple(tensor.contiguous() for tensor in inputs)


def _configured_stops(config: Any, generation_config: Any) -> tuple[int, ...]:
    ids: list[int] = []
    for source in (generation_config, config):
        value = getattr(source, "eos_token_id", None)
        ids += [] if value is None else [value] if isinstance(value, int) else list(value)
    return tuple(dict.fromkeys(ids))
