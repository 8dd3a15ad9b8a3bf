"""The lean path: the forward pass of Llama-like decoders over a list of tokens, without the module tree.

Shape suffixes: N tokens, B rows, E hidden size, I inner size, Q query heads, H key-value heads, X some of these heads,
D head size, V vocabulary; a 2 is keys and values. Tokens of all sequences stand in one list, so nothing is padded;
attention, which alone needs to know whose they are, is the caller's. The weights are taken out of a transformers model,
which is left empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from lmgraph.engines.local.linear import FEWEST_PACKED_ROWS, Linear, can_pack, join
from lmgraph.engines.local.lora import LoraStack
from lmgraph.engines.local.weights import has_window

LEAN_CLASSES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
STEADY_ROPES = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings whose angles depend on the position alone; others change with the length of the sequence."""
FIRST_POSITIONS = 1024
"""Rows of the first table of angles; it doubles when longer sequences come."""


class Attend(Protocol):
    """Attention of one layer: takes in the keys and values of the step's tokens, gives back [N, Q * D]."""

    def __call__(self, layer: int, query_NQD: torch.Tensor, key_value_N2HD: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class LlamaShape:
    layers: int
    query_heads: int
    heads: int
    head_size: int
    scale: float
    """What the products of queries and keys are multiplied by."""


@dataclass(frozen=True, slots=True)
class LlamaLayer:
    query_key_value: Linear
    output: Linear
    gate_up: Linear
    down: Linear
    input_norm_E: torch.Tensor
    inner_norm_E: torch.Tensor
    query_norm_D: torch.Tensor | None
    key_norm_D: torch.Tensor | None


def why_not_lean(model: Any) -> str | None:
    """Why ``model`` needs transformers' own forward pass; None if the lean path computes the same."""
    config = model.config
    if type(model) not in LEAN_CLASSES:
        return f"{type(model).__name__} is none of {', '.join(known.__name__ for known in LEAN_CLASSES)}"
    if config.hidden_act != "silu":
        return f"the activation is {config.hidden_act}"
    if getattr(config, "quantization_config", None) is not None:
        return "the weights are quantized"
    if has_window(config):
        return "attention has a sliding window"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") not in STEADY_ROPES:
        return f"the rotary embedding is of type {rope.get('rope_type')}"
    if 2 * model.model.rotary_emb.inv_freq.numel() != model.model.layers[0].self_attn.head_dim:
        return "the rotary embedding turns a part of each head only"
    plain = (torch.nn.Linear, torch.nn.Embedding)
    odd = [name for name, part in model.named_modules() if hasattr(part, "in_features") and type(part) not in plain]
    return f"{odd[0]} is no plain linear layer" if odd else None


class LlamaModel:
    """The weights of one model in the form the lean path multiplies by. Used by one thread at a time."""

    def __init__(self, model: Any, *, products: torch.dtype | None = None, pack: bool = True) -> None:
        """Takes the weights of ``model``, for which `why_not_lean` finds no reason; its linear layers end empty.

        ``products``: what all layers but the last one multiply in; None is the dtype of the model.
        """
        config = model.config
        first = model.model.layers[0].self_attn
        heads: int = config.num_key_value_heads
        self.shape = LlamaShape(
            layers=len(model.model.layers),
            query_heads=config.num_attention_heads,
            heads=heads,
            head_size=first.head_dim,
            scale=first.scaling,
        )
        self._embedding_VE: torch.Tensor = model.get_input_embeddings().weight.detach()
        self.dtype = self._embedding_VE.dtype
        self.device = self._embedding_VE.device
        self._eps: float = config.rms_norm_eps
        self._eps_1 = torch.tensor([self._eps], device=self.device)
        self._rotary: Any = model.model.rotary_emb
        self._products = products or self.dtype
        self._packed = pack and all(can_pack(self.device.type, dtype) for dtype in {self.dtype, self._products})
        self._cosines_ND = self._sines_ND = torch.empty(0)
        self._linears: list[Linear] = []
        self._layers = [self._take_layer(f"model.layers.{i}", part) for i, part in enumerate(model.model.layers)]
        self._norm_E: torch.Tensor = model.model.norm.weight.detach()
        # Rounded logits would be a coarse measure of the model's own choice.
        self._head = self._take([("lm_head", model.get_output_embeddings())], self.dtype, keep=True)

    @property
    def linears(self) -> tuple[Linear, ...]:
        """All linear layers, by their index."""
        return tuple(self._linears)

    def forward(
        self, ids_N: torch.Tensor, positions_N: torch.Tensor, attend: Attend, lora: LoraStack | None = None
    ) -> torch.Tensor:
        """Hidden states after the last layer, [N, E]."""
        shape = self.shape
        count = ids_N.shape[0]
        padding = max(0, FEWEST_PACKED_ROWS - count) if self._packed else 0
        rotated = shape.query_heads + shape.heads
        cosines_N1D, sines_N1D = self._angles(positions_N)
        hidden_NE = self._embedding_VE.index_select(0, ids_N)
        padded_N: torch.Tensor | None = None
        if padding:
            hidden_NE = torch.nn.functional.pad(hidden_NE, (0, 0, 0, padding))
            padded_N = hidden_NE.new_zeros((count + padding, shape.query_heads * shape.head_size))
        for index, layer in enumerate(self._layers):
            x_NE = self._norm(hidden_NE, layer.input_norm_E)
            heads_N = _apply(layer.query_key_value, x_NE, lora)[:count].view(count, -1, shape.head_size)
            query_NQD, key_value_NXD = heads_N[:, : shape.query_heads], heads_N[:, shape.query_heads :]
            if layer.query_norm_D is not None and layer.key_norm_D is not None:
                key_NHD = key_value_NXD[:, : shape.heads]
                query_NQD.copy_(self._norm(query_NQD, layer.query_norm_D))
                key_NHD.copy_(self._norm(key_NHD, layer.key_norm_D))
            _turn(heads_N[:, :rotated], cosines_N1D, sines_N1D)
            mixed_N = attend(index, query_NQD, key_value_NXD.view(count, 2, shape.heads, shape.head_size))
            if padded_N is not None:
                padded_N[:count] = mixed_N
                mixed_N = padded_N
            hidden_NE.add_(_apply(layer.output, mixed_N, lora))
            x_NE = self._norm(hidden_NE, layer.inner_norm_E)
            gate_up_N = _apply(layer.gate_up, x_NE, lora)
            inner = layer.gate_up.sizes[0]
            inner_NI = torch.nn.functional.silu(gate_up_N[:, :inner]).mul_(gate_up_N[:, inner:])
            hidden_NE.add_(_apply(layer.down, inner_NI, lora))
        return hidden_NE[:count]

    def logits(self, hidden_BE: torch.Tensor, lora: LoraStack | None = None) -> torch.Tensor:
        """fp32 logits, [B, V]. ``lora`` speaks of these B rows."""
        rows = hidden_BE.shape[0]
        normed_BE = self._norm(hidden_BE.contiguous(), self._norm_E)
        if self._packed and rows < FEWEST_PACKED_ROWS:
            normed_BE = torch.nn.functional.pad(normed_BE, (0, 0, 0, FEWEST_PACKED_ROWS - rows))
        return _apply(self._head, normed_BE, lora)[:rows].float()

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float32:
            # Few operations: of these small tensors, each costs more to start than to compute.
            length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            inverse = torch.addcmul(self._eps_1, length, length, value=1.0 / x.shape[-1]).rsqrt_()
            return torch.mul(x, inverse).mul_(weight)
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)).to(x.dtype)

    def _angles(self, positions_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, [N, 1, D]; the sines of the first half of a head are negated."""
        needed = int(positions_N.max()) + 1
        if needed > self._cosines_ND.shape[0]:
            size = max(FIRST_POSITIONS, 1 << (needed - 1).bit_length())
            every_1N = torch.arange(size, device=self.device).unsqueeze(0)
            cosines, sines = self._rotary(self._embedding_VE, every_1N)
            half = sines.shape[-1] // 2
            self._cosines_ND = cosines[0]
            self._sines_ND = torch.cat([-sines[0, :, :half], sines[0, :, half:]], dim=-1)
        return self._cosines_ND[positions_N].unsqueeze(1), self._sines_ND[positions_N].unsqueeze(1)

    def _take_layer(self, name: str, part: Any) -> LlamaLayer:
        attention, inner = part.self_attn, part.mlp
        inputs = [(f"{name}.self_attn.{side}_proj", getattr(attention, f"{side}_proj")) for side in "qkv"]
        query_norm = getattr(attention, "q_norm", None)
        key_norm = getattr(attention, "k_norm", None)
        return LlamaLayer(
            query_key_value=self._take(inputs),
            output=self._take([(f"{name}.self_attn.o_proj", attention.o_proj)]),
            gate_up=self._take([(f"{name}.mlp.gate_proj", inner.gate_proj), (f"{name}.mlp.up_proj", inner.up_proj)]),
            down=self._take([(f"{name}.mlp.down_proj", inner.down_proj)]),
            input_norm_E=part.input_layernorm.weight.detach(),
            inner_norm_E=part.post_attention_layernorm.weight.detach(),
            query_norm_D=None if query_norm is None else query_norm.weight.detach(),
            key_norm_D=None if key_norm is None else key_norm.weight.detach(),
        )

    def _take(self, modules: list[tuple[str, Any]], dtype: torch.dtype | None = None, *, keep: bool = False) -> Linear:
        linear = join(len(self._linears), modules, dtype or self._products, packed=self._packed)
        self._linears.append(linear)
        if not keep:
            for _, module in modules:
                module.weight = torch.nn.Parameter(module.weight.new_empty(0), requires_grad=False)
        return linear


def _apply(linear: Linear, x_NI: torch.Tensor, lora: LoraStack | None) -> torch.Tensor:
    y_NO = linear(x_NI)
    if lora is not None:
        lora.add(linear.index, x_NI, y_NO)
    return y_NO


def _turn(x_NXD: torch.Tensor, cosines_N1D: torch.Tensor, sines_N1D: torch.Tensor) -> None:
    """Rotary embedding in place: x * cos + rotate_half(x) * sin, the sign of the half being in the sines."""
    swapped_NXD = x_NXD.roll(x_NXD.shape[-1] // 2, -1)
    x_NXD.mul_(cosines_N1D).addcmul_(swapped_NXD, sines_N1D)
