"""What a run leaves behind: one Call for each LM call, and the Trace that holds them.

A Call has everything needed to replay it or to train on it: the very token ids that the sampler read and chose, with
its logprobs. A model output that does not parse is a Failure, a value; nothing here raises for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lmgraph.errors import OutputError, RunError

FailureKind = Literal["parse", "engine", "value", "budget"]
"""parse: the output does not fit its type; engine: no usable answer came; value: an expression has no value (an index
out of range, a division by zero); budget: the call was not made or was cut."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node has no value. Nodes that read it fail with the same one: the first cause."""

    kind: FailureKind
    message: str
    node: str
    call_key: str
    raw_text: str | None = None

    def error(self) -> RunError:
        """As an exception, for callers who ask for strictness."""
        text = f"{self.call_key}: {self.message}"
        if self.kind == "parse":
            return OutputError(text, raw_text=self.raw_text or "", expected=self.message, node=self.node)
        return RunError(text, node=self.node, call_key=self.call_key)


@dataclass(frozen=True, slots=True)
class Call:
    """One LM call. All token lists are the sampler's own; nothing is ever tokenised again."""

    node: str
    call_key: str
    """Node id with loop and map indices; a retry appends `/retry[k]`."""
    module: str
    lm: str
    engine: str
    model: str
    adapter: str | None
    template: str
    """Hash of the prompt's static part: instruction, descriptions, demos, chat template."""
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    logprobs: Sequence[float]
    """log mu of each completion token, nats."""
    temperature: float
    seed: int
    constrained: bool
    finish_reason: str
    text: str
    """The completion decoded, special tokens left out."""
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any] | None
    """None where ``failure`` says why."""
    failure: Failure | None = None
    retry: int = 0
    attempt: int = 0
    cached_tokens: int = 0
    started: float = 0.0
    """Unix time, seconds."""
    seconds: float = 0.0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Where a run stands in a study. Its seeds follow from this and the caller's seed, never from the clock."""

    study: str = ""
    phase: str = "run"
    step: int = 0
    example: str = ""
    rollout: int = 0


@dataclass(slots=True)
class Trace:
    """All calls of one run of one flow, its inputs and what came out."""

    run_id: str
    program: str
    """`Program.hash`."""
    flow: str
    identity: RunIdentity
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any] | None = None
    failure: Failure | None = None
    calls: list[Call] = field(default_factory=list)
    """In the order of their call keys, the same under every schedule."""
    started: float = 0.0
    seconds: float = 0.0
    reward: float | None = None

    def require(self) -> Mapping[str, Any]:
        """The outputs. Raises: RunError (OutputError where an output did not parse) with the first cause."""
        if self.outputs is None:
            raise self.failure.error() if self.failure else RunError("the run has not finished")
        return self.outputs

    @property
    def prompt_tokens(self) -> int:
        return sum(len(call.prompt_ids) for call in self.calls)

    @property
    def completion_tokens(self) -> int:
        return sum(len(call.completion_ids) for call in self.calls)
