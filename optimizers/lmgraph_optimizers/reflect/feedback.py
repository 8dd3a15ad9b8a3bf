"""What a reflection reads of a run, module by module: what it read, what it wrote, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from lmgraph.evaluate import Rollout, Task
from lmgraph_optimizers.prompt.grounding import show

Record = Mapping[str, str]
"""`inputs`, `output` and `feedback` of one call."""
LONGEST = 400
"""Characters of a text of a metric, of a failure or of a judge."""


def records(rollout: Rollout, task: Task, hidden: Mapping[str, AbstractSet[str]]) -> dict[str, Record]:
    """A record for every module that was called: of its first call that failed, else of its first one.

    ``hidden`` names for each module the fields that its reflector may not see. Where there are any, words of metrics,
    judges and failures are left out too, because they may repeat private values.
    """
    found: dict[str, Record] = {}
    for call in sorted(rollout.trace.calls, key=lambda call: call.failure is None):
        if call.module in found or call.module not in hidden:
            continue
        private = hidden[call.module]
        words = not private
        said = [_scored(rollout, task)]
        if call.failure is not None:
            said.append(f"this step failed: {_short(call.failure.message) if words else call.failure.kind}")
        elif rollout.trace.failure is not None:
            failure = rollout.trace.failure
            said.append(f"a later step failed: {_short(failure.message) if words else failure.kind}")
        if words:
            said += [f"not met: {check.message}" for check in call.checks if check.passed is False]
            said += [f"{name}: {_short(text)}" for name, text in rollout.score.feedback.items()]
            said += [f"{name} has no value: {_short(one.message)}" for name, one in rollout.score.failed.items()]
            judged = [one for one in rollout.trace.judged if one.outputs is not None]
            said += [f"the judge {one.module}: {show(one.outputs or {}, private)}" for one in judged]
        if rollout.trace.outputs is not None:
            said.append(f"the program's result: {show(rollout.trace.outputs, private)}")
        said.append(f"the row: {show(rollout.example.values, private)}")
        raw = _short(call.text) if words else "(private)"
        found[call.module] = {
            "inputs": show(call.inputs, private),
            "output": raw if call.outputs is None else show(call.outputs, private),
            "feedback": "; ".join(said),
        }
    return found


def _scored(rollout: Rollout, task: Task) -> str:
    score, high = rollout.score, task.objective.high
    if not math.isfinite(score.value):
        return "the run has no score"
    parts = [f"{name} {value:g}" for name, value in score.parts.items()] if len(score.parts) > 1 else []
    return f"the run scored {score.value:g} of {high:g}" + (f" ({', '.join(parts)})" if parts else "")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
