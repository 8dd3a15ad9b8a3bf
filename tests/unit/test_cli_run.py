"""`lmgraph run`, `eval` and `trace`: inputs in every form, results for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmgraph.cli.common import BindingFlags, Settings, bind
from lmgraph.cli.flags import read_inputs, split_arguments
from lmgraph.cli.progress import Progress
from lmgraph.errors import ConfigError
from lmgraph.graph.types import BOOL, INT, STR, Field, ListType, OptionalType, RecordType
from lmgraph.runtime import Binding
from support.scripted import (
    KIND_OF,
    Done,
    program_from,
    run_cli,
    sort_rows,
    write_engine_plugin,
    write_rows,
    write_sort_program,
)

Cli = Callable[..., Done]

FIELDS = (
    Field("text", STR),
    Field("note", OptionalType(STR)),
    Field("n", INT),
    Field("ok", BOOL),
    Field("tags", ListType(STR)),
    Field("row", RecordType("R", (Field("a", INT),))),
    Field("long_name", STR),
)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    write_sort_program(tmp_path)
    monkeypatch.syspath_prepend(str(write_engine_plugin(tmp_path / "site")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMGRAPH_ENGINE", "words")
    monkeypatch.delenv("LMGRAPH_MODEL", raising=False)
    return lambda *arguments, **options: run_cli(monkeypatch, capsys, *arguments, **options)


# -- flags ------------------------------------------------------------------------------------------------------------


def test_free_arguments_keep_order_and_values() -> None:
    free = split_arguments(["p.lmg", "--text", "--odd", "--n=-3", "-", "--tags", "a", "--tags", "-b"])
    assert free.positional == ("p.lmg", "-")
    assert free.flags == (("text", "--odd"), ("n", "-3"), ("tags", "a"), ("tags", "-b"))


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        ([("text", "3")], {"text": "3"}),
        ([("text", '"quoted"')], {"text": '"quoted"'}),
        ([("note", "null")], {"note": "null"}),
        ([("n", "3"), ("ok", "true")], {"n": 3, "ok": True}),
        ([("tags", "a"), ("tags", "b")], {"tags": ["a", "b"]}),
        ([("tags", "a")], {"tags": ["a"]}),
        ([("tags", '["a", "b"]')], {"tags": ["a", "b"]}),
        ([("row", '{"a": 1}')], {"row": {"a": 1}}),
        ([("long-name", "x")], {"long_name": "x"}),
    ],
)
def test_flags_become_values_of_their_types(flags: list[tuple[str, str]], values: dict[str, object]) -> None:
    assert read_inputs(flags, FIELDS, "F") == values


@pytest.mark.parametrize("flags", [[("row", "{a: 1}")], [("n", "three")], [("n", "1"), ("n", "2")], [("tags", "[1")]])
def test_flags_that_do_not_fit_are_refused(flags: list[tuple[str, str]]) -> None:
    with pytest.raises(ConfigError, match=flags[0][0]):
        read_inputs(flags, FIELDS, "F")


# -- bindings ---------------------------------------------------------------------------------------------------------


def test_flags_win_over_environment_and_it_over_settings(cli: Cli, tmp_path: Path) -> None:
    program = program_from(
        tmp_path / "two",
        'edition 1\nlm big { model: "m" }\nmodule A(x: str) -> (y: str) { lm: big }\nmodule B(x: str) -> (y: str) {}\n'
        "flow F(x: str) -> (y: str) {\n  a = A(x=x)\n  b = B(x=a.y)\n  return (y=b.y)\n}\n",
    )
    settings = Settings(engine="words", model="toml", lms={"big": "words:toml-big", "unknown": "words:x"})
    assert bind(program, settings, BindingFlags(), {}) == (
        {"big": Binding("words", "toml-big")},
        Binding("words", "toml"),
    )
    environment = {"LMGRAPH_MODEL": "env"}
    assert bind(program, settings, BindingFlags(), environment) == (
        {"big": Binding("words", "env")},
        Binding("words", "env"),
    )
    flags = BindingFlags(model="flag", lms=("big=words:mine",))
    assert bind(program, settings, flags, environment) == ({"big": Binding("words", "mine")}, Binding("words", "flag"))


def test_a_settings_file_names_program_and_model(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMGRAPH_ENGINE")
    Path("lmgraph.toml").write_text('program = "sort.lmg"\nengine = "words"\n[lm]\ndefault = "words:tiny"\n', "utf-8")
    done = cli("run", "--word", "plum", "--json")
    assert json.loads(done.out)["outputs"] == {"kind": "fruit"}
    run = json.loads(done.out)["run_id"]
    assert json.loads(cli("trace", "show", run, "--json").out)["calls"][0]["model"] == "tiny"


# -- run --------------------------------------------------------------------------------------------------------------


def test_inputs_as_flags_json_and_stdin(cli: Cli) -> None:
    for done in (
        cli("run", "sort.lmg", "--word", "plum"),
        cli("run", "--word=plum", "sort.lmg"),
        cli("run", "sort.lmg", "--input", '{"word": "plum"}'),
        cli("run", "sort.lmg", "-", stdin='{"word": "plum"}\n'),
        cli("run", "sort.lmg", "-", stdin='\ufeff{\n  "word": "plum"\n}\n'),
    ):
        assert (done.code, done.out) == (0, "kind: fruit\n"), done.err


def test_what_a_call_writes_is_shown_while_it_writes(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Progress, "status", lambda self, message, share: shown.append(message))
    answer = cli("run", "--word", "plum", "sort.lmg", "--json")
    called = json.loads(cli("trace", "show", json.loads(answer.out)["run_id"], "--json").out)["calls"][0]
    key, text = called["call_key"], called["text"]
    assert len(text) > 4  # this engine tells four characters at a time
    assert shown[:2] == [key, f"{key}: {text[:4]}"]
    assert shown[-1] == f"{key}: {text}"


def test_json_lines_give_a_result_a_line_in_order(cli: Cli) -> None:
    words = [word for word in KIND_OF if len(word) % 2 == 0]
    lines = "".join(json.dumps({"word": word}) + "\n" for word in words * 20)
    done = cli("run", "sort.lmg", "-", stdin=lines)
    assert done.code == 0
    results = [json.loads(line) for line in done.out.splitlines()]
    assert [result["outputs"]["kind"] for result in results] == [KIND_OF[word] for word in words * 20]


def test_lines_that_were_run_before_are_taken_from_the_trace(cli: Cli) -> None:
    words = ["plum", "fig", "plum", "owl"]

    def run(count: int, *flags: str) -> list[dict[str, Any]]:
        lines = "".join(json.dumps({"word": word}) + "\n" for word in words[:count])
        done = cli("run", "sort.lmg", "-", *flags, stdin=lines)
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    first = run(2)
    again = run(4, "--resume")
    assert again[:2] == first
    assert [one["outputs"] for one in again] == [one["outputs"] for one in run(4)]
    assert run(4, "--resume", "--seed", "1")[0]["run_id"] != first[0]["run_id"]
    for arguments, said in (
        (("-", "--resume", "--no-trace"), "--resume reads the trace"),
        (("--word", "fig", "--resume"), "for many lines on standard input"),
    ):
        done = cli("run", "sort.lmg", *arguments, stdin='{"word": "a"}\n{"word": "b"}\n')
        assert done.code != 0
        assert said in done.err


def test_a_line_that_does_not_fit_stops_no_others(cli: Cli) -> None:
    done = cli("run", "sort.lmg", "-", stdin='{"word": "plum"}\n{"wort": "plum"}\n{"word": "fig"}\n')
    assert done.code == 1
    results = [json.loads(line) for line in done.out.splitlines()]
    assert [result["outputs"] is None for result in results] == [False, True, False]
    assert "the field is missing" in results[1]["failure"]["message"]


def test_a_failed_run_says_what_and_shows_the_text(cli: Cli) -> None:
    done = cli("run", "sort.lmg", "--model", "silent", "--word", "fig")
    assert done.code == 1
    for words in ("Sort/out", "expected one of fruit, tool, animal", "no label at all", "lmgraph trace show"):
        assert words in done.err
    as_json = cli("run", "sort.lmg", "--model", "silent", "--word", "fig", "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["failure"]["raw_text"] == "no label at all"
    lines = cli("run", "sort.lmg", "--model", "silent", "-", stdin='{"word": "a"}\n{"word": "b"}\n')
    assert lines.code == 1
    assert len(lines.out.splitlines()) == 2


def test_seed_and_temperature_reach_the_calls(cli: Cli) -> None:
    def calls(*options: object) -> list[dict[str, object]]:
        run = json.loads(cli("run", "sort.lmg", "--word", "fig", "--json", *options).out)["run_id"]
        found: list[dict[str, object]] = json.loads(cli("trace", "show", run, "--json").out)["calls"]
        return found

    (one,), (same,), (other,) = calls("--seed", 1), calls("--seed", 1), calls("--seed", 2, "--temperature", 0.5)
    assert one["seed"] == same["seed"] != other["seed"]
    assert (one["temperature"], other["temperature"]) == (0.0, 0.5)
    assert one["constrained"]


def test_no_trace_keeps_none(cli: Cli) -> None:
    assert cli("run", "sort.lmg", "--word", "fig", "--no-trace").code == 0
    assert not Path(".lmgraph").exists()


# -- eval -------------------------------------------------------------------------------------------------------------


def test_eval_prints_the_score_and_what_it_took(cli: Cli) -> None:
    done = cli("eval", "sort.lmg", "--split", "train")
    assert done.code == 0
    for words in ("score ", "95 % interval, 12 rows of train, constrained", "failures  0", "calls     12", "trace"):
        assert words in done.out
    assert "words.jsonl:" in done.out


def test_eval_as_data(cli: Cli) -> None:
    done = cli(
        "eval", "sort.lmg", "--split", "test", "--limit", 4, "--json", "--rows", "r/rows.jsonl", "-o", "all.json"
    )
    data = json.loads(done.out)
    assert (data["rows"], data["calls"], data["split"], data["trace"]) == (4, 4, "test", ".lmgraph/traces.db")
    assert data["low"] <= data["score"] <= data["high"]
    lines = [json.loads(line) for line in Path("r/rows.jsonl").read_text("utf-8").splitlines()]
    assert lines == data["results"]
    assert json.loads(Path("all.json").read_text("utf-8")) == data


def test_eval_of_other_rows_and_failures_by_kind(cli: Cli) -> None:
    write_rows(Path("other.jsonl"), [row for row in sort_rows() if row["kind"] == "fruit"])
    data = json.loads(cli("eval", "sort.lmg", "--data", "other.jsonl", "--json").out)
    assert (data["rows"], data["score"]) == (8, 1.0)
    silent = cli("eval", "sort.lmg", "--model", "silent", "--decoding", "strict")
    assert "failures  6  (parse 6)" in silent.out
    assert "no label at all" in silent.out


# -- trace ------------------------------------------------------------------------------------------------------------


def test_trace_lists_and_shows(cli: Cli) -> None:
    assert cli("eval", "sort.lmg", "--limit", 3).code == 0
    assert cli("run", "sort.lmg", "--word", "plum").code == 0
    runs = json.loads(cli("trace", "list", "--json").out)
    assert [run["phase"] for run in runs] == ["run", "eval", "eval", "eval"]
    assert len(json.loads(cli("trace", "list", "--phase", "eval", "--limit", 2, "--json").out)) == 2
    listed = cli("trace", "list")
    assert runs[0]["run_id"][-8:] in listed.out
    assert '{"kind": "fruit"}' in listed.out
    shown = cli("trace", "show", runs[0]["run_id"][-10:], "--tokens", "--prompts")
    assert shown.code == 0
    for words in ("Sort/out", '"fruit"', "log-probability", "257", "prompt ids", "scripted:smollm2-135m"):
        assert words in shown.out
    assert "has no such run" in cli("trace", "list", "--phase", "nothing").out


def test_version(cli: Cli) -> None:
    assert cli("--version").out.startswith("lmgraph 0.")
