"""The model in memory: how it is loaded, in which precision, and one forward step for the last position.

Shape suffixes: B rows, T new tokens, S cached tokens and new ones together, V vocabulary, O x I a linear layer.
Which rows there are and what is sampled is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from lmgraph.engines.local.attention import register_attention
from lmgraph.errors import ConfigError, EngineUnavailable

Precision = Literal["auto", "float32", "bfloat16", "mixed"]
CONTEXT_SETTINGS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""Where configs say how long a sequence may be; recurrent models do not."""
UNBOUNDED = 1 << 30


@dataclass(slots=True)
class Weights:
    """One causal language model, in evaluation mode, without gradients."""

    model: Any
    """The transformers model; typed Any because its forward is. None once the lean path has taken its weights."""
    folder: Path
    dtype: torch.dtype
    products: torch.dtype
    """What the lean path's layers multiply in; everything between them is in ``dtype``."""
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

    def whole_logits(self, ids: Sequence[int]) -> torch.Tensor:
        """fp32 logits of the token after ``ids``, [V], with nothing kept of earlier calls."""
        ids_BT = torch.tensor([list(ids)], device=self.device)
        # Not every model takes a mask, or can leave out the logits of the other positions; some need the mask.
        wanted = {"attention_mask": torch.ones_like(ids_BT), "logits_to_keep": 1}
        known = signature(self.model.forward).parameters
        chosen = {name: value for name, value in wanted.items() if name in known}
        output = self.model(input_ids=ids_BT, use_cache=False, **chosen)
        logits_V: torch.Tensor = output.logits[0, -1]
        return logits_V.float()

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
        if getattr(config, "is_encoder_decoder", False):
            raise EngineUnavailable(
                f"{folder.name} ({config.model_type}) has an encoder: the local engine serves causal models only."
            )
        model, report = _load_model(folder, config, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise EngineUnavailable(f"the model of {folder} cannot be loaded: {error}") from error
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
        products=torch.bfloat16 if precision == "mixed" else dtype,
        device=chosen_device,
        vocabulary_size=int(model.get_output_embeddings().weight.shape[0]),
        context_length=next(
            (int(found) for name in CONTEXT_SETTINGS if (found := getattr(config, name, None))), UNBOUNDED
        ),
        stop_token_ids=_configured_stops(config, model.generation_config),
        windowed=has_window(config),
        linear_shapes={name: (part.out_features, part.in_features) for name, part in linears.items()},
        tied=frozenset(name for name, part in linears.items() if part.weight is embedding),
    )


def _load_model(folder: Path, config: Any, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers has to say of its files."""
    with _no_progress_bars():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    model, report = loaded
    # The others compute attention themselves, and go by the name when they make its mask.
    if getattr(model, "_supports_attention_backend", False):
        model.set_attn_implementation(register_attention())
    return model, report


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
    if precision in ("float32", "mixed"):
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto":
        raise ConfigError(f"`{precision}` is no precision; expected auto, float32, bfloat16 or mixed.")
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
