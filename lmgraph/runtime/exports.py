"""Runs as other tools read them: JSON Lines and Chrome traces; OpenTelemetry is in runtime/otel.py.

All begin from one plain form of a run, in which private values are masked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lmgraph.graph.labels_found import IN, OUT
from lmgraph.runtime.trace import Call, CheckRecord, Failure, Step, Trace, short_id

MASK = "[private]"
"""Stands for a value that is private, or may be."""

Names = Mapping[str, Sequence[str]]
"""As `InformationFlow.private` gives them."""


def plain(trace: Trace, hidden: Names | None) -> dict[str, Any]:
    """A run as JSON-ready data, without the values that ``hidden`` names; with None without any values at all.

    Of a call that has a private field neither its text nor its tokens are told: they hold its values.
    """
    view = _View(hidden)
    flow = f"flow {trace.flow}"
    any_private = hidden is None or bool(hidden)
    return {
        "run_id": trace.run_id,
        "program": trace.program,
        "flow": trace.flow,
        "identity": asdict(trace.identity),
        "settings": None if trace.settings is None else asdict(trace.settings),
        "inputs": view.fields(flow, IN, trace.inputs),
        "outputs": view.fields(flow, OUT, trace.outputs),
        "failure": _failure(trace.failure, masked=any_private),
        "reward": trace.reward,
        "started": trace.started,
        "seconds": trace.seconds,
        "calls": [view.call(call) for call in trace.calls],
        "steps": [view.step(step) for step in trace.steps],
        "checks": [_check(check, masked=any_private) for check in trace.checks],
        "judged": [view.call(call) for call in trace.judged],
    }


def json_lines(runs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One run a line, without line ends."""
    for run in runs:
        yield json.dumps(run)


def chrome_trace(runs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Pieces of one JSON text in Chrome's trace event format, for Perfetto: a process a run, microseconds of Unix time.

    Calls that overlap are on different tracks; below a call stand its queue, prefill and decode times.
    """
    yield '{"displayTimeUnit": "ms", "traceEvents": ['
    first = True
    for number, run in enumerate(runs, 1):
        for event in _events(number, run):
            yield ("\n" if first else ",\n") + json.dumps(event)
            first = False
    yield "\n]}\n"


class _View:
    def __init__(self, hidden: Names | None) -> None:
        self._hidden = hidden

    def fields(self, owner: str, side: str, values: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if values is None:
            return None
        return {name: MASK if self._hides(owner, side + name) else value for name, value in values.items()}

    def call(self, call: Call) -> dict[str, Any]:
        owner = f"module {call.module}"
        masked = self._hides(owner)
        data = asdict(call)
        del data["allowed"]
        data["prompt_tokens"] = len(call.prompt_ids)
        data["completion_tokens"] = len(call.completion_ids)
        data["checks"] = [_check(check, masked=masked) for check in call.checks]
        data["failure"] = _failure(call.failure, masked=masked)
        data["inputs"] = self.fields(owner, IN, call.inputs)
        data["outputs"] = self.fields(owner, OUT, call.outputs)
        if masked:
            data["text"] = MASK
            data["prompt_ids"] = data["completion_ids"] = data["logprobs"] = None
            outputs = data["outputs"]
            if outputs is not None and "reasoning" in outputs:  # of no declared field, and it may repeat all it read
                outputs["reasoning"] = MASK
        return data

    def step(self, step: Step) -> dict[str, Any]:
        owners = [f"{kind} {step.name}" for kind in ("extern", "module", "flow")]
        masked = any(map(self._hides, owners))
        data = asdict(step)
        data["inputs"] = dict(step.inputs)
        for owner in owners:
            data["inputs"] = self.fields(owner, IN, data["inputs"])
        if masked and step.failure is None:
            data["output"] = MASK
        data["failure"] = _failure(step.failure, masked=masked)
        return data

    def _hides(self, owner: str, field: str | None = None) -> bool:
        if self._hidden is None:
            return True
        names = self._hidden.get(owner, ())
        return bool(names) if field is None else field in names


def _failure(failure: Failure | None, *, masked: bool) -> dict[str, Any] | None:
    """Messages quote values."""
    if failure is None:
        return None
    data = asdict(failure)
    if masked:
        data["message"] = MASK
        data["raw_text"] = None if failure.raw_text is None else MASK
    return data


def _check(check: CheckRecord, *, masked: bool) -> dict[str, Any]:
    data = asdict(check)
    data["values"] = [[text, MASK if masked else value] for text, value in check.values]
    return data


def _events(number: int, run: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    name = f"{run['flow']} {run['identity']['example']}".rstrip() + f" ({short_id(run['run_id'])})"
    yield {"ph": "M", "name": "process_name", "pid": number, "args": {"name": name}}
    told = {key: run[key] for key in ("run_id", "program", "inputs", "outputs", "failure", "reward")}
    yield _slice(number, 0, run["flow"], "run", run["started"], run["seconds"], told)
    calls = [(call, call["module"], "judge" if judged else "call") for judged in (0, 1) for call in _calls(run, judged)]
    steps = [(step, step["name"], step["kind"]) for step in run["steps"]]
    ends: list[float] = []
    for one, label, category in sorted([*calls, *steps], key=lambda entry: entry[0]["started"]):
        start, seconds = one["started"], one["seconds"]
        lane = next((index for index, end in enumerate(ends) if end <= start), len(ends))
        ends[lane : lane + 1] = [start + seconds]
        args = {key: one.get(key) for key in ("call_key", "inputs", "outputs", "output", "failure") if key in one}
        if category in ("call", "judge"):
            args |= {key: one[key] for key in ("model", "adapter", "source", "prompt_tokens", "completion_tokens")}
        yield _slice(number, lane + 1, label, category, start, seconds, args)
        for part in ("queue", "prefill", "decode"):
            took = one.get(f"{part}_seconds") or 0.0
            if took > 0:
                yield _slice(number, lane + 1, part, "engine", start, took, {})
                start += took


def _calls(run: Mapping[str, Any], judged: int) -> Sequence[Mapping[str, Any]]:
    calls: Sequence[Mapping[str, Any]] = run["judged" if judged else "calls"]
    return calls


def _slice(
    process: int, track: int, name: str, category: str, start: float, seconds: float, args: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": category, "pid": process, "tid": track, "ts": round(start * 1e6, 1),
        "dur": round(seconds * 1e6, 1), "args": args,
    }  # fmt: skip
