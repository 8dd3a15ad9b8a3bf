"""`lmgraph optimize` with groups of stages, several seeds and test rows, and with the optimizer `prompt`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.scripted import Done, run_cli, write_engine_plugin, write_sort_program

Cli = Callable[..., Done]
SMALL = ("--demos.max_demos", "2", "--demos.candidates", "1")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    write_sort_program(tmp_path)
    monkeypatch.syspath_prepend(str(write_engine_plugin(tmp_path / "site")))
    monkeypatch.setenv("LMGRAPH_ENGINE", "words")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_cli(monkeypatch, capsys, *arguments)


def test_a_group_is_repeated(cli: Cli) -> None:
    done = cli("optimize", "sort.lmg", "--with", "(demos)x2", *SMALL, "--json")
    assert done.code == 0, done.err
    assert [stage["name"] for stage in json.loads(done.out)["stages"]] == ["start", "demos", "demos"]
    wrong = cli("optimize", "sort.lmg", "--with", "(demos,x2", *SMALL)
    assert wrong.code == 1
    assert "a `(` that is never closed at the end" in wrong.err


def test_prompt_by_name(cli: Cli, tmp_path: Path) -> None:
    options = ("--prompt.trials", "4", "--prompt.minibatch", "3", "--prompt.max_demos", "2")
    done = cli("optimize", "sort.lmg", "--with", "prompt", *options, "--score-test", "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["stages"][1]["name"] == "prompt"
    assert data["test"]["start"]["rows"] == 6
    assert (tmp_path / "artifacts/sort-tuned/report.html").is_file()
    mistake = cli("optimize", "sort.lmg", "--with", "prompt", "--prompt.trails", "4")
    assert "no option `trails`. Did you mean `trials`?" in mistake.err


def test_seeds(cli: Cli, tmp_path: Path) -> None:
    arguments = ("optimize", "sort.lmg", "--with", "demos", *SMALL, "--seeds", 2, "--seed", 5, "--output", "best")
    done = cli(*arguments)
    assert done.code == 0, done.err
    for words in ("seed 5\n", "seed 6\n", "dev score over 2 seeds: start ", "artifact  best  (seed 5"):
        assert words in done.out
    assert {path.name for path in tmp_path.glob("best*")} == {"best", "best-seed-5", "best-seed-6"}
    assert cli("eval", "best", "--json").code == 0
    data = json.loads(cli(*arguments, "--json").out)
    assert set(data["runs"]) == {"5", "6"}
