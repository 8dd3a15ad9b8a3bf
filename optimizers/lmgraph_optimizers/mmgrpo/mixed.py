"""Frozen linear layers that multiply in bf16 between tensors of float32.

A CPU with bf16 instructions multiplies so twice as fast as in float32, and models are published in bf16, so that their
weights lose nothing. What is trained, LoRA's matrices, and all between the layers stays in float32; the embedded engine
computes the same with `dtype: mixed`. Shapes: N tokens, I inputs, O outputs.
"""

from __future__ import annotations

from typing import Any

import torch


def round_products(model: Any) -> None:
    """Put a `MixedLinear` in the place of each linear layer of a transformers model, but not of the output layer."""
    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear and layer is not head:
                setattr(parent, name, MixedLinear(layer))


class MixedLinear(torch.nn.Linear):
    """y = x W^T + b for a frozen W, which is held in bf16."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight = torch.nn.Parameter(layer.weight.detach().to(torch.bfloat16), requires_grad=False)
        self.bias = layer.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Input [..., I] and output [..., O] of the same dtype."""
        product: torch.Tensor = _Product.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """x W^T; the gradient of x is g W. W has none."""

    @staticmethod
    def forward(ctx: Any, x_NI: torch.Tensor, weight_OI: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight_OI)
        return (x_NI.to(weight_OI.dtype) @ weight_OI.T).to(x_NI.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor | None, ...]:
        (weight_OI,) = ctx.saved_tensors
        return (gradients[0].to(weight_OI.dtype) @ weight_OI).to(gradients[0].dtype), None
