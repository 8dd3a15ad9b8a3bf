"""One frozen base model in memory, with the LoRA adapters that are trained on it.

Several adapters share the base: only the one in use takes part in a forward pass. Base and adapters are float32; a
lower precision is a matter of the products (autocast) and never of what is stored.
Shapes: K trie nodes, N sampled tokens, D hidden size.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import load_peft_weights, set_peft_model_state_dict
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from lmgraph.errors import OptimizeError
from lmgraph_optimizers.mmgrpo.attention import register_attention
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.logprobs import SampledLogprobs, logprobs_of_logits
from lmgraph_optimizers.mmgrpo.mixed import round_products
from lmgraph_optimizers.mmgrpo.recompute import Layers
from lmgraph_optimizers.mmgrpo.trie import TokenTrie

SMALL_MODEL = 500_000_000
"""Parameters under which a model takes the larger learning rate."""
LOGIT_SETTINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of models whose logits are more than hidden states times the output layer."""


class BaseModel:
    """Computes log-probabilities of trie tokens under one adapter, or under none."""

    def __init__(self, folder: Path, config: MmgrpoConfig, *, dtype: torch.dtype = torch.float32) -> None:
        """Load the model of ``folder``. float64 is for tests of exactness."""
        self._config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(), _quiet_loading():
            base: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, attn_implementation=register_attention()
            )
        if config.precision == "mixed":
            round_products(base)
        base.config.use_cache = False
        base.requires_grad_(False)
        self._base: Any = base.to(self.device).eval()  # no dropout: the sampler has none
        self._layers = Layers(self._base, config.recompute)
        self._peft: Any = None
        self.size = sum(parameter.numel() for parameter in base.parameters())
        precision = config.precision
        self._low = precision == "bfloat16" or (precision == "auto" and _multiplies_bf16(self.device))
        self._plain_head = _plain_head(base)

    @property
    def model(self) -> Any:
        """The PEFT model, once there is an adapter."""
        return self._peft

    def add_adapter(self, name: str, *, seed: int, start: Path | None = None) -> list[tuple[str, torch.nn.Parameter]]:
        """Add ``name``, from the PEFT folder ``start`` or new, which changes nothing. Returns its parameters by their
        names without the adapter's. Raises: OptimizeError if the model has no layer for it."""
        config = self._config
        lora: Any
        if start is None:
            lora = LoraConfig(
                r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules="all-linear",
                task_type="CAUSAL_LM",
            )  # fmt: skip
        else:
            lora = LoraConfig.from_pretrained(str(start))
            lora.inference_mode = False
            lora.lora_dropout = 0.0
            lora.base_model_name_or_path = None  # PEFT would warn that it lies elsewhere now
        with torch.random.fork_rng(), _quiet_loading():
            torch.manual_seed(seed)
            try:
                if self._peft is None:
                    self._peft = get_peft_model(self._base, lora, adapter_name=_slot(name))
                else:
                    self._peft.add_adapter(_slot(name), lora)
            except ValueError as error:
                raise OptimizeError(f"The model has no linear layer that LoRA can adapt: {error}") from error
            if start is not None:
                set_peft_model_state_dict(self._peft, load_peft_weights(str(start)), adapter_name=_slot(name))
        self._peft.eval()
        mark = f".{_slot(name)}."
        found = [(key.replace(mark, "."), p) for key, p in self._peft.named_parameters() if mark in key]
        for _, parameter in found:
            # LoRA matrices are stored as the base is, or wider: the master copy of what is trained.
            parameter.data = parameter.data.to(self.device, next(self._base.parameters()).dtype)
        return found

    def logprobs(self, trie: TokenTrie, adapter: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        """log pi of every sampled token and the entropy there, both [N]: log-softmax of logits / temperature, over the
        tokens the sampler could choose."""
        with (
            self._using(adapter),
            self._layers.ready_for(trie, self.device),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._low),
        ):
            inputs = {
                "input_ids": trie.input_ids_K[None],
                "position_ids": trie.position_ids_K[None],
                "use_cache": False,
                "trie": trie,
            }
            if not self._plain_head:
                logits_NV = self._base(**inputs, logits_to_keep=trie.nodes_N).logits[0]
                return logprobs_of_logits(logits_NV, trie.targets_N, trie.temperatures_N, trie.allowed_N)
            hidden_KD = self._base.base_model(**inputs)[0][0]
        head = self._base.get_output_embeddings()
        logprobs_N, entropies_N = SampledLogprobs.apply(  # type: ignore[no-untyped-call]
            hidden_KD[trie.nodes_N], head.weight, trie.targets_N, trie.temperatures_N, trie.allowed_N, self._low
        )
        return logprobs_N, entropies_N

    def save_adapter(self, name: str, folder: Path, base_model: str) -> None:
        """Write the adapter as PEFT does: adapter_config.json, which names ``base_model``, and the safetensors."""
        config = self._peft.peft_config[_slot(name)]
        config.base_model_name_or_path = base_model  # its folder is this machine's affair
        # "auto" would ask a hub whether the vocabulary changed; LoRA on linear layers cannot change it.
        self._peft.save_pretrained(
            folder, safe_serialization=True, save_embedding_layers=False, selected_adapters=[_slot(name)]
        )
        inner = folder / _slot(name)
        for path in list(inner.iterdir()) if inner.is_dir() else []:  # PEFT puts every adapter but `default` one down
            path.replace(folder / path.name)
        if inner.is_dir():
            inner.rmdir()
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card, all placeholders

    @contextmanager
    def _using(self, adapter: str | None) -> Iterator[None]:
        if adapter is None:
            if self._peft is None:
                yield
                return
            with self._peft.disable_adapter():
                yield
            return
        if self._peft.active_adapter != _slot(adapter):
            self._peft.set_adapter(_slot(adapter))
        yield


def _slot(name: str) -> str:
    """A name that may be part of a parameter's name: module names may have dots."""
    return "a_" + name.replace(".", "_dot_")


def _plain_head(model: Any) -> bool:
    head = model.get_output_embeddings()
    plain = type(head) is torch.nn.Linear and head.bias is None
    return plain and all(getattr(model.config, name, None) in (None, 1.0) for name in LOGIT_SETTINGS)


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
