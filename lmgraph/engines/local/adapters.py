"""LoRA adapters of the local engine: read, checked against the base, and known by name.

Shape suffixes: O x I the linear layer, R the rank. What is computed with them is not known here: the lean path adds
them beside the base weights (lora.py), other models get merged copies of their layers (module_adapters.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from lmgraph.engines.local.weights import Weights
from lmgraph.errors import EngineRejected

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
}
"""Keys that do not change what a saved adapter computes: the tensors themselves say which layers they are for."""
PLAIN_INITS = {"True", "False", "gaussian", "orthogonal", "eva"}
"""Initialisations that leave the base weights as they were."""
TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")


class AdapterConfig(BaseModel):
    """The keys of `adapter_config.json` that decide what an adapter computes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    peft_type: str
    r: int
    lora_alpha: float
    use_rslora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    bias: str = "none"
    fan_in_fan_out: bool = False
    init_lora_weights: bool | str | None = True

    def scale(self, module: str, rank: int) -> float:
        """What B @ A of ``module`` is multiplied by."""
        alpha = self.lora_alpha
        for pattern, value in self.alpha_pattern.items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                alpha = value
                break
        return alpha / (rank**0.5 if self.use_rslora else rank)


@dataclass(frozen=True, slots=True)
class LoraPair:
    a_RI: torch.Tensor
    b_OR: torch.Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter in memory: small, and independent of its folder from here on."""

    name: str
    digest: str
    pairs: dict[str, LoraPair]
    """By the name of the base parameter."""


class AdapterStore:
    """Named adapters over one base model. Used by one thread at a time, except ``get``."""

    def __init__(self, weights: Weights, forget: Callable[[str], None]) -> None:
        """``forget`` is told the digest of an adapter that no name has any more."""
        self._weights = weights
        self._forget = forget
        self._adapters: dict[str, Adapter] = {}

    def get(self, name: str) -> Adapter:
        """Raises: EngineRejected if no adapter of this name is loaded."""
        adapter = self._adapters.get(name)
        if adapter is None:
            known = ", ".join(sorted(self._adapters)) or "none"
            raise EngineRejected(f"the adapter `{name}` is not loaded.", hint=f"Loaded adapters: {known}.")
        return adapter

    def load(self, name: str, folder: Path) -> None:
        """Raises: EngineRejected if ``folder`` is no adapter for this base, or ``name`` is another adapter."""
        adapter = read_adapter(name, folder, self._weights)
        present = self._adapters.get(name)
        if present is not None and present.digest != adapter.digest:
            raise EngineRejected(
                f"the adapter `{name}` is loaded already with other weights.", hint="Give a new version a new name."
            )
        self._adapters.setdefault(name, adapter)

    def unload(self, name: str) -> None:
        """Raises: EngineRejected if no adapter of this name is loaded. Requests under way keep theirs."""
        adapter = self.get(name)
        del self._adapters[name]
        if all(other.digest != adapter.digest for other in self._adapters.values()):
            self._forget(adapter.digest)


def read_adapter(name: str, folder: Path, weights: Weights) -> Adapter:
    """Read and check the PEFT folder ``folder``. Raises: EngineRejected."""
    config = _read_config(folder)
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
        digest = hashlib.sha256(path.read_bytes() + config.model_dump_json().encode()).hexdigest()
    except FileNotFoundError as error:
        raise EngineRejected(f"the adapter folder {folder} has no {WEIGHTS_FILE}.") from error
    except (OSError, SafetensorError) as error:
        raise EngineRejected(f"{path} cannot be read as safetensors: {error}.") from error
    sides: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        matched = TENSOR_NAME.fullmatch(key)
        if matched is None:
            raise EngineRejected(f"{path} holds `{key}`: the local engine serves LoRA pairs of linear layers only.")
        sides.setdefault(matched["module"], {})[matched["side"]] = tensor
    if not sides:
        raise EngineRejected(f"{path} holds no LoRA pair.")
    pairs: dict[str, LoraPair] = {}
    for module, pair in sides.items():
        shape = weights.linear_shapes.get(module)
        if shape is None or module in weights.tied:
            why = "is not a linear layer of" if shape is None else "shares its weight with the embeddings of"
            raise EngineRejected(f"the adapter `{name}` does not fit: `{module}` {why} the base model.")
        pairs[f"{module}.weight"] = _checked_pair(name, module, pair, shape, config, weights.device)
    return Adapter(name, digest, pairs)


def _checked_pair(
    name: str,
    module: str,
    pair: dict[str, torch.Tensor],
    shape: tuple[int, int],
    config: AdapterConfig,
    device: torch.device,
) -> LoraPair:
    if set(pair) != {"A", "B"}:
        raise EngineRejected(f"the adapter `{name}` is incomplete: `{module}` has only lora_{''.join(pair)}.")
    a_RI, b_OR = pair["A"], pair["B"]
    outputs, inputs = shape
    rank = a_RI.shape[0]
    if a_RI.dim() != 2 or b_OR.shape != (outputs, rank) or a_RI.shape[1] != inputs:
        raise EngineRejected(
            f"the adapter `{name}` does not fit the base model: `{module}` is {outputs} x {inputs}, the adapter has "
            f"B {tuple(b_OR.shape)} and A {tuple(a_RI.shape)}."
        )
    if not (torch.isfinite(a_RI).all() and torch.isfinite(b_OR).all()):
        raise EngineRejected(f"the adapter `{name}` holds numbers that are not finite in `{module}`.")
    return LoraPair(a_RI.to(device, torch.float32), b_OR.to(device, torch.float32), config.scale(module, rank))


def _read_config(folder: Path) -> AdapterConfig:
    path = folder / CONFIG_FILE
    try:
        config = AdapterConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise EngineRejected(f"{folder} is no PEFT adapter folder: it has no {CONFIG_FILE}.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise EngineRejected(f"{path} cannot be read: {error}") from error
    refused = [key for key, value in (config.model_extra or {}).items() if key not in WITHOUT_EFFECT and value]
    if config.peft_type != "LORA":
        refused.append(f"peft_type {config.peft_type}")
    if config.bias != "none":
        refused.append(f"bias {config.bias}")
    if config.fan_in_fan_out:
        refused.append("fan_in_fan_out")
    if config.init_lora_weights is not None and str(config.init_lora_weights) not in PLAIN_INITS:
        refused.append(f"init_lora_weights {config.init_lora_weights}")
    if refused:
        raise EngineRejected(f"{path} asks for what the local engine does not serve: {', '.join(refused)}.")
    return config
