"""Runs programs and records what they did."""

from lmgraph.runtime.bind import Binding
from lmgraph.runtime.engine import TrainableEngine
from lmgraph.runtime.limits import Budget, Meter
from lmgraph.runtime.service import RunOptions, Runtime
from lmgraph.runtime.store import TraceStore
from lmgraph.runtime.trace import Call, CheckRecord, Failure, RunIdentity, Step, Trace

__all__ = [
    "Binding",
    "Budget",
    "Call",
    "CheckRecord",
    "Failure",
    "Meter",
    "RunIdentity",
    "RunOptions",
    "Runtime",
    "Step",
    "Trace",
    "TraceStore",
    "TrainableEngine",
]
