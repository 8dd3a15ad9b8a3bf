"""Options of `prompt`, with the defaults that docs/guide/prompt.md explains."""

from __future__ import annotations

from pydantic import Field

from lmgraph.optimize import OptimizerConfig


class PromptConfig(OptimizerConfig):
    """Options of `prompt`."""

    trials: int = Field(default=24, ge=1, description="combinations tried on a minibatch")
    minibatch: int = Field(default=16, ge=1, description="training rows a trial is scored on")
    full_every: int = Field(default=8, ge=1, description="trials between full evaluations of the best so far")
    score_rows: int = Field(default=64, ge=1, description="training rows of a full evaluation")
    rounds: int = Field(default=2, ge=1, description="times instructions are proposed, later with what was learned")
    instructions: int = Field(default=8, ge=1, description="most instructions a module can have, its own included")
    proposer: str | None = Field(
        default=None,
        description="who proposes instructions: an lm of the program, a model (`local:NAME`, `openai:MODEL@URL`), or"
        " `none`; default: each module's own lm",
    )
    demo_sets: int = Field(default=6, ge=0, description="most demo sets a module can have beside its own")
    max_demos: int = Field(default=8, ge=1, description="most demos in one module's prompt")
    bootstrap_rows: int = Field(default=96, ge=1, description="most training rows run to find demos")
    bootstrap_rounds: int = Field(default=2, ge=1, description="most passes over those rows")
    threshold: float | None = Field(
        default=None,
        description="score a run needs to give demos; default: the top of the objective's range, and where too few"
        " reach it, what the others did right",
    )
    teacher: str | None = Field(
        default=None,
        description="who finds demos: a model or an artifact of this program; default: the program itself",
    )
