"""`lmgraph optimize`: the table, the artifact, and Ctrl-C in the middle of it, by real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.scripted import Done, run_cli, write_engine_plugin, write_sort_program

Cli = Callable[..., Done]
LMGRAPH = [sys.executable, "-c", "from lmgraph.cli.app import main; main()"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_sort_program(tmp_path)
    site = write_engine_plugin(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("LMGRAPH_ENGINE", "words")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return lambda *arguments, **options: run_cli(monkeypatch, capsys, *arguments, **options)


OPTIMIZE = ("optimize", "sort.lmg", "--with", "demos", "--demos.max_demos", "2", "--demos.candidates", "2")


def test_the_table_and_the_places(cli: Cli, folder: Path) -> None:
    done = cli(*OPTIMIZE)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["stage", "dev", "score", "95", "%", "interval", "calls", "seconds", "kept"]
    assert [line.split()[0] for line in lines[1:3]] == ["start", "demos"]
    for words in ("artifacts/sort-tuned", "report.md", ".lmgraph/studies/sort-demos", ".lmgraph/traces.db"):
        assert words in done.out
    assert "1-demos: " in done.err
    assert "lmgraph optimize sort.lmg --with demos" in (folder / "artifacts/sort-tuned/report.md").read_text("utf-8")
    assert json.loads(cli("eval", "artifacts/sort-tuned", "--split", "test", "--json").out)["score"] == 1.0
    assert cli("run", "artifacts/sort-tuned", "--word", "owl").out == "kind: animal\n"


def test_the_result_as_data(cli: Cli) -> None:
    done = cli(*OPTIMIZE, "--json", "--output", "tuned", "--study", "work", "--no-trace", "--dev-limit", 4)
    data = json.loads(done.out)
    assert [stage["name"] for stage in data["stages"]] == ["start", "demos"]
    assert {stage["dev"]["rows"] for stage in data["stages"]} == {4}
    assert (data["artifact"], data["report"], data["study"]) == ("tuned", "tuned/report.md", "work")
    assert (data["trace"], data["stopped"], data["resumed"]) == (None, None, False)
    for stage in data["stages"]:
        assert cli("eval", stage["program"], "--json").code == 0


def test_a_budget_stops_and_says_how_to_go_on(cli: Cli) -> None:
    done = cli(*OPTIMIZE, "--budget", "calls=20")
    assert done.code == 0
    assert "stopped early: " in done.out
    assert "same command goes on" in done.out
    again = cli(*OPTIMIZE, "--resume")  # as without it
    assert "continued an interrupted run" in again.out


def test_an_artifact_can_be_tuned_again(cli: Cli) -> None:
    assert cli(*OPTIMIZE, "--output", "tuned").code == 0
    done = cli("optimize", "tuned", "--with", "demos", "--output", "twice", "--json")
    assert json.loads(done.out)["stages"][0]["dev"]["score"] == 1.0


def start(*arguments: str, latency: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "LATENCY": str(latency)}
    # A shell without job control has its background jobs ignore Ctrl-C, and tests may run in one.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    return subprocess.Popen(
        [*LMGRAPH[:-1], heed + LMGRAPH[-1], *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def test_ctrl_c_keeps_what_was_done_and_the_same_command_resumes(cli: Cli, folder: Path) -> None:
    whole = json.loads(cli(*OPTIMIZE, "--output", "whole", "--study", "whole-study", "--json").out)
    arguments = [*OPTIMIZE, "--output", "tuned", "--study", "cut"]
    process = start(*arguments, latency=0.25)
    checkpoint = folder / "cut" / "work" / "1-demos" / "checkpoint.json"
    wait_for(checkpoint.is_file)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted. What was done is kept in cut; the same command goes on from there" in err
    assert "lmgraph optimize sort.lmg --with demos" in err
    assert "Traceback" not in err
    assert out == ""
    assert not (folder / "tuned").exists()
    kept = json.loads((folder / "cut" / "study.json").read_text("utf-8"))
    assert [stage["name"] for stage in kept["stages"]] == ["start"]
    assert kept["spent"]["calls"] > 6

    done = cli(*arguments, "--json")
    assert done.code == 0, done.err
    assert "resuming the run in cut: 0 of 1 stages are done" in done.err
    result = json.loads(done.out)
    assert result["resumed"]
    for one, other in zip(result["stages"], whole["stages"], strict=True):
        assert one["dev"]["score"] == other["dev"]["score"]
        assert one["details"] == other["details"]
    params = [(folder / name / "params.json").read_bytes() for name in ("tuned", "whole")]
    assert params[0] == params[1]


def test_ctrl_c_elsewhere_is_one_line(folder: Path) -> None:
    process = start("eval", "sort.lmg", latency=600.0)
    store = folder / ".lmgraph" / "traces.db"
    wait_for(store.is_file)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")


def test_ctrl_c_does_not_wait_for_an_engine_that_hangs(folder: Path) -> None:
    process = start("eval", "sort.lmg", "--model", "stuck", latency=600.0)
    wait_for((folder / ".lmgraph" / "traces.db").is_file)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "Interrupted.\n")


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} -c 'from lmgraph.cli.app import main; main()' run sort.lmg - | head -1"
    lines = '{"word": "plum"}\n' * 4000
    done = subprocess.run(["sh", "-c", command], input=lines, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0
    assert done.stdout.startswith('{"outputs"')
    assert done.stderr == ""
