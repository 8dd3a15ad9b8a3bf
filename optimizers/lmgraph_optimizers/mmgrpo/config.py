"""Options of `mmgrpo`, with the defaults that docs/guide/mmgrpo.md explains."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from lmgraph.optimize import Grouping, OptimizerConfig

Aggregation = Literal["batch", "module", "sequence"]

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "grouping": "paper",
        "ragged": "fill",
        "baseline": "mean",
        "scale": "group",
        "group_size": 12,
        "aggregation": "sequence",
        "kl": 0.04,
        "clip_high": 0.2,
        "dual_clip": 1e6,
        "samples": 12,
        "redraws": 0,
        "temperature": 0.6,
        "learning_rate": 1e-5,
        "alpha": 64,
    }
}
"""The settings of Ziems et al. (arXiv:2508.04660) as far as they are given there; an option given wins."""


class MmgrpoConfig(OptimizerConfig):
    """Options of `mmgrpo`."""

    preset: Literal["none", "paper"] = Field(
        default="none", description="paper: the settings of arXiv:2508.04660; options given beside it win"
    )
    steps: int = Field(default=30, ge=1, description="optimizer steps")
    examples: int = Field(default=8, ge=1, description="training rows a step")
    samples: int = Field(default=8, ge=2, description="G, rollouts of each row")
    redraws: int = Field(
        default=3, ge=0, description="times a step draws new rows in place of those whose samples all scored the same"
    )
    patience: int = Field(
        default=5, ge=0, description="end after this many steps in a row in which no group trained; 0: never"
    )
    temperature: float = Field(default=1.0, gt=0, description="sampling temperature of the rollouts")
    decoding: Literal["strict", "constrained"] = Field(
        default="strict",
        description="how rollouts are sampled; constrained: under each output's grammar, with probabilities over"
        " what it allows",
    )
    grouping: Grouping = Field(
        default="call",
        description="what is compared: calls at one place in the graph; paper: a module's k-th calls; trajectory: runs",
    )
    ragged: Literal["mask", "truncate", "fill"] = Field(
        default="mask", description="groups that lack rollouts: as they are, dropped, or filled with copies"
    )
    group_size: int | None = Field(
        default=None, ge=2, description="calls kept of a group, spread evenly over their returns; default: all"
    )
    baseline: Literal["leave_one_out", "mean"] = Field(
        default="leave_one_out",
        description="what a return is compared with: the mean of its peers, or of the whole group",
    )
    scale: Literal["none", "group", "module"] = Field(
        default="none", description="advantages are divided by the deviation of their group, or of their module so far"
    )
    format_return: float | None = Field(
        default=None, description="return of a call whose own output failed; default: the low end of the range"
    )
    adapters: Literal["shared", "per_module"] = Field(
        default="shared", description="one adapter for each declared lm, or for each module"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="of AdamW; default: 3e-4 under half a billion parameters, else 2e-5"
    )
    warmup: int = Field(default=3, ge=0, description="updates over which the learning rate rises; constant after")
    minibatches: int = Field(
        default=1, ge=1, description="updates made of one step's rollouts, each on its share of groups"
    )
    rank: int = Field(default=16, ge=1, description="r of LoRA")
    alpha: int = Field(default=32, ge=1, description="alpha of LoRA; the update is scaled by alpha / r")
    clip_low: float = Field(default=0.2, ge=0, description="the ratio is clipped below at 1 - this")
    clip_high: float = Field(default=0.28, ge=0, description="the ratio is clipped above at 1 + this")
    dual_clip: float = Field(default=3.0, gt=1, description="for a negative advantage A the term is not below this A")
    aggregation: Aggregation = Field(
        default="batch", description="what weighs the same: tokens of the batch, modules, or sequences (the paper's)"
    )
    mismatch: Literal["none", "tis"] = Field(
        default="none",
        description="tis: ratio to the trainer's own policy, tokens weighted by min(pi_old / mu, 2); for engines whose"
        " numerics differ from the trainer's",
    )
    max_gap: float = Field(
        default=0.2,
        gt=0,
        description="nats a token, on average over a call, that sampler and trainer may differ by; a call that is"
        " further off does not train",
    )
    kl: float = Field(default=0.0, ge=0, description="beta of the KL term towards the model without adapter")
    max_grad_norm: float = Field(default=1.0, gt=0, description="each adapter's gradient norm is clipped to this")
    precision: Literal["auto", "float32", "bfloat16", "mixed"] = Field(
        default="auto",
        description="of matrix products in training; auto is float32 on a CPU, bfloat16 on CUDA; mixed: bfloat16 by the"
        " base weights, float32 elsewhere",
    )
    micro_tokens: int = Field(default=2048, ge=1, description="most tokens in one forward pass, which bounds memory")
    recompute: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="whether the backward pass computes layers again in place of keeping them, which takes longer and"
        " changes nothing else; auto: where keeping them would take more than half of the memory that is free",
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = PRESETS.get(given.get("preset", "none"), {})
        if preset and "samples" in given:  # a group is kept as large as it was sampled
            preset = {**preset, "group_size": given["samples"]}
        return {**preset, **given}
