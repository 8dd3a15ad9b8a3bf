"""The trace store: an append-only SQLite file, the truth about what ran.

One row a run and one row a call, written in one transaction when a run ends, so a killed process leaves whole runs.
Token ids and logprobs are stored as little-endian int32 and float64 blobs: exact, and small.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.runtime.trace import Call, Failure, RunIdentity, Trace

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, program TEXT NOT NULL, flow TEXT NOT NULL,
  study TEXT NOT NULL, phase TEXT NOT NULL, step INTEGER NOT NULL, example TEXT NOT NULL, rollout INTEGER NOT NULL,
  inputs TEXT NOT NULL, outputs TEXT, failure TEXT, reward REAL,
  calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  started REAL NOT NULL, seconds REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_started ON runs (started);
CREATE TABLE IF NOT EXISTS calls (
  run_id TEXT NOT NULL REFERENCES runs, call_key TEXT NOT NULL, retry INTEGER NOT NULL, attempt INTEGER NOT NULL,
  node TEXT NOT NULL, module TEXT NOT NULL, lm TEXT NOT NULL, engine TEXT NOT NULL, model TEXT NOT NULL, adapter TEXT,
  template TEXT NOT NULL, prompt_ids BLOB NOT NULL, completion_ids BLOB NOT NULL, logprobs BLOB NOT NULL,
  temperature REAL NOT NULL, seed INTEGER NOT NULL, constrained INTEGER NOT NULL, finish_reason TEXT NOT NULL,
  text TEXT NOT NULL, inputs TEXT NOT NULL, outputs TEXT, failure TEXT, cached_tokens INTEGER NOT NULL,
  started REAL NOT NULL, seconds REAL NOT NULL, queue_seconds REAL NOT NULL, prefill_seconds REAL NOT NULL,
  decode_seconds REAL NOT NULL,
  PRIMARY KEY (run_id, call_key, retry, attempt)
) WITHOUT ROWID;
"""

_CALL_COLUMNS = (
    "run_id", "call_key", "retry", "attempt", "node", "module", "lm", "engine", "model", "adapter", "template",
    "prompt_ids", "completion_ids", "logprobs", "temperature", "seed", "constrained", "finish_reason", "text",
    "inputs", "outputs", "failure", "cached_tokens", "started", "seconds", "queue_seconds", "prefill_seconds",
    "decode_seconds",
)  # fmt: skip


class TraceStore:
    """One SQLite file in WAL mode. Use it from one thread; other processes may read or write the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30.0)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise ConfigError(
                    f"The trace store {path} has version {version}; this lmgraph reads version {SCHEMA_VERSION}.",
                    hint="give another file with --trace",
                )
            self._db.executescript(_SCHEMA + f"PRAGMA user_version = {SCHEMA_VERSION};")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"The trace store {path} cannot be opened: {error}.",
                hint="give a file you may write to with --trace, or switch traces off with --no-trace",
            ) from None

    def add(self, trace: Trace) -> None:
        """Append one finished run. Adding the same run id again replaces nothing and is no error."""
        identity = trace.identity
        run = (
            trace.run_id, trace.program, trace.flow, identity.study, identity.phase, identity.step, identity.example,
            identity.rollout, _json(trace.inputs), _json(trace.outputs), _failure_text(trace.failure), trace.reward,
            len(trace.calls), trace.prompt_tokens, trace.completion_tokens, trace.started, trace.seconds,
        )  # fmt: skip
        try:
            with self._db:
                added = self._db.execute(f"INSERT OR IGNORE INTO runs VALUES ({_marks(len(run))})", run).rowcount
                if added:
                    rows = [_call_row(trace.run_id, call) for call in trace.calls]
                    self._db.executemany(f"INSERT INTO calls VALUES ({_marks(len(_CALL_COLUMNS))})", rows)
        except sqlite3.Error as error:
            raise ConfigError(
                f"The trace of run {trace.run_id} cannot be written to {self.path}: {error}.",
                hint="make room on the disk, or give another file with --trace",
            ) from None

    def set_reward(self, run_id: str, reward: float) -> None:
        with self._db:
            self._db.execute("UPDATE runs SET reward = ? WHERE run_id = ?", (reward, run_id))

    def list_runs(self, *, limit: int = 20, **equal: str | int) -> list[dict[str, Any]]:
        """The newest runs, newest first, as plain data; ``equal`` filters on columns (phase="eval")."""
        allowed = ("program", "flow", "study", "phase", "step", "example", "rollout")
        if unknown := set(equal) - set(allowed):
            names = ", ".join(sorted(unknown))
            raise ConfigError(f"Runs cannot be filtered by {names}.", hint=f"use {', '.join(allowed)}")
        where = " AND ".join(f"{column} = ?" for column in equal) or "1"
        query = f"SELECT * FROM runs WHERE {where} ORDER BY started DESC, rowid DESC LIMIT ?"
        return [_run_data(row) for row in self._db.execute(query, (*equal.values(), limit))]

    def find(self, prefix: str) -> Trace:
        """The run whose id starts with ``prefix``. Raises: ConfigError if there is none, or more than one."""
        pattern = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = self._db.execute("SELECT * FROM runs WHERE run_id LIKE ? ESCAPE '\\' LIMIT 2", (pattern,)).fetchall()
        if len(rows) != 1:
            count = "no run" if not rows else "more than one run"
            raise ConfigError(
                f"{self.path} has {count} whose id starts with `{prefix}`.", hint="see `lmgraph trace list`"
            )
        return self._trace(rows[0])

    def traces(self, **equal: str | int) -> Iterator[Trace]:
        """Whole runs, oldest first."""
        where = " AND ".join(f"{column} = ?" for column in equal) or "1"
        for row in self._db.execute(f"SELECT * FROM runs WHERE {where} ORDER BY started, rowid", tuple(equal.values())):
            yield self._trace(row)

    def close(self) -> None:
        self._db.close()

    def _trace(self, row: sqlite3.Row) -> Trace:
        calls = self._db.execute("SELECT * FROM calls WHERE run_id = ? ORDER BY call_key, retry", (row["run_id"],))
        identity = RunIdentity(row["study"], row["phase"], row["step"], row["example"], row["rollout"])
        return Trace(
            row["run_id"], row["program"], row["flow"], identity, json.loads(row["inputs"]),
            _data(row["outputs"]), _failure(row["failure"]), [_call(call) for call in calls], row["started"],
            row["seconds"], row["reward"],
        )  # fmt: skip


def _call_row(run_id: str, call: Call) -> tuple[Any, ...]:
    special = {
        "run_id": run_id,
        "prompt_ids": _blob("i", call.prompt_ids),
        "completion_ids": _blob("i", call.completion_ids),
        "logprobs": _blob("d", call.logprobs),
        "inputs": _json(call.inputs),
        "outputs": _json(call.outputs),
        "failure": _failure_text(call.failure),
        "text": call.text.encode("utf-8", "replace").decode(),
    }
    return tuple(special[name] if name in special else getattr(call, name) for name in _CALL_COLUMNS)


def _call(row: sqlite3.Row) -> Call:
    values = {name: row[name] for name in _CALL_COLUMNS if name != "run_id"}
    return Call(
        **{
            **values,
            "prompt_ids": _unblob("i", row["prompt_ids"]),
            "completion_ids": _unblob("i", row["completion_ids"]),
            "logprobs": _unblob("d", row["logprobs"]),
            "constrained": bool(row["constrained"]),
            "inputs": json.loads(row["inputs"]),
            "outputs": _data(row["outputs"]),
            "failure": _failure(row["failure"]),
        }
    )


def _run_data(row: sqlite3.Row) -> dict[str, Any]:
    data = dict(row)
    for name in ("inputs", "outputs", "failure"):
        data[name] = _data(data[name])
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


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _data(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _failure_text(failure: Failure | None) -> str | None:
    return None if failure is None else json.dumps(asdict(failure))


def _failure(text: str | None) -> Failure | None:
    return None if text is None else Failure(**json.loads(text))


def _marks(count: int) -> str:
    return ", ".join("?" * count)
