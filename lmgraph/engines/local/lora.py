"""Adapters beside the base weights: y = W x + scale * B A x, for rows of several adapters in one product.

Shape suffixes: N tokens or rows, I inputs, O outputs, R the ranks of all adapters of a stack side by side. Nothing is
merged, so a new adapter costs nothing to take up, any number can be loaded, and their rows share a batch: a row's
part of A x that belongs to other adapters is set to zero.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lmgraph.engines.local.adapters import Adapter
from lmgraph.engines.local.linear import Linear

KEPT_STACKS = 4
"""Sets of adapters whose matrices stay put together; each is as large as the adapters are."""


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """The matrices of one linear layer, those of all adapters of the stack side by side."""

    a_IR: torch.Tensor
    b_RO: torch.Tensor
    """The scale is in it."""
    owners: tuple[int, ...]
    """Which adapter of the stack each of the R columns belongs to."""


@dataclass(frozen=True, slots=True)
class LoraStack:
    """The adapters of some rows, by the index of the linear layer; None where no adapter touches it."""

    factors: tuple[LoraFactors | None, ...]
    masks_NR: dict[tuple[int, ...], torch.Tensor]
    """By owners: 1 where a row is its own adapter's. Empty if all rows have the stack's only adapter."""
    rows: int = 0

    def add(self, index: int, x_NI: torch.Tensor, y_NO: torch.Tensor) -> None:
        """Add the adapters' part of linear layer ``index`` to ``y_NO``, to its first ``rows`` rows."""
        factors = self.factors[index]
        if factors is None:
            return
        narrow_NR = x_NI[: self.rows] @ factors.a_IR
        if self.masks_NR:
            narrow_NR.mul_(self.masks_NR[factors.owners])
        y_NO[: self.rows].addmm_(narrow_NR, factors.b_RO)


class LoraStacks:
    """Stacks of adapters for one lean model, made when they are needed. Used by one thread at a time."""

    def __init__(self, linears: Sequence[Linear], dtype: torch.dtype, device: torch.device) -> None:
        self._linears = linears
        self._dtype = dtype
        self._device = device
        self._stacks: OrderedDict[tuple[str, ...], LoraStack] = OrderedDict()

    def for_rows(self, adapters: Sequence[Adapter | None]) -> LoraStack | None:
        """The stack of the rows' adapters; None if no row has one."""
        distinct = {adapter.digest: adapter for adapter in adapters if adapter is not None}
        if not distinct:
            return None
        key = tuple(sorted(distinct))
        stack = self._stacks.get(key)
        if stack is None:
            while len(self._stacks) >= KEPT_STACKS:
                self._stacks.popitem(last=False)
            chosen = [distinct[digest] for digest in key]
            factors = tuple(self._factors(linear, chosen) for linear in self._linears)
            stack = self._stacks[key] = LoraStack(factors, {})
        self._stacks.move_to_end(key)
        masks: dict[tuple[int, ...], torch.Tensor] = {}
        if len(key) > 1 or None in adapters:
            places = [-1 if adapter is None else key.index(adapter.digest) for adapter in adapters]
            places_N1 = torch.tensor(places, device=self._device).unsqueeze(1)
            for owners in {factors.owners for factors in stack.factors if factors is not None}:
                masks[owners] = (places_N1 == torch.tensor(owners, device=self._device)).to(self._dtype)
        return replace(stack, masks_NR=masks, rows=len(adapters))

    def forget(self, digest: str) -> None:
        """Drop the stacks this adapter is part of."""
        for key in [key for key in self._stacks if digest in key]:
            del self._stacks[key]

    def _factors(self, linear: Linear, adapters: Sequence[Adapter]) -> LoraFactors | None:
        a_parts: list[torch.Tensor] = []
        b_parts: list[torch.Tensor] = []
        owners: list[int] = []
        for place, adapter in enumerate(adapters):
            start = 0
            for name, size in zip(linear.names, linear.sizes, strict=True):
                pair = adapter.pairs.get(f"{name}.weight")
                if pair is not None:
                    b_RO = pair.b_OR.new_zeros((pair.b_OR.shape[1], sum(linear.sizes)))
                    b_RO[:, start : start + size] = pair.b_OR.T * pair.scale
                    a_parts.append(pair.a_RI.T)
                    b_parts.append(b_RO)
                    owners += [place] * b_RO.shape[0]
                start += size
        if not owners:
            return None
        return LoraFactors(
            a_IR=torch.cat(a_parts, dim=1).to(self._device, self._dtype),
            b_RO=torch.cat(b_parts).to(self._device, self._dtype),
            owners=tuple(owners),
        )
