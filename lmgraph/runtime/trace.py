"""What a run leaves behind: one Call for each LM call, one Step for each call of Python, and the Trace that holds them.

A Call has everything needed to replay it or to train on it: the very token ids that the sampler read and chose, with
its logprobs. A model output that does not parse is a Failure, a value; nothing here raises for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from lmgraph.errors import OutputError, RunError, ToolError

CallSource = Literal["engine", "cache", "record"]
"""engine: it was asked; cache: the response cache had the answer; record: a recorded run had it."""

FailureKind = Literal["parse", "engine", "overflow", "value", "assert", "tool", "budget"]
"""parse: the output does not fit its type; engine: no usable answer came; overflow: the prompt and the answer that may
follow are longer than the model reads; value: an expression has no value (an index
out of range, a division by zero, a constraint that is not met); assert: an assert is false; tool: Python raised, took
too long or gave back what does not fit; budget: the call was not made or was cut."""


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
        if self.kind == "tool":
            return ToolError(text, node=self.node, call_key=self.call_key)
        return RunError(text, node=self.node, call_key=self.call_key)


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """One `assert` or `check` that was asked: of a flow, or of a module's output."""

    node: str
    call_key: str
    kind: Literal["assert", "check"]
    message: str
    passed: bool | None
    """None where the condition has no value."""
    values: tuple[tuple[str, Any], ...] = ()
    """Where it is false: what it read, as the author wrote it, and the values (`out.hops`, 2)."""


@dataclass(slots=True)
class Call:
    """One LM call. All token lists are the sampler's own; nothing is ever tokenised again.

    Nobody changes one. It is not frozen, since a frozen one with so many fields takes four times as long to make.
    """

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
    checks: tuple[CheckRecord, ...] = ()
    """The module's asserts and checks, in its order; empty where the output does not parse."""
    retry: int = 0
    attempt: int = 0
    cached_tokens: int = 0
    allowed: Sequence[bytes] | None = None
    """Under a constraint, for each completion token the set that it was chosen from: a bit a token id, lowest bit
    first, zlib-compressed. None without a constraint, or where the engine does not say. Trace stores leave it out."""
    started: float = 0.0
    """Unix time, seconds."""
    seconds: float = 0.0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    source: CallSource = "engine"
    """Where the answer comes from."""
    attempts: int = 1
    """Times the request was sent to a server; those before the last did not come through."""
    cost: float | None = None
    """In the currency of the engine's price table; None where there is no price."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of Python, or of a stub in place of a module, an extern or a flow; or a call that an engine had no
    usable answer to, so that there is no Call of it."""

    node: str
    call_key: str
    kind: Literal["fn", "retriever", "tool", "stub", "lm"]
    """lm: a module's call that its engine failed."""
    name: str
    """Of what was called, or stood in for."""
    inputs: Mapping[str, Any]
    output: Any
    """None where ``failure`` says why."""
    failure: Failure | None = None
    started: float = 0.0
    """Unix time, seconds."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Where a run stands in a study. Its seeds follow from this and the caller's seed, never from the clock."""

    study: str = ""
    phase: str = "run"
    step: int = 0
    example: str = ""
    rollout: int = 0


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run sampled: with it and the identity a run can be made again."""

    decoding: Literal["constrained", "strict", "tolerant"] = "constrained"
    temperature: float | None = None
    """None: the modules' and LMs' own."""
    seed: int = 0
    place: str = ""
    """What a command that was interrupted finds the run by when it goes on; empty where it never looks for it."""


@dataclass(slots=True)
class Trace:
    """All that one run of one flow did, its inputs and what came out. Its lists are in the order of their call keys
    (`hop[2]` before `hop[10]`), the same under every schedule."""

    run_id: str
    program: str
    """`Program.hash`."""
    flow: str
    identity: RunIdentity
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any] | None = None
    failure: Failure | None = None
    calls: list[Call] = field(default_factory=list)
    started: float = 0.0
    seconds: float = 0.0
    reward: float | None = None
    steps: list[Step] = field(default_factory=list)
    checks: list[CheckRecord] = field(default_factory=list)
    """Asserts and checks of flows; those of modules are with their calls."""
    judged: list[Call] = field(default_factory=list)
    """Calls that metrics made, under keys that begin with the metric's name. No optimizer trains on them."""
    settings: RunSettings | None = None
    """None where a store of an older version did not keep them."""

    def require(self) -> Mapping[str, Any]:
        """The outputs. Raises: RunError (OutputError where an output did not parse) with the first cause."""
        if self.outputs is None:
            raise self.failure.error() if self.failure else RunError("the run has not finished")
        return self.outputs

    def sort(self) -> None:
        """Put every list into its order."""
        self.calls.sort(key=call_order)
        self.judged.sort(key=call_order)
        self.steps.sort(key=lambda step: key_order(step.call_key))
        self.checks.sort(key=lambda check: key_order(check.call_key))

    @property
    def prompt_tokens(self) -> int:
        return sum(len(call.prompt_ids) for call in self.calls)

    @property
    def completion_tokens(self) -> int:
        return sum(len(call.completion_ids) for call in self.calls)


_INDEX = re.compile(r"\[(\d+)\]")


@lru_cache(maxsize=4096)
def short_id(run_id: str) -> str:
    """How a run is named to a person: the end of its id, for the beginning is its time. `TraceStore.find` takes it."""
    return run_id[-8:]


def key_order(call_key: str) -> tuple[str | int, ...]:
    """What call keys are sorted by: indices as numbers."""
    parts: list[str | int] = list(_INDEX.split(call_key))
    parts[1::2] = map(int, parts[1::2])
    return tuple(parts)


def call_order(call: Call) -> tuple[tuple[str | int, ...], int, int]:
    return key_order(call.call_key), call.retry, call.attempt
