"""Runs programs and records what they did."""

from lmgraph.runtime.bind import Binding
from lmgraph.runtime.cache import ResponseCache
from lmgraph.runtime.engine import TrainableEngine
from lmgraph.runtime.events import Event, NodeFinished, NodeStarted, RunFinished, TextSampled
from lmgraph.runtime.limits import Budget, Meter
from lmgraph.runtime.service import RunOptions, Runtime
from lmgraph.runtime.store import TraceStore
from lmgraph.runtime.trace import Call, CheckRecord, Failure, RunIdentity, RunSettings, Step, Trace

__all__ = [
    "Binding",
    "Budget",
    "Call",
    "CheckRecord",
    "Event",
    "Failure",
    "Meter",
    "NodeFinished",
    "NodeStarted",
    "ResponseCache",
    "RunFinished",
    "RunIdentity",
    "RunOptions",
    "RunSettings",
    "Runtime",
    "Step",
    "TextSampled",
    "Trace",
    "TraceStore",
    "TrainableEngine",
]
