"""Options of `mmgrpo`, with the defaults that docs/guide/mmgrpo.md explains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lmgraph.optimize import OptimizerConfig


class MmgrpoConfig(OptimizerConfig):
    """Options of `mmgrpo`."""

    steps: int = Field(default=30, ge=1, description="optimizer steps")
    examples: int = Field(default=8, ge=1, description="training rows a step")
    samples: int = Field(default=8, ge=2, description="G, rollouts of each row")
    redraws: int = Field(
        default=3, ge=0, description="times a step draws new rows in place of those whose samples all scored the same"
    )
    temperature: float = Field(default=1.0, gt=0, description="sampling temperature of the rollouts")
    learning_rate: float | None = Field(
        default=None, gt=0, description="of AdamW; default: 3e-4 under half a billion parameters, else 2e-5"
    )
    warmup: int = Field(default=3, ge=0, description="steps over which the learning rate rises; constant after")
    rank: int = Field(default=16, ge=1, description="r of LoRA")
    alpha: int = Field(default=32, ge=1, description="alpha of LoRA; the update is scaled by alpha / r")
    clip_low: float = Field(default=0.2, ge=0, description="the ratio is clipped below at 1 - this")
    clip_high: float = Field(default=0.28, ge=0, description="the ratio is clipped above at 1 + this")
    dual_clip: float = Field(default=3.0, gt=1, description="for a negative advantage A the term is not below this A")
    max_grad_norm: float = Field(default=1.0, gt=0, description="the gradient's norm is clipped to this")
    format_return: float | None = Field(
        default=None, description="return of a call whose own output failed; default: the low end of the range"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of matrix products in training; auto is float32 on a CPU, bfloat16 on CUDA"
    )
    micro_tokens: int = Field(default=2048, ge=1, description="most tokens in one forward pass")
