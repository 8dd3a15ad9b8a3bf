"""Writes of a trace store: several at once share a transaction, and each is whole or not there.

A transaction costs more than the rows of a run. So while an event loop runs, writes wait in memory for DELAY seconds,
for up to SPACING seconds after the last ones, or until there are MOST of them; without one they are written at once.
The lock on the file is held only while rows are written: other processes may write to it in between.

What waits is rows as tuples of plain values, and nothing else: Python's garbage collector follows no such tuples, and
would otherwise look through all that is alive again and again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from lmgraph.errors import ConfigError
from lmgraph.runtime.store_rows import (
    ADD_CALL,
    ADD_CHECK,
    ADD_COST,
    ADD_PRIVATE,
    ADD_RUN,
    ADD_SCORE,
    ADD_SETTINGS,
    ADD_SOURCE,
    ADD_STEP,
    checksum,
    rows_sum,
)

DELAY = 0.02
"""Seconds that a write waits for others after a while without any."""
SPACING = 1.0
"""Seconds from one write that was timed to the next: where a server answers every now and then, each run would have a
transaction of its own otherwise. A process that is killed loses the runs that ended within them."""
MOST = 64
"""Writes that wait at most."""

Kind: TypeAlias = Literal["run", "score", "private"]
Rows: TypeAlias = tuple[tuple[Any, ...], ...]


class Writer:
    """The writes of one connection, in the order they were asked for."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._waiting: list[tuple[Kind, tuple[Any, ...]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The timer's."""
        self._next = 0.0
        """When the next write that is timed may come, by the monotonic clock."""
        self._problem: ConfigError | None = None
        """What went wrong when nobody was there to be told."""
        self._at_exit = weakref.finalize(self, _write_all, db, self._waiting)

    def soon(self, kind: Kind, given: tuple[Any, ...]) -> None:
        """Have this written within the next transaction; ``given`` is what WRITES says of the kind.

        Raises: ConfigError where it, or an earlier write that nobody waited for, cannot be done; such a write is not
        tried again.
        """
        self._waiting.append((kind, given))
        loop = _running_loop()
        if loop is None or len(self._waiting) >= MOST or self._problem is not None:
            self.flush()
        elif self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_later(max(DELAY, self._next - time.monotonic()), self._late)

    def flush(self) -> None:
        """Write what waits. Raises: as ``soon``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._write()
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def close(self) -> None:
        """Write what waits and close the connection, which happens even where writing fails. Raises: as ``soon``."""
        try:
            self.flush()
        finally:
            self._at_exit.detach()
            self._db.close()

    def now(self, what: str, write: Callable[[], object]) -> None:
        """One transaction of its own, after what waits. Raises: as ``soon``."""
        self.flush()
        try:
            with self._db:
                write()
        except sqlite3.Error as error:
            raise _cannot(what, self._path, error) from None

    def _late(self) -> None:
        self._timer = None
        self._next = time.monotonic() + SPACING
        self._write()

    def _write(self) -> None:
        """All that waits; where that fails, each apart, so that one that cannot be written costs no others."""
        together = self._waiting[:]
        self._waiting.clear()
        try:
            with self._db:
                for kind, given in together:
                    WRITES[kind](self._db, *given)
        except Exception:
            for kind, given in together:
                try:
                    with self._db:
                        WRITES[kind](self._db, *given)
                except Exception as error:
                    self._problem = self._problem or _cannot(_WHAT[kind].format(given[0]), self._path, error)


def write_run(
    db: sqlite3.Connection,
    run_id: str,
    run: tuple[Any, ...],
    settings: tuple[Any, ...],
    calls: Rows,
    steps: Rows,
    checks: Rows,
    sources: Rows,
    costs: Rows,
    score: tuple[Any, ...] | None,
) -> None:
    """``settings`` without the id and the sums; ``score`` as `write_score` takes it. A run that is there stays."""
    if not db.execute(ADD_RUN, run).rowcount:
        return
    db.execute(ADD_SETTINGS, (run_id, *settings))
    db.executemany(ADD_CALL, calls)
    for statement, rows in ((ADD_STEP, steps), (ADD_CHECK, checks), (ADD_SOURCE, sources), (ADD_COST, costs)):
        if rows:
            db.executemany(statement, rows)
    if score is not None:
        write_score(db, *score)


def write_score(
    db: sqlite3.Connection,
    run_id: str,
    reward: float | None,
    parts: str,
    failed: str,
    calls: Rows,
    sources: Rows,
    costs: Rows,
) -> None:
    """``parts`` and ``failed`` are JSON; the rows are those of the calls that metrics made."""
    db.execute("UPDATE runs SET reward = ? WHERE run_id = ?", (reward, run_id))
    db.executemany(ADD_CALL, calls)
    db.executemany(ADD_SOURCE, sources)
    db.executemany(ADD_COST, costs)
    tables = ("calls", "sources", "costs")
    db.execute(ADD_SCORE, (run_id, parts, failed, score_sum(db, tables, run_id, reward, parts, failed)))


def score_sum(
    db: sqlite3.Connection, tables: Iterable[str], run_id: str, reward: float | None, parts: str, failed: str
) -> int:
    """With the calls that are kept for the score: they may have come with the run or with the score."""
    judged = [
        map(tuple, db.execute(f"SELECT * FROM {table} WHERE run_id = ? AND judged = 1", (run_id,))) for table in tables
    ]
    return checksum((run_id, None if reward is None else float(reward), parts, failed)) + rows_sum(*judged)


def write_private(db: sqlite3.Connection, program: str, names: str) -> None:
    db.execute(ADD_PRIVATE, (program, names))


WRITES: Mapping[Kind, Callable[..., None]] = {"run": write_run, "score": write_score, "private": write_private}
"""Each takes the connection, and what was given to `Writer.soon`."""
_WHAT: Mapping[Kind, str] = {
    "run": "The trace of run {}",
    "score": "The score of run {}",
    "private": "What is private in program {}",
}


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _cannot(what: str, path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"{what} cannot be written to {path}: {error}.",
        hint="make room on the disk, or give another file with --trace",
    )


def _write_all(db: sqlite3.Connection, waiting: list[tuple[Kind, tuple[Any, ...]]]) -> None:
    """At the end of a process that did not close its store."""
    with suppress(Exception), db:
        for kind, given in waiting:
            WRITES[kind](db, *given)
