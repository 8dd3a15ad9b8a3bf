"""Options of `reflect`, with the defaults that docs/guide/reflect.md explains."""

from __future__ import annotations

from pydantic import Field

from lmgraph.optimize import OptimizerConfig


class ReflectConfig(OptimizerConfig):
    """Options of `reflect`."""

    steps: int = Field(default=20, ge=1, description="times an instruction is reflected on")
    minibatch: int = Field(default=4, ge=1, description="training rows a reflection reads, and a new text must improve")
    feedback_rows: int = Field(default=96, ge=1, description="most training rows that reflections read from")
    score_rows: int = Field(default=48, ge=1, description="training rows that accepted texts are scored on")
    reflector: str | None = Field(
        default=None,
        description="who reflects: an lm of the program or a model (`local:NAME`, `openai:MODEL@URL`); default: each"
        " module's own lm",
    )
    merge: bool = Field(
        default=False,
        description="also try texts of different modules together that were found apart from one another",
    )
    max_tokens: int = Field(default=256, ge=16, description="most tokens of a new instruction")
