"""When a trace store writes: together where an event loop runs, at once where none does, and nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lmgraph.errors import ConfigError
from lmgraph.runtime import Call, RunIdentity, Runtime, Trace, TraceStore
from lmgraph.runtime.store_writer import DELAY, MOST
from lmgraph.testing import ScriptedEngine
from support.scripted import sort_program

TESTS = Path(__file__).parents[1]


def trace(name: str, example: str = "row") -> Trace:
    call = Call(
        "F/a", "F/a", "M", "default", "scripted", "m", None, "t", [1, 2], [3], [-0.5], 0.5, 7, True, "stop", "x",
        {"x": "y"}, {"z": 1}, attempts=3, cost=0.00125,
    )  # fmt: skip
    return Trace(name, "p+q", "F", RunIdentity(example=example), {"x": 1}, {"z": 1}, calls=[call], started=1.0)


def seen(path: Path) -> int:
    """Runs that another process would see."""
    with sqlite3.connect(path) as db:
        return int(db.execute("SELECT COUNT(*) FROM runs").fetchone()[0])


def test_without_a_loop_a_run_is_there_at_once(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    store.add(trace("a"))
    assert seen(tmp_path / "t.db") == 1
    store.set_reward("a", 0.5)
    with sqlite3.connect(tmp_path / "t.db") as db:
        assert db.execute("SELECT reward FROM runs").fetchone() == (0.5,)
    store.close()


async def test_in_a_loop_runs_are_written_together_and_soon(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store = TraceStore(path)
    for number in range(MOST - 1):
        store.add(trace(f"{number}"))
    assert seen(path) == 0
    store.add(trace("last"))
    assert seen(path) == MOST, "no more wait than that"
    store.add(trace("one more"))
    async with asyncio.timeout(60):
        while seen(path) == MOST:  # noqa: ASYNC110
            await asyncio.sleep(DELAY)
    store.add(trace("flushed"))
    store.flush()
    assert seen(path) == MOST + 2
    store.close()


async def test_writes_by_the_clock_keep_their_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmgraph.runtime.store_writer.SPACING", 3600.0)
    path = tmp_path / "t.db"
    store = TraceStore(path)
    store.add(trace("first"))
    async with asyncio.timeout(60):
        while seen(path) == 0:  # noqa: ASYNC110
            await asyncio.sleep(DELAY)
    for number in range(MOST - 1):
        store.add(trace(f"{number}"))
        await asyncio.sleep(DELAY / 10)
    assert seen(path) == 1
    store.add(trace("last"))
    assert seen(path) == MOST + 1, "as many as that are no question of time"
    store.close()


async def test_what_waits_is_read_and_scored_as_if_it_were_written(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    store.add(trace("a"))
    assert store.find("a") == trace("a")
    store.add(trace("b"))
    store.set_reward("b", 0.25, parts={"m": 0.25})
    assert store.score_of("b") == (0.25, {"m": 0.25}, {})
    assert store.find("b").reward == 0.25
    store.close()


async def test_one_that_cannot_be_written_costs_no_others_and_is_told(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    for one in (trace("a"), trace("bad", example="\ud800"), trace("c")):
        store.add(one)
    with pytest.raises(ConfigError, match="The trace of run bad cannot be written"):
        store.flush()
    store.flush()
    assert {run["run_id"] for run in store.list_runs()} == {"a", "c"}
    store.add(trace("worse", example="\udfff"))
    async with asyncio.timeout(60):
        while store._writer._problem is None:  # noqa: ASYNC110
            await asyncio.sleep(DELAY)
    with pytest.raises(ConfigError, match="run worse cannot be written"):
        store.add(trace("d"))
    assert seen(tmp_path / "t.db") == 3, "the one that was told of it is kept"
    store.add(trace("worst", example="\udfff"))
    with pytest.raises(ConfigError, match="run worst cannot be written"):
        store.close()


def test_a_store_is_used_by_one_loop_after_another(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")

    async def add(name: str) -> None:
        store.add(trace(name))

    for name in ("a", "b"):
        asyncio.run(add(name))
    assert seen(tmp_path / "t.db") == 0

    async def wait() -> None:
        store.add(trace("c"))
        async with asyncio.timeout(60):
            while seen(tmp_path / "t.db") < 3:  # noqa: ASYNC110
                await asyncio.sleep(DELAY)

    asyncio.run(wait())
    store.close()


UNCLOSED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, ".")
from unit.test_runtime_store_writer import trace
from lmgraph.runtime import TraceStore

store = TraceStore(Path(sys.argv[1]))


async def main():
    store.add(trace("a"))

asyncio.run(main())
"""


def test_a_process_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCLOSED, str(tmp_path / "t.db")],
        capture_output=True, text=True, check=False, cwd=TESTS,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert seen(tmp_path / "t.db") == 1


async def test_a_runtime_that_closes_has_written_to_a_store_that_is_not_its_own(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    store = TraceStore(tmp_path / "t.db")
    async with Runtime(everything=ScriptedEngine({"": "fruit"}), store=store) as runtime:
        await runtime.run(program, {"word": "fig"})
    assert seen(tmp_path / "t.db") == 1
    store.close()


def test_attempts_and_cost_come_back(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    original = trace("a")
    original.judged = [replace(original.calls[0], call_key="metric/j", attempts=1, cost=2.5)]
    original.reward = 1.0
    store.add(original)
    assert store.find("a") == original
    with sqlite3.connect(tmp_path / "t.db") as db:
        db.execute("UPDATE costs SET cost = 0 WHERE judged = 0")
    with pytest.raises(ConfigError, match=r"Run a .* is damaged"):
        store.find("a")
    store.close()
