"""The trace store: a SQLite file that is only added to, the truth about what ran.

One row a run, one a call of a model or of Python, and one a check of a flow, written in one transaction when a run
has ended, so a killed process leaves whole runs (store_writer.py). What its scoring called is added when it is scored.
Token ids and logprobs are stored as little-endian int32 and float64 blobs: exact, and small. Each run has a checksum:
a run that was damaged on disk is refused, never read wrongly.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.runtime.store_rows import (
    call_row,
    check_row,
    checksum,
    cost_rows,
    marks,
    read_call,
    read_check,
    read_failure,
    read_json,
    read_step,
    rows_sum,
    run_data,
    run_row,
    run_sum,
    source_rows,
    step_row,
)
from lmgraph.runtime.store_schema import OF_RUNS, SCHEMA, SCHEMA_VERSION
from lmgraph.runtime.store_writer import Writer, score_sum
from lmgraph.runtime.trace import Call, Failure, RunIdentity, RunSettings, Trace

PAGES_IN_LOG = 4000
"""Pages that SQLite's log may hold, 16 MB, before they move into the file, for which it waits on the disk. Pages that
many runs change, such as those of an index, move once for all of them."""
DELETED_AT_ONCE = 500
"""Runs that one statement deletes: SQLite bounds how many values it may name."""
_FILTERS = ("program", "flow", "study", "phase", "step", "example", "rollout")


class TraceStore:
    """One SQLite file in WAL mode. Use it from one thread; other processes may read or write the same file.

    ``read_only`` writes nothing, not even beside the file. Raises: ConfigError where it cannot be opened.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        try:
            self._db = _reader(path) if read_only else _writer(path)
            tables = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"The trace store {path} cannot be opened: {error}.",
                hint="give a file you may write to with --trace, or switch traces off with --no-trace",
            ) from None
        self._tables = {row["name"] for row in tables}
        self._writer = Writer(self._db, path)

    def add(self, trace: Trace) -> None:
        """Append one finished run. Adding the same run id again replaces nothing and is no error.

        Inside an event loop runs that end together are written together, at most a second later: ``flush`` is for who
        cannot wait. Raises: ConfigError where this run, or one before it, cannot be written.
        """
        run = run_row(trace)
        calls = tuple([call_row(trace.run_id, call) for call in trace.calls])
        steps = tuple([step_row(trace.run_id, step) for step in trace.steps])
        checks = tuple([check_row(trace.run_id, check) for check in trace.checks])
        sources, costs = source_rows(trace.run_id, trace.calls), cost_rows(trace.run_id, trace.calls)
        given = trace.settings or RunSettings()
        known = trace.settings is not None
        temperature = None if given.temperature is None else float(given.temperature)
        settings = given.decoding if known else None, temperature, given.seed, given.place
        sums = run_sum(run, settings), rows_sum(calls, steps, checks, sources, costs)
        score = None
        if trace.judged or trace.reward is not None:
            score = _score(trace.run_id, trace.reward, trace.judged)
        rows = (trace.run_id, run, (*settings, *sums), calls, steps, checks, sources, costs, score)
        self._writer.soon("run", rows)

    def set_reward(
        self,
        run_id: str,
        reward: float,
        judged: Sequence[Call] = (),
        *,
        parts: Mapping[str, float] | None = None,
        failed: Mapping[str, Failure] | None = None,
    ) -> None:
        """The score of a run that was added, and the calls that metrics made for it.

        With ``parts`` and ``failed`` (by metric) the score can be had back whole. It is written as ``add`` writes.
        Raises: ConfigError.
        """
        told = json.dumps(None if parts is None else dict(parts))
        problems = json.dumps({name: asdict(failure) for name, failure in (failed or {}).items()})
        self._writer.soon("score", _score(run_id, reward, judged, told, problems))

    def set_private(self, program: str, names: Mapping[str, Sequence[str]]) -> None:
        """Which fields of a program hold private values, as `InformationFlow.private` says. Raises: ConfigError."""
        text = json.dumps({name: list(fields) for name, fields in names.items()})
        self._writer.soon("private", (program, f"{checksum((program, text)):08x}{text}"))

    def private_of(self, program: str) -> dict[str, list[str]] | None:
        """None where it was never told, or is damaged."""
        if "private" not in self._tables:
            return None
        with self._reading():
            row = self._db.execute("SELECT names FROM private WHERE program = ?", (program,)).fetchone()
            if row is None or row["names"][:8] != f"{checksum((program, row['names'][8:])):08x}":
                return None
            found: dict[str, list[str]] = json.loads(row["names"][8:])
            return found

    def list_runs(self, *, limit: int = 20, **equal: str | int) -> list[dict[str, Any]]:
        """The newest runs, newest first, as plain data; ``equal`` filters on columns (phase="eval").

        ``damaged`` says whether a run's row is not what was written. Raises: ConfigError.
        """
        where = _where(equal)
        query = f"SELECT * FROM runs WHERE {where} ORDER BY started DESC, rowid DESC LIMIT ?"
        with self._reading():
            found = self._db.execute(query, (*equal.values(), limit)).fetchall()
            return [self._listed(row) for row in found]

    def find(self, part: str) -> Trace:
        """The run whose id begins or ends with ``part``. Raises: ConfigError if there is none, or more than one."""
        text = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        query = "SELECT * FROM runs WHERE run_id LIKE ? ESCAPE '\\' OR run_id LIKE ? ESCAPE '\\' LIMIT 2"
        with self._reading():
            rows = self._db.execute(query, (f"{text}%", f"%{text}")).fetchall()
            if len(rows) == 1:
                return self._trace(rows[0])
        count = "no run" if not rows else "more than one run"
        raise ConfigError(
            f"{self.path} has {count} whose id begins or ends with `{part}`.",
            hint="`lmgraph trace list` shows how ids end, and with --json whole ids",
        )

    def traces(self, since: float = 0.0, /, *, limit: int | None = None, **equal: str | int) -> Iterator[Trace]:
        """Whole runs, oldest first: all that fit ``equal`` and began at the Unix time ``since`` or later, or the newest
        ``limit`` of them. Raises: ConfigError."""
        fit = f"{_where(equal)} AND started >= ?"
        newest = f"SELECT rowid FROM runs WHERE {fit} ORDER BY started DESC, rowid DESC LIMIT ?"
        query = f"SELECT * FROM runs WHERE rowid IN ({newest}) ORDER BY started, rowid"
        with self._reading():
            for row in self._db.execute(query, (*equal.values(), since, -1 if limit is None else limit)):
                yield self._trace(row)

    def at_place(self, place: str) -> Trace | None:
        """The newest run whose settings have this place, or None. Raises: ConfigError."""
        if "run_settings" not in self._tables or not place:
            return None
        with self._reading():
            row = self._db.execute(
                "SELECT runs.* FROM run_settings JOIN runs USING (run_id) WHERE place = ?"
                " ORDER BY runs.started DESC, runs.rowid DESC LIMIT 1",
                (place,),
            ).fetchone()
            return None if row is None else self._trace(row)

    def score_of(self, run_id: str) -> tuple[float, dict[str, float], dict[str, Failure]] | None:
        """(reward, parts, failed metrics) as `set_reward` was given them, or None where it was not, or is damaged."""
        if "run_scores" not in self._tables:
            return None
        query = "SELECT reward, parts, failed FROM run_scores JOIN runs USING (run_id) WHERE run_id = ?"
        with self._reading():
            row = self._db.execute(query, (run_id,)).fetchone()
            if row is None or row["reward"] is None or row["parts"] == "null":
                return None
            if not self._score_is_whole(run_id, row["reward"]):
                return None
            failed = {name: Failure(**data) for name, data in json.loads(row["failed"]).items()}
            return row["reward"], json.loads(row["parts"]), failed

    def prune(self, *, keep: int | None = None, before: float | None = None, dry: bool = False) -> list[str]:
        """Delete runs and give back their ids: those that began before the Unix time ``before``, never one of the
        newest ``keep``. ``dry`` deletes nothing. Raises: ConfigError."""
        query = "SELECT run_id FROM runs WHERE started < ? ORDER BY started DESC, rowid DESC"
        if keep is not None:
            query = (
                "SELECT run_id FROM (SELECT run_id, started FROM runs ORDER BY started DESC, rowid DESC LIMIT -1 OFFSET"
                f" {keep:d}) WHERE started < ?"
            )
        with self._reading():
            found = self._db.execute(query, (float("inf") if before is None else before,)).fetchall()
            gone = [row["run_id"] for row in found]
        if gone and not dry:

            def delete() -> None:
                for start in range(0, len(gone), DELETED_AT_ONCE):
                    part = gone[start : start + DELETED_AT_ONCE]
                    for table in reversed(OF_RUNS):
                        self._db.execute(f"DELETE FROM {table} WHERE run_id IN ({marks(len(part))})", part)

            self._writer.now("The trace store", delete)
            with suppress(sqlite3.Error):  # another process may be at work: then the room is used again later
                self._db.execute("VACUUM")
        return gone

    def flush(self) -> None:
        """Have everything that was added on disk. Raises: ConfigError where something cannot be written."""
        self._writer.flush()

    def close(self) -> None:
        """Raises: ConfigError where something that was added cannot be written; the file is closed all the same."""
        self._writer.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._writer.flush()
        try:
            yield
        except (sqlite3.DatabaseError, ValueError, TypeError, LookupError) as error:  # even names of columns may be hit
            raise ConfigError(
                f"The trace store {self.path} is damaged: {error}.",
                hint="keep the file for what can still be read of it, and give another one with --trace",
            ) from None

    def _score_is_whole(self, run_id: str, reward: float | None) -> bool:
        row = self._db.execute("SELECT * FROM run_scores WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            return reward is None
        tables = [table for table in ("calls", "sources", "costs") if table in self._tables]
        return bool(score_sum(self._db, tables, run_id, reward, row["parts"], row["failed"]) == row["sum"])

    def _listed(self, row: sqlite3.Row) -> dict[str, Any]:
        settings = self._settings_row(row["run_id"])
        damaged = settings is not None and settings["run_sum"] != run_sum(tuple(row), tuple(settings)[1:5])
        if not damaged:
            return {**run_data(row), "damaged": False}
        return {**dict(row), "inputs": None, "outputs": None, "failure": None, "damaged": True}

    def _settings_row(self, run_id: str) -> sqlite3.Row | None:
        if "run_settings" not in self._tables:
            return None
        found: sqlite3.Row | None = self._db.execute(
            "SELECT * FROM run_settings WHERE run_id = ?", (run_id,)
        ).fetchone()
        return found

    def _trace(self, row: sqlite3.Row) -> Trace:
        run_id = row["run_id"]
        parts: dict[str, list[sqlite3.Row]] = {
            table: self._db.execute(f"SELECT * FROM {table} WHERE run_id = ?", (run_id,)).fetchall()
            for table in ("calls", "steps", "checks")
        }
        for table in ("sources", "costs"):
            parts[table] = []
            if table in self._tables:
                parts[table] = self._db.execute(f"SELECT * FROM {table} WHERE run_id = ?", (run_id,)).fetchall()
        sources = {tuple(one)[1:5]: one["source"] for one in parts["sources"]}
        costs = {tuple(one)[1:5]: (one["attempts"], one["cost"]) for one in parts["costs"]}
        settings = self._settings_row(run_id)
        if settings is not None:
            self._check_sums(row, parts, settings)
        calls: dict[int, list[Call]] = {0: [], 1: []}
        for call in parts["calls"]:
            key = (call["judged"], call["call_key"], call["retry"], call["attempt"])
            calls[call["judged"]].append(read_call(call, sources.get(key, "engine"), *costs.get(key, (1, None))))
        identity = RunIdentity(row["study"], row["phase"], row["step"], row["example"], row["rollout"])
        trace = Trace(
            run_id, row["program"], row["flow"], identity, json.loads(row["inputs"]), read_json(row["outputs"]),
            read_failure(row["failure"]), calls[0], row["started"], row["seconds"], row["reward"],
            [read_step(step) for step in parts["steps"]], [read_check(check) for check in parts["checks"]], calls[1],
            _settings(settings),
        )  # fmt: skip
        trace.sort()
        return trace

    def _check_sums(self, row: sqlite3.Row, parts: Mapping[str, list[sqlite3.Row]], settings: sqlite3.Row) -> None:
        """Raises: ConfigError where the run is not as it was written."""
        own = [
            [tuple(one) for one in parts[table] if table in ("steps", "checks") or not one["judged"]]
            for table in ("calls", "steps", "checks", "sources", "costs")
        ]
        whole = run_sum(tuple(row), tuple(settings)[1:5]) == settings["run_sum"]
        whole = whole and rows_sum(*own) == settings["rows_sum"]
        if not (whole and self._score_is_whole(row["run_id"], row["reward"])):
            raise ConfigError(
                f"Run {row['run_id']} in {self.path} is damaged: it is not what was written.",
                hint="its other runs can be read; delete this file once you have what you need of it",
            )


def _writer(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=30.0)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA wal_autocheckpoint = {PAGES_IN_LOG}")
    _check_version(db, path)
    db.executescript(SCHEMA + f"PRAGMA user_version = {SCHEMA_VERSION};")
    return db


def _reader(path: Path) -> sqlite3.Connection:
    """A folder that nothing can be written to has no room for SQLite's own files beside a store: then it is read as it
    stands, without what another process has not yet moved into it."""
    problem: sqlite3.Error | None = None
    for how in ("mode=ro", "immutable=1"):
        db = sqlite3.connect(f"{path.resolve().as_uri()}?{how}", timeout=30.0, uri=True)
        db.row_factory = sqlite3.Row
        try:
            _check_version(db, path)
        except sqlite3.OperationalError as error:
            problem = error
            db.close()
        else:
            return db
    assert problem is not None
    raise problem


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise ConfigError(
            f"The trace store {path} has version {version}; this lmgraph reads version {SCHEMA_VERSION}.",
            hint="give another file with --trace",
        )


def _where(equal: Mapping[str, str | int]) -> str:
    """Raises: ConfigError for a column that is no filter."""
    if unknown := set(equal) - set(_FILTERS):
        names = ", ".join(sorted(unknown))
        raise ConfigError(f"Runs cannot be filtered by {names}.", hint=f"use {', '.join(_FILTERS)}")
    return " AND ".join(f"{column} = ?" for column in equal) or "1"


def _score(
    run_id: str, reward: float | None, judged: Sequence[Call], parts: str = "null", failed: str = "{}"
) -> tuple[Any, ...]:
    """As `write_score` takes it."""
    calls = tuple([call_row(run_id, call, judged=True) for call in judged])
    apart = source_rows(run_id, judged, judged=True), cost_rows(run_id, judged, judged=True)
    return run_id, None if reward is None else float(reward), parts, failed, calls, *apart


def _settings(row: sqlite3.Row | None) -> RunSettings | None:
    if row is None or row["decoding"] is None:
        return None
    return RunSettings(row["decoding"], row["temperature"], row["seed"], row["place"])
