"""The door to the lean path: whether a model can take it, and that it computes there what transformers computes.

Shape suffixes: N tokens, V vocabulary.
"""

from __future__ import annotations

import logging

import torch

from lmgraph.engines.local.lean_prefill import Stretch, compute
from lmgraph.engines.local.llama import LlamaModel, why_not_lean
from lmgraph.engines.local.lora import LoraStacks
from lmgraph.engines.local.weights import Weights

PROBE_TOKENS = 24
LARGEST_ERROR = 1e-3
"""Of the logits, relative, in fp32; the paths add in different orders."""
LARGEST_ROUNDED_ERROR = 0.1
"""The same where layers round to bf16."""
logger = logging.getLogger(__name__)


def take_lean(weights: Weights) -> LlamaModel | None:
    """Take the model out of ``weights`` into the lean path; None if it needs transformers' own forward pass.

    The two are compared on a few tokens. ``weights.model`` is None afterwards if the weights were taken, also where
    the comparison failed.
    """
    if why_not_lean(weights.model) is not None:
        return None
    ids_N = torch.arange(min(PROBE_TOKENS, weights.vocabulary_size), device=weights.device)
    with torch.inference_mode():
        expected_V = weights.last_logits(ids_N.unsqueeze(0), ids_N.unsqueeze(0), None, None)[0]
        lean = LlamaModel(weights.model, products=weights.products)
        weights.model = None
        found_V = _logits(lean, ids_N.tolist())
    error = float((found_V - expected_V).norm() / expected_V.norm())
    limit = LARGEST_ERROR if weights.products == torch.float32 else LARGEST_ROUNDED_ERROR
    if error <= limit:
        return lean
    logger.warning("the lean path differs from transformers on %s by %.1e: not used.", weights.folder.name, error)
    return None


def _logits(lean: LlamaModel, ids: list[int]) -> torch.Tensor:
    loras = LoraStacks(lean.linears, lean.dtype, lean.device)
    (computed,) = compute(lean, loras, [Stretch([], tuple(ids), None, wants_logits=True)])
    assert computed.logits_V is not None
    return computed.logits_V
