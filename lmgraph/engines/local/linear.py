"""Linear layers of the lean path: those that read the same input are one product, packed where that is faster.

Shape suffixes: N tokens, I inputs, O outputs. A packed weight lies in the blocks oneDNN multiplies by, so that a
product of few rows does not begin by rearranging the matrix: 1.3 times the speed at 64 rows, 2.5 times at 8. Packed
weights are lossless and replace the plain ones. What is computed with the layers is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

TYPICAL_ROWS = 64
"""Rows the blocks are laid out for; all other numbers of rows work as well."""
FEWEST_PACKED_ROWS = 4
"""oneDNN leaves its blocked kernels below this: four rows take less time than one."""


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x W^T + b, for one or several layers of the model whose outputs stand side by side."""

    index: int
    """Its place among all linear layers of the lean model."""
    names: tuple[str, ...]
    """The modules it stands for, in the order of their outputs."""
    sizes: tuple[int, ...]
    """Outputs of each of them."""
    weight: torch.Tensor
    """[O, I]; opaque where it is packed."""
    bias_O: torch.Tensor | None
    dtype: torch.dtype
    """Of the weight. Inputs of another are rounded to it, and outputs brought back to theirs."""
    packed: bool

    def __call__(self, x_NI: torch.Tensor) -> torch.Tensor:
        rounded_NI = x_NI.to(self.dtype)
        if self.packed:
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                rounded_NI, self.weight, self.bias_O, "none", [], ""
            )
            return product.to(x_NI.dtype)
        return torch.nn.functional.linear(rounded_NI, self.weight, self.bias_O).to(x_NI.dtype)

    @property
    def memory(self) -> tuple[int, int]:
        """Address and bytes of the weight."""
        if self.packed:
            return int(torch.ops.mkldnn.data_ptr(self.weight)), int(torch.ops.mkldnn._nbytes(self.weight))
        return self.weight.data_ptr(), self.weight.nbytes


def join(index: int, modules: Sequence[tuple[str, torch.nn.Linear]], dtype: torch.dtype, *, packed: bool) -> Linear:
    """One layer for ``modules``, which all read the same input. A single dense weight is used as it is."""
    weights = [module.weight.detach().to(dtype) for _, module in modules]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    biases = [module.bias.detach() for _, module in modules if module.bias is not None]
    bias_O: torch.Tensor | None = None
    if biases:
        bias_O = torch.cat(
            [weight.new_zeros(module.out_features) if module.bias is None else module.bias for _, module in modules]
        ).detach()
        bias_O = bias_O.to(dtype)
    return Linear(
        index=index,
        names=tuple(name for name, _ in modules),
        sizes=tuple(module.out_features for _, module in modules),
        weight=torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), TYPICAL_ROWS) if packed else weight,
        bias_O=bias_O,
        dtype=dtype,
        packed=packed,
    )


@cache
def can_pack(device_type: str, dtype: torch.dtype) -> bool:
    """Whether torch packs weights here, and multiplies by them rightly. These operators are not torch's public ones."""
    if device_type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((48, 32), generator=generator).to(dtype)
    x = torch.randn((FEWEST_PACKED_ROWS, 32), generator=generator).to(dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)
        product = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    tolerance = 1e-4 if dtype == torch.float32 else 0.25
    return torch.allclose(product.float(), torch.nn.functional.linear(x, weight).float(), atol=tolerance)
