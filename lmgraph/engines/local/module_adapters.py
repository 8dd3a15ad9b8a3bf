"""Adapters merged into copies of the layers they touch, for models that run through transformers' own forward pass.

Shape suffixes: O x I the linear layer, R the rank. A merged layer is W + scale * B @ A computed in fp32 from the exact
base weight and rounded once; the base itself is never changed, so nothing has to be unmerged. Serving an adapter
means pointing the model's parameters at its copies, which costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lmgraph.engines.local.adapters import Adapter, LoraPair
from lmgraph.engines.local.weights import Weights

KEPT_MERGED_ADAPTERS = 3
"""Merged copies in memory at once; each is about as large as the base's linear layers."""


class MergedAdapters:
    """Merged copies of the adapters used last. Used by one thread at a time."""

    def __init__(self, weights: Weights, kept: int = KEPT_MERGED_ADAPTERS) -> None:
        self._weights = weights
        self._kept = max(1, kept)
        self._merged: OrderedDict[str, dict[str, torch.Tensor]] = OrderedDict()

    @contextmanager
    def serving(self, adapter: Adapter | None) -> Iterator[None]:
        """The model computes with ``adapter`` inside the block."""
        if adapter is None:
            yield
            return
        parameters = self._weights.parameters_by_name()
        merged = self._tensors(adapter)
        base = {name: parameters[name].data for name in merged}
        try:
            for name, tensor in merged.items():
                parameters[name].data = tensor
            yield
        finally:
            for name, tensor in base.items():
                parameters[name].data = tensor

    def forget(self, digest: str) -> None:
        self._merged.pop(digest, None)

    def _tensors(self, adapter: Adapter) -> dict[str, torch.Tensor]:
        merged = self._merged.get(adapter.digest)
        if merged is None:
            while len(self._merged) >= self._kept:
                self._merged.popitem(last=False)
            merged = {name: merge(self._weights, name, pair) for name, pair in adapter.pairs.items()}
            self._merged[adapter.digest] = merged
        self._merged.move_to_end(adapter.digest)
        return merged


def merge(weights: Weights, name: str, pair: LoraPair) -> torch.Tensor:
    """W + scale * B @ A in the precision the model is served in."""
    merged_OI = torch.addmm(weights.exact_tensor(name), pair.b_OR, pair.a_RI, alpha=pair.scale)
    return merged_OI.to(weights.dtype)
