"""The trace store: what is read back is what happened, to the last bit."""

from __future__ import annotations

import random
import sqlite3
import struct
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from lmgraph.errors import ConfigError
from lmgraph.runtime import Call, CheckRecord, Failure, RunIdentity, Step, Trace, TraceStore
from lmgraph.runtime.run import new_run_id
from lmgraph.runtime.trace import short_id


def call(index: int, *, failure: Failure | None = None) -> Call:
    rng = random.Random(index)
    return Call(
        node="F/a",
        call_key=f"F/a[{index:02}]",
        module="M",
        lm="default",
        engine="scripted",
        model="m",
        adapter="shared@v1" if index else None,
        template="t" * 64,
        prompt_ids=[0, 1, 2**31 - 1, index],
        completion_ids=[rng.randrange(50_000) for _ in range(20)],
        logprobs=[-rng.random() * 10 ** rng.randrange(-300, 3) for _ in range(20)],
        temperature=0.7,
        seed=2**63 - 1 - index,
        constrained=bool(index % 2),
        finish_reason="stop",
        text="é ☕ \0 \u2028 " + str(index),
        inputs={"x": [1, {"y": None}], "text": "日本"},
        outputs=None if failure else {"z": 0.1 + 0.2},
        failure=failure,
        checks=(CheckRecord("F/a", f"F/a[{index:02}]", "check", "it holds", False, (("x", [1]), ("y", None))),) * index,
        retry=index % 3,
        cached_tokens=3,
        started=1_700_000_000.123456,
        seconds=0.1,
        queue_seconds=0.01,
        prefill_seconds=0.02,
        decode_seconds=0.03,
    )


def trace(name: str = "r1", *, started: float = 1.0, phase: str = "eval", failure: Failure | None = None) -> Trace:
    identity = RunIdentity("study", phase, 3, "rows.jsonl:7", 2)
    calls = [call(0), call(1, failure=failure), call(2)]
    outputs = None if failure else {"z": 1}
    steps = [step(index) for index in (0, 2, 10)]
    checks = [CheckRecord("F/c", "F/c", "assert", "é", True), CheckRecord("F/d", "F/d", "check", "m", None)]
    judged = [replace(call(1), call_key="metric/j", module="J")]
    return Trace(
        name, "p+q", "F", identity, {"x": 1}, outputs, failure, calls, started, 2.5, 0.25, steps, checks, judged
    )  # fmt: skip


def step(index: int) -> Step:
    failure = Failure("tool", "`f` raised", "F/f", f"F/f[{index}]") if index == 2 else None
    output = None if failure else [{"title": "日本", "score": 0.1 + 0.2}, None]
    return Step("F/f", f"F/f[{index}]", "retriever", "f", {"q": "x", "k": index}, output, failure, 1.5, 0.25)


def test_a_trace_comes_back_exactly(tmp_path: Path) -> None:
    original = trace()
    store = TraceStore(tmp_path / "deep" / "traces.db")
    store.add(original)
    store.close()
    again = TraceStore(tmp_path / "deep" / "traces.db")
    assert again.find("r1") == original
    bits = [struct.pack("<d", value) for value in again.find("r1").calls[1].logprobs]
    assert bits == [struct.pack("<d", value) for value in original.calls[1].logprobs]
    again.close()


def test_what_scoring_called_is_added_with_the_score(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    original = trace()
    judged, original.judged = original.judged, []
    store.add(original)
    assert store.find("r1").judged == []
    store.set_reward("r1", 0.75, judged)
    assert (store.find("r1").judged, store.find("r1").reward) == (judged, 0.75)
    assert len(store.find("r1").calls) == 3
    store.close()


def test_a_trace_is_in_the_order_of_its_indices(tmp_path: Path) -> None:
    keys = ["F/hop[0]/a", "F/hop[2]/a", "F/hop[2]/b", "F/hop[10]/a", "F/hop[10]/a/retry[1]", "G"]
    mixed = trace()
    mixed.calls = [replace(call(0), call_key=key) for key in reversed(keys)]
    mixed.sort()
    assert [one.call_key for one in mixed.calls] == keys
    store = TraceStore(tmp_path / "t.db")
    store.add(mixed)
    assert [one.call_key for one in store.find("r1").calls] == keys
    store.close()


def test_a_failure_comes_back(tmp_path: Path) -> None:
    failure = Failure("parse", "expected a, got b", "F/a", "F/a[01]", "b\n")
    store = TraceStore(tmp_path / "t.db")
    store.add(trace(failure=failure))
    assert store.find("r1") == trace(failure=failure)
    store.close()


def test_a_run_is_recorded_once(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    store.add(trace())
    store.add(trace())
    assert len(store.list_runs()) == 1
    assert len(store.find("r1").calls) == 3
    store.close()


def test_listing_is_newest_first_filtered_and_limited(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    for index in range(5):
        store.add(trace(f"r{index}", started=float(index), phase="run" if index % 2 else "eval"))
    assert [run["run_id"] for run in store.list_runs(limit=3)] == ["r4", "r3", "r2"]
    assert [run["run_id"] for run in store.list_runs(phase="run")] == ["r3", "r1"]
    assert [found.run_id for found in store.traces(phase="run")] == ["r1", "r3"]
    with pytest.raises(ConfigError, match="cannot be filtered"):
        store.list_runs(**{"inputs": "x"})
    store.close()


def test_the_reward_is_added_later(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    store.add(trace())
    store.set_reward("r1", 0.75)
    assert store.find("r1").reward == 0.75
    store.close()


def test_the_beginning_or_end_of_an_id_must_name_one_run(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "t.db")
    for name in ("abc1", "abc2", "zz91"):
        store.add(trace(name))
    assert [store.find(part).run_id for part in ("abc2", "c2", "z", "91")] == ["abc2", "abc2", "zz91", "zz91"]
    for part, words in (("abc", "more than one"), ("1", "more than one"), ("b", "no run"), ("%", "no run"),
                        ("a_c1", "no run")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            store.find(part)
    store.close()


def test_ids_of_runs_are_uuids_that_begin_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for nanoseconds, beginning in ((0, "0" * 12), (1_700_000_000_123_999_999, "018bcfe5687b")):
        monkeypatch.setattr("lmgraph.runtime.run.time.time_ns", lambda now=nanoseconds: now)
        made = [uuid.UUID(new_run_id()) for _ in range(300)]
        assert {(one.version, one.variant, one.hex[:12]) for one in made} == {(7, uuid.RFC_4122, beginning)}
        random = [one.int & 0x0FFF_3FFF_FFFF_FFFF_FFFF for one in made]
        assert [bit for bit in range(76) if not any(one >> bit & 1 for one in random)] == [62, 63]
        assert len({short_id(one.hex) for one in made}) == 300


def test_two_writers_share_a_file(tmp_path: Path) -> None:
    one, two = TraceStore(tmp_path / "t.db"), TraceStore(tmp_path / "t.db")
    one.add(trace("a"))
    two.add(trace("b"))
    assert {run["run_id"] for run in one.list_runs()} == {"a", "b"}
    one.close()
    two.close()


def test_a_file_of_the_version_before_is_refused(tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    with sqlite3.connect(older) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(ConfigError, match="has version 1; this lmgraph reads version 2"):
        TraceStore(older)


def test_another_version_or_another_file_is_refused(tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="version 99"):
        TraceStore(newer)
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all, but some text\n" * 40, encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be opened"):
        TraceStore(text)
    with pytest.raises(ConfigError, match="cannot be opened"):
        TraceStore(text / "inside.db")
