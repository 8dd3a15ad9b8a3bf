"""The trace store when something breaks: a killed eval goes on, damage is never read as a run, a full disk is said."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lmgraph.errors import ConfigError
from lmgraph.evaluate import evaluate, make_task
from lmgraph.runtime import Call, Failure, RunIdentity, RunSettings, Runtime, Step, Trace, TraceStore
from lmgraph.testing import ScriptedEngine
from support.scripted import sort_program, write_sort_program

TESTS = Path(__file__).parents[1]


def call(index: int) -> Call:
    return Call(
        "F/a", f"F/a[{index}]", "M", "default", "scripted", "m", None, "t" * 64, [1, 2, index], [3, 4], [-0.5, -0.25],
        0.5, index, True, "stop", f"text {index}", {"x": "value " * 20}, {"y": index},
    )  # fmt: skip


def trace(name: str, started: float = 1.0) -> Trace:
    steps = [Step("F/f", f"F/f[{index}]", "fn", "f", {"q": "x" * 50}, [index], None, 1.0, 0.5) for index in range(3)]
    return Trace(
        name, "p+q", "F", RunIdentity("s", "eval", 1, f"row {name}", 0), {"x": "input " * 10}, {"z": 1}, None,
        [call(index) for index in range(4)], started, 0.5, None, steps, settings=RunSettings("strict", 0.5, 7),
    )  # fmt: skip


def filled(path: Path, count: int = 12) -> dict[str, Trace]:
    store = TraceStore(path)
    traces = {f"run{index:02}": trace(f"run{index:02}", float(index)) for index in range(count)}
    for one in traces.values():
        store.add(one)
    store.close()
    return traces


KILLED = """
import asyncio, json, os, random, signal, sys, time
from pathlib import Path
from lmgraph.compiler.compile import compile_path
from lmgraph.evaluate import evaluate
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from lmgraph.testing import ScriptedEngine

folder = Path(sys.argv[1])
program = Program.default(compile_path(folder / "sort.lmg").require(), folder)


async def score(progress=None):
    engine = ScriptedEngine({"": "tool"}, latency=lambda request: 0.02 + (sum(request.prompt_ids) % 12) / 30)
    async with Runtime(everything=engine, store=folder / "traces.db") as runtime:
        evaluation = await evaluate(program, runtime=runtime, split="train", resume=True, progress=progress)
    return evaluation, len(engine.requests)


asked = []
rng = random.Random(1)
for turn in range(20):
    hears, tells = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.run(score(lambda rollout: rollout.resumed or os.write(tells, b".")))
        os._exit(0)
    os.close(tells)
    if turn % 4 == 3:
        os.read(hears, 1)  # a new row is done, on a machine of any speed
    time.sleep(rng.random() * 0.1)
    os.kill(child, signal.SIGKILL)
    os.close(hears)
    os.waitpid(child, 0)
evaluation, requests = asyncio.run(score())
print(json.dumps({"rows": [[row.example, row.score, row.run_id] for row in evaluation.rows], "asked": requests}))
"""


def test_a_killed_eval_goes_on_and_every_row_is_run_and_scored_once(tmp_path: Path) -> None:
    write_sort_program(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False, cwd=TESTS
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with sqlite3.connect(tmp_path / "traces.db") as db:
        kept = db.execute("SELECT example, run_id, reward FROM runs").fetchall()
    assert len(kept) == len({example for example, _, _ in kept}) == 12, "no row was kept twice"
    assert sorted([example, reward, run] for example, run, reward in kept) == sorted(
        [example, score, run] for example, score, run in found["rows"]
    )
    assert found["asked"] < 12, "what was done before was not asked again"


MAPPED = """
import asyncio, json, os, random, signal, sys, time
from pathlib import Path
from lmgraph.compiler.compile import compile_path
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from lmgraph.testing import ScriptedEngine

folder = Path(sys.argv[1])
program = Program.default(compile_path(folder / "sort.lmg").require(), folder)
words = [{"word": f"word {number}"} for number in range(60)]


async def label(told=None):
    engine = ScriptedEngine({"": "tool"}, latency=lambda request: 0.01 + (sum(request.prompt_ids) % 12) / 100)
    async with Runtime(everything=engine, store=folder / "traces.db") as runtime:
        found = []
        async for trace in runtime.map(program, words, concurrency=4, resume=True):
            found.append([trace.identity.example, trace.run_id])
            if told is not None:
                os.write(told, b".")
    return found, len(engine.requests)


rng = random.Random(1)
for turn in range(20):
    hears, tells = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.run(label(tells))
        os._exit(0)
    os.close(tells)
    os.read(hears, 1)
    time.sleep(rng.random() * 0.1)
    os.kill(child, signal.SIGKILL)
    os.close(hears)
    os.waitpid(child, 0)
found, requests = asyncio.run(label())
print(json.dumps({"found": found, "asked": requests}))
"""


def test_a_killed_map_goes_on_and_every_input_is_run_once(tmp_path: Path) -> None:
    write_sort_program(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MAPPED, str(tmp_path)], capture_output=True, text=True, check=False, cwd=TESTS
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with sqlite3.connect(tmp_path / "traces.db") as db:
        kept = db.execute("SELECT example, run_id FROM runs ORDER BY CAST(example AS INTEGER)").fetchall()
    assert [list(one) for one in kept] == found["found"]
    assert [example for example, _ in kept] == [str(number) for number in range(60)]
    assert found["asked"] < 60, "what was done before was not asked again"


async def test_resume_equals_an_uninterrupted_eval_and_asks_nothing_twice(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    engine = ScriptedEngine({"saw": "tool", "": "fruit"})
    async with Runtime(everything=engine, store=tmp_path / "t.db") as runtime:
        whole = await evaluate(program, runtime=runtime, split="train")
        asked = len(engine.requests)
        again = await evaluate(program, runtime=runtime, split="train", resume=True)
        assert (again.rows, again.interval) == (whole.rows, whole.interval)
        assert len(engine.requests) == asked
        more = await evaluate(program, runtime=runtime, split="dev", resume=True)
        assert len(engine.requests) == asked + len(more.rows), "other rows are run"
        for options in ({"seed": 1}, {"decoding": "strict"}):
            before = len(engine.requests)
            await evaluate(program, runtime=runtime, split="train", resume=True, **options)  # type: ignore[arg-type]
            assert len(engine.requests) >= before + asked, f"{options} is another setting"
        tuned = program.with_params(program.params.with_module("Classify", instruction="Other words."))
        before = len(engine.requests)
        await evaluate(tuned, runtime=runtime, split="train", resume=True)
        assert len(engine.requests) == before + asked, "other parameters are another setting"
    other = ScriptedEngine({"": "fruit"}, model_id="another-model")
    async with Runtime(everything=other, store=tmp_path / "t.db") as runtime:
        await evaluate(program, runtime=runtime, split="train", resume=True)
    assert len(other.requests) == asked, "another model is another setting"


async def test_a_run_that_was_not_scored_is_scored_and_not_run_again(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    engine = ScriptedEngine({"": "fruit"})
    async with Runtime(everything=engine, store=tmp_path / "t.db") as runtime:
        whole = await evaluate(program, runtime=runtime, split="train")
        with sqlite3.connect(tmp_path / "t.db") as db:
            db.execute("DELETE FROM run_scores")
            db.execute("UPDATE runs SET reward = NULL")
        asked = len(engine.requests)
        again = await evaluate(program, runtime=runtime, split="train", resume=True)
        assert again.rows == whole.rows
        assert len(engine.requests) == asked
        assert runtime.store is not None
        assert all(run["reward"] is not None for run in runtime.store.list_runs())


async def test_resume_without_a_store_is_refused(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    async with Runtime(everything=ScriptedEngine({"": "fruit"})) as runtime:
        with pytest.raises(ConfigError, match="no trace store to resume from"):
            await evaluate(program, runtime=runtime, task=make_task(program), resume=True)


def test_no_flipped_bit_is_read_as_a_run(tmp_path: Path) -> None:
    traces = filled(tmp_path / "t.db")
    whole = (tmp_path / "t.db").read_bytes()
    rng = random.Random(5)
    refused = 0
    for trial in range(120):
        damaged = bytearray(whole)
        for _ in range(1 + trial % 3):
            damaged[rng.randrange(100, len(damaged))] ^= 1 << rng.randrange(8)
        refused += read_all(tmp_path / f"{trial % 4}.db", bytes(damaged), traces)
    assert refused > 60


def test_no_torn_file_is_read_as_a_run(tmp_path: Path) -> None:
    traces = filled(tmp_path / "t.db")
    whole = (tmp_path / "t.db").read_bytes()
    rng = random.Random(6)
    for trial in range(40):
        read_all(tmp_path / f"{trial % 4}.db", whole[: rng.randrange(1, len(whole))], traces)


def read_all(path: Path, data: bytes, traces: dict[str, Trace]) -> int:
    """How many reads are refused. What is read is what was written."""
    for other in path.parent.glob(f"{path.name}*"):
        other.unlink()
    path.write_bytes(data)
    refused = 0
    for read_only in (True, False):
        try:
            store = TraceStore(path, read_only=read_only)
        except ConfigError:
            refused += 1
            continue
        for name, original in traces.items():
            try:
                found = store.find(name)
                assert replace(found, settings=original.settings) == original
                assert found.settings in (original.settings, None), "they may be lost, never others"
            except ConfigError:
                refused += 1
        store.close()
    return refused


def test_a_damaged_run_is_named_in_the_list_and_the_others_are_whole(tmp_path: Path) -> None:
    filled(tmp_path / "t.db", 3)
    with sqlite3.connect(tmp_path / "t.db") as db:
        db.execute("""UPDATE runs SET outputs = '{"z": 2}' WHERE run_id = 'run01'""")
        db.execute("UPDATE steps SET output = '[9]' WHERE run_id = 'run02'")
    store = TraceStore(tmp_path / "t.db", read_only=True)
    assert [(run["run_id"], run["damaged"]) for run in store.list_runs()] == [
        ("run02", False), ("run01", True), ("run00", False),
    ]  # fmt: skip
    assert store.find("run00") == trace("run00", 0.0)
    for name in ("run01", "run02"):
        with pytest.raises(ConfigError, match=f"Run {name} in .* is damaged"):
            store.find(name)
    store.close()


def test_a_full_disk_is_said_and_the_store_stays_readable(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    store.add(trace("first"))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    big = trace("second")
    big.calls = [replace(call(index), text="x" * 4000) for index in range(50)]
    with pytest.raises(ConfigError, match=r"cannot be written to .* full"):
        store.add(big)
    with pytest.raises(ConfigError, match="cannot be written"):
        store.set_reward("first", 1.0, [replace(one, call_key=f"m/{one.call_key}") for one in big.calls])
    assert store.find("first") == trace("first")
    assert len(store.list_runs()) == 1, "nothing of the second run was kept"
    store.close()


def test_a_store_without_the_newer_tables_can_be_read_and_written(tmp_path: Path) -> None:
    filled(tmp_path / "t.db", 2)
    with sqlite3.connect(tmp_path / "t.db") as db:
        for table in ("run_settings", "sources", "costs", "run_scores", "private"):
            db.execute(f"DROP TABLE {table}")
    older = TraceStore(tmp_path / "t.db", read_only=True)
    assert older.find("run01") == replace(trace("run01", 1.0), settings=None)
    assert older.at_place("x") is None
    assert older.score_of("run01") is None
    assert older.private_of("p") is None
    older.close()
    store = TraceStore(tmp_path / "t.db")
    store.add(trace("new", 9.0))
    assert store.find("new") == trace("new", 9.0)
    assert [run["damaged"] for run in store.list_runs()] == [False, False, False]
    store.close()


def test_a_store_that_nothing_can_be_written_beside_is_read(tmp_path: Path) -> None:
    filled(tmp_path / "t.db", 2)
    before = sorted(path.name for path in tmp_path.iterdir())
    store = TraceStore(tmp_path / "t.db", read_only=True)
    assert store.find("run01") == trace("run01", 1.0)
    with pytest.raises(ConfigError, match="cannot be written"):
        store.add(trace("more"))
    store.close()
    shutil.copy(tmp_path / "t.db", tmp_path / "copy.db")
    assert before == ["t.db"]


def test_scores_and_failures_of_metrics_come_back(tmp_path: Path) -> None:
    filled(tmp_path / "t.db", 1)
    store = TraceStore(tmp_path / "t.db")
    failed = {"m": Failure("parse", "not a number", "m/J", "m/J", "text")}
    store.set_reward("run00", 0.25, parts={"exact": 0.1 + 0.2}, failed=failed)
    assert store.score_of("run00") == (0.25, {"exact": 0.1 + 0.2}, failed)
    with sqlite3.connect(tmp_path / "t.db") as db:
        db.execute("""UPDATE run_scores SET parts = '{"exact": 1.0}'""")
    assert store.score_of("run00") is None, "a damaged score is no score"
    store.close()


def test_the_newest_stay_and_the_young(tmp_path: Path) -> None:
    filled(tmp_path / "t.db", 10)
    store = TraceStore(tmp_path / "t.db")
    assert store.prune(keep=8, dry=True) == ["run01", "run00"]
    assert len(store.list_runs()) == 10
    assert store.prune(keep=2, before=3.0) == ["run02", "run01", "run00"]
    assert store.prune(keep=9, before=9.0) == []
    assert store.prune(before=5.0) == ["run04", "run03"]
    assert [run["run_id"] for run in store.list_runs()] == ["run09", "run08", "run07", "run06", "run05"]
    assert store.find("run07") == trace("run07", 7.0)
    store.close()
    with sqlite3.connect(tmp_path / "t.db") as db:
        left = {
            row[0] for table in ("calls", "steps", "run_settings") for row in db.execute(f"SELECT run_id FROM {table}")
        }
    assert left == {f"run0{number}" for number in range(5, 10)}
