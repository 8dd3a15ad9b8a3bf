"""Rows of the trace store: calls, steps and checks to what SQLite holds, and back to the last bit."""

from __future__ import annotations

import json
import sqlite3
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lmgraph.runtime.trace import Call, CheckRecord, Failure, Step

_CALL_COLUMNS = (
    "run_id", "judged", "call_key", "retry", "attempt", "node", "module", "lm", "engine", "model", "adapter",
    "template", "prompt_ids", "completion_ids", "logprobs", "temperature", "seed", "constrained", "finish_reason",
    "text", "inputs", "outputs", "failure", "checks", "cached_tokens", "started", "seconds", "queue_seconds",
    "prefill_seconds", "decode_seconds",
)  # fmt: skip


def call_row(run_id: str, call: Call, *, judged: bool = False) -> tuple[Any, ...]:
    """In the order of _CALL_COLUMNS."""
    return (
        run_id, judged, call.call_key, call.retry, call.attempt, call.node, call.module, call.lm, call.engine,
        call.model, call.adapter, call.template, _blob("i", call.prompt_ids), _blob("i", call.completion_ids),
        _blob("d", call.logprobs), call.temperature, call.seed, call.constrained, call.finish_reason,
        call.text.encode("utf-8", "replace").decode(), as_json(call.inputs), as_json(call.outputs),
        failure_text(call.failure), json.dumps([asdict(check) for check in call.checks]) if call.checks else "[]",
        call.cached_tokens, call.started, call.seconds, call.queue_seconds, call.prefill_seconds, call.decode_seconds,
    )  # fmt: skip


def read_call(row: sqlite3.Row) -> Call:
    values = {name: row[name] for name in _CALL_COLUMNS if name not in ("run_id", "judged")}
    return Call(
        **{
            **values,
            "prompt_ids": _unblob("i", row["prompt_ids"]),
            "completion_ids": _unblob("i", row["completion_ids"]),
            "logprobs": _unblob("d", row["logprobs"]),
            "constrained": bool(row["constrained"]),
            "inputs": json.loads(row["inputs"]),
            "outputs": read_json(row["outputs"]),
            "failure": read_failure(row["failure"]),
            "checks": tuple(_check_of(data) for data in json.loads(row["checks"])),
        }
    )


def step_row(run_id: str, step: Step) -> tuple[Any, ...]:
    return (
        run_id, step.call_key, step.node, step.kind, step.name, as_json(step.inputs), json.dumps(step.output),
        failure_text(step.failure), step.started, step.seconds,
    )  # fmt: skip


def read_step(row: sqlite3.Row) -> Step:
    return Step(
        row["node"], row["call_key"], row["kind"], row["name"], json.loads(row["inputs"]), json.loads(row["output"]),
        read_failure(row["failure"]), row["started"], row["seconds"],
    )  # fmt: skip


def check_row(run_id: str, check: CheckRecord) -> tuple[Any, ...]:
    found = json.dumps(check.values)
    return run_id, check.call_key, check.node, check.kind, check.message, check.passed, found


def read_check(row: sqlite3.Row) -> CheckRecord:
    passed = None if row["passed"] is None else bool(row["passed"])
    data = {name: row[name] for name in ("node", "call_key", "kind", "message")}
    return _check_of({**data, "passed": passed, "values": json.loads(row["found"])})


def _check_of(data: Mapping[str, Any]) -> CheckRecord:
    return CheckRecord(**{**data, "values": tuple((text, value) for text, value in data["values"])})


def run_data(row: sqlite3.Row) -> dict[str, Any]:
    data = dict(row)
    for name in ("inputs", "outputs", "failure"):
        data[name] = read_json(data[name])
    return data


def _blob(code: str, values: Sequence[int] | Sequence[float]) -> bytes:
    data = array(code, values)
    if sys.byteorder == "big":
        data.byteswap()
    return data.tobytes()


def _unblob(code: str, blob: bytes) -> list[Any]:
    data = array(code)
    data.frombytes(blob)
    if sys.byteorder == "big":
        data.byteswap()
    return data.tolist()


def as_json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def read_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def failure_text(failure: Failure | None) -> str | None:
    return None if failure is None else json.dumps(asdict(failure))


def read_failure(text: str | None) -> Failure | None:
    return None if text is None else Failure(**json.loads(text))


def marks(count: int) -> str:
    return ", ".join("?" * count)


ADD_CALL = f"INSERT OR IGNORE INTO calls VALUES ({marks(len(_CALL_COLUMNS))})"
ADD_STEP = f"INSERT INTO steps VALUES ({marks(10)})"
ADD_CHECK = f"INSERT INTO checks VALUES ({marks(7)})"
