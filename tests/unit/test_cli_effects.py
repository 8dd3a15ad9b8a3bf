"""Python, asserts and tools from the command line: what is shown of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.scripted import Done, run_cli, sort_rows, write_engine_plugin, write_rows

Cli = Callable[..., Done]

PROGRAM = """
edition 1

enum Kind { fruit  tool  animal }

record Word {
  word: str
  kind: Kind
}

module Classify(word: str) -> (kind: Kind) {
  \"\"\"Name the kind of thing.\"\"\"
  max_tokens: 16
  check len(word) < 4 else "a short word"
}

fn upper(word: str) -> str = py "tools:upper"
tool note(word: str) -> int = py "tools:note"

flow Sort(word: str) -> (kind: Kind, noted: int) {
  loud = upper(word=word)
  assert loud != "SAW" else "no saws"
  out = Classify(word=word)
  noted = note(word=loud)
  return (kind=out.kind, noted=noted)
}

dataset words: Word = jsonl "words.jsonl" { split: { train: 4, dev: 4 } }
metric exact(gold: Word, pred: Sort.out) -> bool = gold.kind == pred.kind
objective accuracy { flow: Sort  data: words  metric: exact }
"""

TOOLS = """
from pathlib import Path

def upper(word):
    return word.upper()

def note(word):
    with open(Path(__file__).with_name("notes.txt"), "a") as file:
        file.write(word + "\\n")
    if word == "OWL":
        raise OSError("no owls")
    return len(word)
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    (tmp_path / "act.lmg").write_text(PROGRAM.lstrip(), encoding="utf-8")
    (tmp_path / "tools.py").write_text(TOOLS, encoding="utf-8")
    write_rows(tmp_path / "words.jsonl", sort_rows())
    monkeypatch.syspath_prepend(str(write_engine_plugin(tmp_path / "site")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMGRAPH_ENGINE", "words")
    monkeypatch.delenv("LMGRAPH_MODEL", raising=False)
    return lambda *arguments, **options: run_cli(monkeypatch, capsys, *arguments, **options)


def test_a_run_may_act_and_its_steps_are_shown(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "act.lmg", "--word", "pear", "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["outputs"] == {"kind": "fruit", "noted": 4}
    assert (data["calls"], data["steps"]) == (1, 2)
    (false,) = data["false_checks"]
    assert (false["kind"], false["message"], false["values"]) == ("check", "a short word", {"word": "pear"})
    assert (tmp_path / "notes.txt").read_text() == "PEAR\n"
    shown = cli("trace", "show", data["run_id"][-8:])
    assert shown.code == 0, shown.err
    for words in (
        "python   2 calls",
        "checks   1, 0 of them not true",
        'check       FALSE: a short word\n    word = "pear"',
        "fn          upper",
        'tool        note\n  inputs      {"word": "PEAR"}\n  output      4',
        "assert      true: no saws",
    ):
        assert words in shown.out
    told = json.loads(cli("trace", "show", data["run_id"][-8:], "--json").out)
    assert [step["name"] for step in told["steps"]] == ["upper", "note"] or len(told["steps"]) == 2
    assert [check["passed"] for check in told["checks"]] == [True]
    assert told["judged"] == []


def test_a_false_assert_is_told_with_what_it_read(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "act.lmg", "--word", "saw")
    assert done.code == 1
    assert "no saws" in done.err
    assert 'loud = "SAW"' in done.err
    assert not (tmp_path / "notes.txt").exists(), "an assert guards what acts after it"


def test_a_tool_that_fails_is_told_with_its_place(cli: Cli) -> None:
    done = cli("run", "act.lmg", "--word", "owl")
    assert done.code == 1
    assert "`note` raised OSError: no owls (at tools.py:11)" in done.err


@pytest.mark.parametrize("command", [["eval", "act.lmg"], ["optimize", "act.lmg", "--with", "demos"]])
def test_scoring_refuses_to_act_unless_it_may(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    done = cli(*command)
    assert done.code == 1
    assert "Flow `Sort` may call the tool `note`" in done.err
    assert "--allow-effects" in done.err
    assert not (tmp_path / "notes.txt").exists()
    options = ["--demos.candidates", "0"] if command[0] == "optimize" else []
    done = cli(*command, "--allow-effects", *options)
    assert done.code == 0, done.err
    assert (tmp_path / "notes.txt").exists()
