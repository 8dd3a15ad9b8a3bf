"""Layers that are computed again in the backward pass, where what they would keep for it does not fit into memory.

A forward pass of K trie nodes keeps about `bytes_kept` until the backward pass: for the small model 4 to 6 MB a node.
With layers computed again (Chen et al., arXiv:1604.06174) it keeps the input of each layer and what one layer keeps;
the gradients are the same to the bit, and an update takes up to 1.3 times as long (bench/recompute.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import psutil
import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from lmgraph_optimizers.mmgrpo.trie import TokenTrie

Recompute = Literal["auto", "always", "never"]
FLOATS_OF_HIDDEN = 24
"""Numbers that a layer keeps of one node, as multiples of its hidden size: norms, projections and LoRA's inputs;
measured on a Llama with LoRA on all linear layers."""
FLOATS_OF_INTERMEDIATE = 12
"""The same, as multiples of the size of its feed-forward part."""
SHARE_OF_FREE = 0.5
"""Of the memory that is free, which a pass may take: other processes want some too, and freed blocks fit badly."""


class Layers:
    """The layers of a transformers model, and whether they are computed again."""

    def __init__(self, model: Any, recompute: Recompute) -> None:
        self._model = model
        self._recompute = recompute
        self._layers: list[Any] = []
        if recompute != "never" and getattr(model, "supports_gradient_checkpointing", False):
            self._layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
        for layer in self._layers:
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)

    @contextmanager
    def ready_for(self, trie: TokenTrie, device: torch.device) -> Iterator[None]:
        """One forward pass whose backward pass follows."""
        again = torch.is_grad_enabled() and self.are_recomputed(trie, device)
        self._set(again)
        try:
            yield
        finally:
            self._set(False)

    def _set(self, again: bool) -> None:
        """transformers looks at both flags of a layer itself; its parts, where dropout would be, stay in evaluation."""
        for layer in self._layers:
            layer.gradient_checkpointing = layer.training = again

    def are_recomputed(self, trie: TokenTrie, device: torch.device) -> bool:
        if self._recompute == "auto":
            return bytes_kept(trie, self._model.config) > SHARE_OF_FREE * free_bytes(device)
        return self._recompute == "always"


def bytes_kept(trie: TokenTrie, config: Any) -> int:
    """What a forward pass keeps for its backward pass, in float32: estimated from sizes that models call alike."""
    config = config.get_text_config()
    hidden = int(config.hidden_size)
    heads = int(getattr(config, "num_attention_heads", 1))
    intermediate = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    a_node = FLOATS_OF_HIDDEN * hidden + FLOATS_OF_INTERMEDIATE * intermediate
    weights = heads * sum((block.stop - block.start) * len(block.reads_S) for block in trie.blocks)
    return 4 * int(config.num_hidden_layers) * (trie.size * a_node + weights)


def free_bytes(device: torch.device) -> int:
    """Memory that a pass could take now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    memory: Any = psutil  # it has no annotations
    return int(memory.virtual_memory().available)
