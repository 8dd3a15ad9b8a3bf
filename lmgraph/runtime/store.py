"""The trace store: an append-only SQLite file, the truth about what ran.

One row a run, one a call of a model or of Python, and one a check of a flow, written in one transaction when a run
ends, so a killed process leaves whole runs. What its scoring called is added when it is scored.
Token ids and logprobs are stored as little-endian int32 and float64 blobs: exact, and small.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.runtime.store_rows import (
    ADD_CALL,
    ADD_CHECK,
    ADD_STEP,
    as_json,
    call_row,
    check_row,
    failure_text,
    marks,
    read_call,
    read_check,
    read_failure,
    read_json,
    read_step,
    run_data,
    step_row,
)
from lmgraph.runtime.trace import Call, RunIdentity, Trace

SCHEMA_VERSION = 2

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
  run_id TEXT NOT NULL REFERENCES runs, judged INTEGER NOT NULL,
  call_key TEXT NOT NULL, retry INTEGER NOT NULL, attempt INTEGER NOT NULL,
  node TEXT NOT NULL, module TEXT NOT NULL, lm TEXT NOT NULL, engine TEXT NOT NULL, model TEXT NOT NULL, adapter TEXT,
  template TEXT NOT NULL, prompt_ids BLOB NOT NULL, completion_ids BLOB NOT NULL, logprobs BLOB NOT NULL,
  temperature REAL NOT NULL, seed INTEGER NOT NULL, constrained INTEGER NOT NULL, finish_reason TEXT NOT NULL,
  text TEXT NOT NULL, inputs TEXT NOT NULL, outputs TEXT, failure TEXT, checks TEXT NOT NULL,
  cached_tokens INTEGER NOT NULL,
  started REAL NOT NULL, seconds REAL NOT NULL, queue_seconds REAL NOT NULL, prefill_seconds REAL NOT NULL,
  decode_seconds REAL NOT NULL,
  PRIMARY KEY (run_id, judged, call_key, retry, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (
  run_id TEXT NOT NULL REFERENCES runs, call_key TEXT NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL,
  name TEXT NOT NULL, inputs TEXT NOT NULL, output TEXT NOT NULL, failure TEXT,
  started REAL NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (run_id, call_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checks (
  run_id TEXT NOT NULL REFERENCES runs, call_key TEXT NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL,
  message TEXT NOT NULL, passed INTEGER, found TEXT NOT NULL,
  PRIMARY KEY (run_id, call_key)
) WITHOUT ROWID;
"""


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
            identity.rollout, as_json(trace.inputs), as_json(trace.outputs), failure_text(trace.failure), trace.reward,
            len(trace.calls), trace.prompt_tokens, trace.completion_tokens, trace.started, trace.seconds,
        )  # fmt: skip
        try:
            with self._db:
                added = self._db.execute(f"INSERT OR IGNORE INTO runs VALUES ({marks(len(run))})", run).rowcount
                if added:
                    rows = [call_row(trace.run_id, call) for call in trace.calls]
                    rows += [call_row(trace.run_id, call, judged=True) for call in trace.judged]
                    self._db.executemany(ADD_CALL, rows)
                    self._db.executemany(ADD_STEP, [step_row(trace.run_id, step) for step in trace.steps])
                    self._db.executemany(ADD_CHECK, [check_row(trace.run_id, check) for check in trace.checks])
        except sqlite3.Error as error:
            raise ConfigError(
                f"The trace of run {trace.run_id} cannot be written to {self.path}: {error}.",
                hint="make room on the disk, or give another file with --trace",
            ) from None

    def set_reward(self, run_id: str, reward: float, judged: Sequence[Call] = ()) -> None:
        """The score of a run that was added, and the calls that metrics made for it."""
        with self._db:
            self._db.execute("UPDATE runs SET reward = ? WHERE run_id = ?", (reward, run_id))
            self._db.executemany(ADD_CALL, [call_row(run_id, call, judged=True) for call in judged])

    def list_runs(self, *, limit: int = 20, **equal: str | int) -> list[dict[str, Any]]:
        """The newest runs, newest first, as plain data; ``equal`` filters on columns (phase="eval")."""
        allowed = ("program", "flow", "study", "phase", "step", "example", "rollout")
        if unknown := set(equal) - set(allowed):
            names = ", ".join(sorted(unknown))
            raise ConfigError(f"Runs cannot be filtered by {names}.", hint=f"use {', '.join(allowed)}")
        where = " AND ".join(f"{column} = ?" for column in equal) or "1"
        query = f"SELECT * FROM runs WHERE {where} ORDER BY started DESC, rowid DESC LIMIT ?"
        return [run_data(row) for row in self._db.execute(query, (*equal.values(), limit))]

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
        parts: dict[str, list[sqlite3.Row]] = {
            table: self._db.execute(f"SELECT * FROM {table} WHERE run_id = ?", (row["run_id"],)).fetchall()
            for table in ("calls", "steps", "checks")
        }
        identity = RunIdentity(row["study"], row["phase"], row["step"], row["example"], row["rollout"])
        trace = Trace(
            row["run_id"], row["program"], row["flow"], identity, json.loads(row["inputs"]),
            read_json(row["outputs"]), read_failure(row["failure"]),
            [read_call(call) for call in parts["calls"] if not call["judged"]], row["started"], row["seconds"],
            row["reward"], [read_step(step) for step in parts["steps"]],
            [read_check(check) for check in parts["checks"]],
            [read_call(call) for call in parts["calls"] if call["judged"]],
        )  # fmt: skip
        trace.sort()
        return trace
