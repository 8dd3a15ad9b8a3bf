"""`lmgraph trace` on recorded runs: compared, replayed, exported with private values masked, and pruned."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmgraph.graph.labels_program import information_flow
from lmgraph.runtime import Runtime, TraceStore, otel_names
from lmgraph.runtime.exports import MASK
from lmgraph.testing import ScriptedEngine
from support.scripted import Done, program_from, run_cli, write_engine_plugin, write_sort_program

SECRET = "PURPLE-ELEPHANT"

PRIVATE = """
edition 1

lm safe {
  clearance: private
}

module Sum(letter: private str, tone: str) -> (gist: private str, words: int) {
  lm: safe
  max_tokens: 60
}

module Reply(gist: str) -> (reply: str) {
  max_tokens: 60
}

fn strike(text: private str) -> private str = py "tools:strike"

flow Answer(letter: private str, tone: str) -> (reply: str, gist: private str, tone: str) {
  out = Sum(letter=letter, tone=tone)
  struck = strike(text=out.gist)
  release gist = struck because "strike removes every name"
  said = Reply(gist=gist)
  return (reply=said.reply, gist=out.gist, tone=tone)
}
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    monkeypatch.syspath_prepend(write_engine_plugin(tmp_path / "plugin"))
    monkeypatch.setenv("LMGRAPH_ENGINE", "words")
    monkeypatch.chdir(tmp_path)
    write_sort_program(tmp_path / "sort")
    return lambda *arguments: run_cli(monkeypatch, capsys, *arguments)


def data(done: Done) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.out)


def run(cli: Callable[..., Done], word: str) -> str:
    found: str = data(cli("run", "sort/sort.lmg", "--word", word, "--json"))["run_id"]
    return found


def private_run(folder: Path) -> str:
    """A run with a secret in it, in the default store."""
    folder.mkdir()
    (folder / "tools.py").write_text("def strike(text):\n    return 'struck'\n", encoding="utf-8")
    program = program_from(folder, PRIVATE)
    answers = {"letter: ": json.dumps({"gist": f"about {SECRET}", "words": 3}), "": "thank you"}

    async def run() -> str:
        async with Runtime(everything=ScriptedEngine(answers), store=Path(".lmgraph/traces.db")) as runtime:
            return (await runtime.run(program, {"letter": f"I am {SECRET}", "tone": "gentle"})).run_id

    return asyncio.run(run())


def test_two_runs_are_compared(cli: Callable[..., Done]) -> None:
    first, same, other = run(cli, "saw"), run(cli, "saw"), run(cli, "cat")
    alike = data(cli("trace", "diff", first, same, "--json"))
    assert (alike["differences"], alike["alike"]) == ([], 1)
    assert "no difference" in cli("trace", "diff", first[:12], same[:12]).out
    found = data(cli("trace", "diff", first, other, "--json"))["differences"]
    assert [(one["what"], one["call_key"]) for one in found] == [("run", ""), ("call", "Sort/out")]
    assert found[0]["values"]["inputs"] == [{"word": "saw"}, {"word": "cat"}]
    assert {"inputs", "prompt_ids"} <= set(found[1]["values"])
    text = cli("trace", "diff", first, other).out
    assert "call Sort/out" in text
    assert "2 differences" in text


def test_a_run_is_replayed_without_its_engine(cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = run(cli, "saw")
    monkeypatch.setenv("LMGRAPH_ENGINE", "")
    again = data(cli("trace", "replay", recorded, "sort/sort.lmg", "--json"))
    assert (again["outputs"], again["same"], again["made"], again["reused"]) == ({"kind": "fruit"}, True, [], 1)
    assert len(data(cli("trace", "list", "--json"))) == 1, "nothing new happened, so nothing is recorded"
    shown = cli("trace", "replay", recorded, "sort/sort.lmg").out
    assert "the same result; 0 calls made, 1 from the record" in shown


def test_a_changed_program_runs_what_changed(cli: Callable[..., Done]) -> None:
    recorded = run(cli, "saw")
    source = Path("sort/sort.lmg")
    source.write_text(source.read_text("utf-8").replace("Name the kind", "Say the kind"), encoding="utf-8")
    again = data(cli("trace", "replay", recorded, source, "--json"))
    assert again["made"] == ["Sort/out"]
    assert len(data(cli("trace", "list", "--json"))) == 2
    assert data(cli("trace", "replay", recorded, source, "--json", "--no-trace"))["run_id"] is None
    assert "no module or extern" in cli("trace", "replay", recorded, source, "--again", "Nothing").err


def test_labels_reach_what_is_made_of_private_values(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("def strike(text):\n    return 'struck'\n", encoding="utf-8")
    assert information_flow(program_from(tmp_path, PRIVATE).graph).private == {
        "extern strike": ["in.text", "out."],
        "flow Answer": ["in.letter", "out.gist"],
        "module Sum": ["in.letter", "out.gist", "out.words"],
    }


def test_labels_reach_what_a_private_condition_decides_and_private_rows(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("def strike(text):\n    return 'struck'\n", encoding="utf-8")
    program = program_from(
        tmp_path,
        """
edition 1

record Row { text: private str  kind: str }

lm safe { clearance: private }

module Sort(text: private str) -> (kind: str) { lm: safe }

flow Early(ill: private bool) -> (reply: str) {
  if ill { return (reply="yes") }
  return (reply="no")
}

fn shorten(text: str) -> str = py "tools:strike"

flow Look(text: str) -> (kind: str) {
  out = Sort(text=shorten(text))
  return (kind=out.kind)
}

dataset rows: Row = jsonl "rows.jsonl"

metric right(gold: Row, pred: Look.out) -> bool = gold.kind == pred.kind

objective look { flow: Look  data: rows  metric: right }
""",
    )
    private = information_flow(program.graph).private
    assert private["flow Early"] == ["in.ill", "out.reply"], "the answer tells the condition"
    assert private["flow Look"] == ["in.text", "out.kind"], "a row that is scored is private"
    assert private["extern shorten"] == ["in.text", "out."]


@pytest.mark.parametrize("form", ["jsonl", "otel", "chrome"])
def test_private_values_are_masked_in_every_export(cli: Callable[..., Done], tmp_path: Path, form: str) -> None:
    private_run(tmp_path / "letters")
    masked = cli("trace", "export", "--format", form).out
    assert SECRET not in masked
    assert str(list(SECRET.encode()))[1:-1] not in masked, "nor do token ids tell it"
    for told in (MASK, "gentle", "thank you"):
        assert told in masked
    cli("trace", "export", "--format", form, "--private", "-o", "all.txt")
    assert SECRET in Path("all.txt").read_text("utf-8")


def test_runs_of_unknown_labels_are_masked_whole(cli: Callable[..., Done]) -> None:
    run(cli, "saw")
    with sqlite3.connect(".lmgraph/traces.db") as db:
        db.execute("DELETE FROM private")
    exported = json.loads(cli("trace", "export").out)
    assert exported["inputs"] == {"word": MASK}
    assert exported["calls"][0]["prompt_ids"] is None


def test_json_lines_hold_all_that_was_recorded(cli: Callable[..., Done]) -> None:
    runs = [run(cli, word) for word in ("saw", "cat", "fig")]
    lines = [json.loads(line) for line in cli("trace", "export").out.splitlines()]
    assert [line["run_id"] for line in lines] == runs
    store = TraceStore(Path(".lmgraph/traces.db"), read_only=True)
    kept = store.find(runs[0])
    store.close()
    assert lines[0]["outputs"] == kept.outputs
    assert lines[0]["calls"][0]["completion_ids"] == list(kept.calls[0].completion_ids)
    assert [json.loads(line)["run_id"] for line in cli("trace", "export", "--limit", "2").out.splitlines()] == runs[1:]
    assert [json.loads(line)["run_id"] for line in cli("trace", "export", runs[1]).out.splitlines()] == [runs[1]]
    assert "filters are given too" in cli("trace", "export", runs[1], "--limit", "1").err


def test_otel_has_spans_with_the_conventions_names(cli: Callable[..., Done]) -> None:
    recorded = run(cli, "saw")
    request = json.loads(cli("trace", "export", "--format", "otel").out)
    (resource,) = request["resourceSpans"]
    spans = resource["scopeSpans"][0]["spans"]
    root, call = spans
    assert root["traceId"] == call["traceId"] == recorded
    assert len(root["spanId"]) == 16
    assert call["parentSpanId"] == root["spanId"]
    assert "parentSpanId" not in root
    assert int(root["startTimeUnixNano"]) <= int(call["startTimeUnixNano"]) <= int(call["endTimeUnixNano"])
    attributes = {one["key"]: one["value"] for one in call["attributes"]}
    assert attributes["gen_ai.operation.name"] == {"stringValue": "chat"}
    assert attributes["gen_ai.provider.name"] == {"stringValue": "scripted"}
    assert int(attributes["gen_ai.usage.input_tokens"]["intValue"]) > 10
    assert attributes["gen_ai.response.finish_reasons"] == {"arrayValue": {"values": [{"stringValue": "stop"}]}}
    assert attributes[otel_names.CALL_KEY] == {"stringValue": "Sort/out"}
    assert cli("trace", "export", "--format", "otel").out == json.dumps(request) + "\n", "a second export is the same"


def test_chrome_traces_have_slices_that_do_not_overlap(cli: Callable[..., Done]) -> None:
    for word in ("saw", "cat"):
        run(cli, word)
    events = json.loads(cli("trace", "export", "--format", "chrome").out)["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert [event["name"] for event in slices] == ["Sort", "Classify"] * 2
    assert {event["pid"] for event in slices} == {1, 2}
    assert all(event["dur"] >= 0 and event["ts"] > 0 for event in slices)


def test_runs_are_pruned(cli: Callable[..., Done]) -> None:
    runs = [run(cli, word) for word in ("saw", "cat", "fig")]
    assert "Nothing says which runs go" in cli("trace", "prune").err
    assert "expected a number and" in cli("trace", "prune", "--older-than", "soon").err
    assert data(cli("trace", "prune", "--keep", "1", "--dry-run", "--json"))["deleted"] == []
    assert data(cli("trace", "prune", "--older-than", "1h", "--json"))["deleted"] == []
    assert "2 runs deleted" in cli("trace", "prune", "--keep", "1").out
    assert [one["run_id"] for one in data(cli("trace", "list", "--json"))] == [runs[2]]


def test_an_eval_is_resumed(cli: Callable[..., Done]) -> None:
    whole = data(cli("eval", "sort/sort.lmg", "--json"))
    again = data(cli("eval", "sort/sort.lmg", "--json", "--resume"))
    assert (whole["resumed_rows"], again["resumed_rows"]) == (0, 6)
    assert again["results"] == whole["results"]
    assert "6 rows scored before" in cli("eval", "sort/sort.lmg", "--resume").out
    assert "--no-trace keeps none" in cli("eval", "sort/sort.lmg", "--resume", "--no-trace").err


def test_reading_makes_no_store(cli: Callable[..., Done]) -> None:
    for command in (["list"], ["export"], ["prune", "--keep", "1"], ["diff", "a", "b"], ["show", "a"]):
        assert "There is no trace store" in cli("trace", *command).err
    assert not Path(".lmgraph").exists()
