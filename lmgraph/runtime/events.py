"""What `Runtime.stream` tells of a run while it goes on."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lmgraph.runtime.execute import CallFunction
from lmgraph.runtime.plan import PlannedCall
from lmgraph.runtime.trace import Failure, Trace

NodeKind: TypeAlias = Literal["module", "extern", "flow"]
"""flow: a stub answers in its place; the nodes of other flows have events of their own."""


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A call of a module or of Python begins."""

    node: str
    call_key: str
    kind: NodeKind
    name: str
    """Of the module, extern or stubbed flow."""
    inputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NodeFinished:
    """The call is over, its retries included."""

    node: str
    call_key: str
    kind: NodeKind
    name: str
    value: Any
    """A module's outputs by name, or an extern's value; None where ``failure`` says why."""
    failure: Failure | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TextSampled:
    """A piece of what a module's model writes, from engines that stream. What it wrote before a retry, whose call key
    is another one, is void."""

    node: str
    call_key: str
    text: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last event: all that the run did."""

    trace: Trace


Event: TypeAlias = NodeStarted | TextSampled | NodeFinished | RunFinished
Tell: TypeAlias = Callable[[Event], Awaitable[None]]


def observed(call: CallFunction, tell: Tell) -> CallFunction:
    """``call`` with an event before and after it. A slow listener holds the run up instead of filling memory."""

    async def told(node: PlannedCall, key: str, inputs: Mapping[str, Any]) -> Any:
        await tell(NodeStarted(node.id, key, node.kind, node.name, inputs))
        began = time.perf_counter()
        value = await call(node, key, inputs)
        seconds = time.perf_counter() - began
        failure = value if type(value) is Failure else None
        given = None if failure is not None else value
        await tell(NodeFinished(node.id, key, node.kind, node.name, given, failure, seconds))
        return value

    return told
