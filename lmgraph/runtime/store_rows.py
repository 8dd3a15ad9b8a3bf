"""Rows of the trace store: calls, steps and checks to what SQLite holds, and back to the last bit."""

from __future__ import annotations

import json
import marshal
import sqlite3
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic_core import to_json

from lmgraph.runtime.trace import Call, CallSource, CheckRecord, Failure, Step, Trace

_CALL_COLUMNS = (
    "run_id", "judged", "call_key", "retry", "attempt", "node", "module", "lm", "engine", "model", "adapter",
    "template", "prompt_ids", "completion_ids", "logprobs", "temperature", "seed", "constrained", "finish_reason",
    "text", "inputs", "outputs", "failure", "checks", "cached_tokens", "started", "seconds", "queue_seconds",
    "prefill_seconds", "decode_seconds",
)  # fmt: skip


def call_row(run_id: str, call: Call, *, judged: bool = False) -> tuple[Any, ...]:
    """In the order of _CALL_COLUMNS."""
    return (
        run_id, int(judged), call.call_key, call.retry, call.attempt, call.node, call.module, call.lm, call.engine,
        call.model, call.adapter, call.template, _blob("i", call.prompt_ids), _blob("i", call.completion_ids),
        _blob("d", call.logprobs), float(call.temperature), call.seed, int(call.constrained), call.finish_reason,
        call.text.encode("utf-8", "replace").decode(), as_json(call.inputs), as_json(call.outputs),
        failure_text(call.failure), json.dumps([asdict(check) for check in call.checks]) if call.checks else "[]",
        call.cached_tokens, float(call.started), float(call.seconds), float(call.queue_seconds),
        float(call.prefill_seconds), float(call.decode_seconds),
    )  # fmt: skip


def source_rows(run_id: str, calls: Sequence[Call], *, judged: bool = False) -> tuple[tuple[Any, ...], ...]:
    """Of the calls that no engine answered."""
    return tuple([(*_place(run_id, call, judged), call.source) for call in calls if call.source != "engine"])


def cost_rows(run_id: str, calls: Sequence[Call], *, judged: bool = False) -> tuple[tuple[Any, ...], ...]:
    """Of the calls that were sent more than once, or whose cost is known."""
    return tuple(
        [
            (*_place(run_id, call, judged), call.attempts, None if call.cost is None else float(call.cost))
            for call in calls
            if call.attempts != 1 or call.cost is not None
        ]
    )


def _place(run_id: str, call: Call, judged: bool) -> tuple[Any, ...]:
    return run_id, int(judged), call.call_key, call.retry, call.attempt


def read_call(row: sqlite3.Row, source: CallSource = "engine", attempts: int = 1, cost: float | None = None) -> Call:
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
            "source": source,
            "attempts": attempts,
            "cost": cost,
        }
    )


def step_row(run_id: str, step: Step) -> tuple[Any, ...]:
    return (
        run_id, step.call_key, step.node, step.kind, step.name, as_json(step.inputs), dumps(step.output),
        failure_text(step.failure), float(step.started), float(step.seconds),
    )  # fmt: skip


def read_step(row: sqlite3.Row) -> Step:
    return Step(
        row["node"], row["call_key"], row["kind"], row["name"], json.loads(row["inputs"]), json.loads(row["output"]),
        read_failure(row["failure"]), row["started"], row["seconds"],
    )  # fmt: skip


def check_row(run_id: str, check: CheckRecord) -> tuple[Any, ...]:
    found = dumps(check.values)
    passed = None if check.passed is None else int(check.passed)
    return run_id, check.call_key, check.node, check.kind, check.message, passed, found


def read_check(row: sqlite3.Row) -> CheckRecord:
    passed = None if row["passed"] is None else bool(row["passed"])
    data = {name: row[name] for name in ("node", "call_key", "kind", "message")}
    return _check_of({**data, "passed": passed, "values": json.loads(row["found"])})


def _check_of(data: Mapping[str, Any]) -> CheckRecord:
    return CheckRecord(**{**data, "values": tuple((text, value) for text, value in data["values"])})


def run_row(trace: Trace) -> tuple[Any, ...]:
    """In the order of the columns of `runs`."""
    identity = trace.identity
    return (
        trace.run_id, trace.program, trace.flow, identity.study, identity.phase, identity.step, identity.example,
        identity.rollout, as_json(trace.inputs), as_json(trace.outputs), failure_text(trace.failure),
        None if trace.reward is None else float(trace.reward), len(trace.calls), trace.prompt_tokens,
        trace.completion_tokens, float(trace.started), float(trace.seconds),
    )  # fmt: skip


def run_sum(row: Sequence[Any], settings: Sequence[Any]) -> int:
    """Checksum of a row of `runs` and its settings, as written or as read. The reward is left out: it comes later."""
    return checksum((*row[:REWARD], *row[REWARD + 1 :], *settings))


def rows_sum(*tables: Iterable[tuple[Any, ...]]) -> int:
    """Checksum of the rows of one run: the same in any order, since tables are read in that of their keys."""
    total = 0
    for table in tables:
        for row in table:
            total += checksum(row)
    return total


def checksum(data: tuple[Any, ...]) -> int:
    """SQLite finds damage to its own structure; this finds it in what the rows say.

    Marshal's format 2 writes equal plain values as equal bytes, fast. It is never read back.
    """
    return zlib.crc32(marshal.dumps(data, 2))


def run_data(row: sqlite3.Row) -> dict[str, Any]:
    data = dict(row)
    for name in ("inputs", "outputs", "failure"):
        data[name] = read_json(data[name])
    return data


def _blob(code: str, values: Sequence[int] | Sequence[float]) -> bytes:
    """Little-endian. `struct` makes it twice as fast as `array`."""
    return struct.pack(f"<{len(values)}{code}", *values)


def _unblob(code: str, blob: bytes) -> list[Any]:
    data = array(code)
    data.frombytes(blob)
    if sys.byteorder == "big":
        data.byteswap()
    return data.tolist()


def as_json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else dumps(value)


def dumps(value: Any) -> str:
    """Plain data as JSON that `json.loads` reads back the same: several times as fast as `json.dumps`."""
    try:
        return to_json(value).decode()
    except ValueError:  # half of a surrogate pair, which UTF-8 does not know
        return json.dumps(value)


def read_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def failure_text(failure: Failure | None) -> str | None:
    return None if failure is None else json.dumps(asdict(failure))


def read_failure(text: str | None) -> Failure | None:
    return None if text is None else Failure(**json.loads(text))


def marks(count: int) -> str:
    return ", ".join("?" * count)


REWARD = 11
"""Its column in `runs`."""
ADD_RUN = f"INSERT OR IGNORE INTO runs VALUES ({marks(17)})"
ADD_SETTINGS = f"INSERT OR IGNORE INTO run_settings VALUES ({marks(7)})"
ADD_SOURCE = f"INSERT OR IGNORE INTO sources VALUES ({marks(6)})"
ADD_COST = f"INSERT OR IGNORE INTO costs VALUES ({marks(7)})"
ADD_SCORE = f"INSERT OR REPLACE INTO run_scores VALUES ({marks(4)})"
ADD_PRIVATE = "INSERT OR IGNORE INTO private VALUES (?, ?)"
ADD_CALL = f"INSERT OR IGNORE INTO calls VALUES ({marks(len(_CALL_COLUMNS))})"
ADD_STEP = f"INSERT INTO steps VALUES ({marks(10)})"
ADD_CHECK = f"INSERT INTO checks VALUES ({marks(7)})"
