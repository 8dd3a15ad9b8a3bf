"""`lmgraph compile` and `lmgraph check`: what goes where, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lmgraph.cli.check import check_command
from lmgraph.cli.compile import compile_command
from lmgraph.graph.dump import load
from lmgraph.program.artifact import load as load_artifact

app = typer.Typer()
app.command("compile")(compile_command)
app.command("check")(check_command)


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.lmg"
    path.write_text("record Row { team: Tema }\nenum Team { billing }\n", encoding="utf-8")
    return path


def test_json_is_a_graph_that_loads(samples: Path) -> None:
    code, out, err = run("compile", samples / "hello.lmg")
    assert (code, err) == (0, "")
    assert load(out).entry == "Answer"


@pytest.mark.parametrize(("emit", "start"), [("text", "graph hello"), ("mermaid", "flowchart TD"), ("dot", "digraph")])
def test_drawings(samples: Path, emit: str, start: str) -> None:
    code, out, _ = run("compile", samples / "hello.lmg", "--emit", emit)
    assert code == 0
    assert out.startswith(start)


def test_warnings_go_to_stderr(samples: Path) -> None:
    code, out, err = run("compile", samples / "banking77.lmg")
    assert code == 0
    assert load(out).name == "banking77"
    assert "warning[W0005]" in err


def test_errors_go_to_stderr_and_end_with_1(broken: Path) -> None:
    code, out, err = run("compile", broken)
    assert (code, out) == (1, "")
    assert "error[E0201]" in err
    assert "Team" in err


def test_errors_as_json(broken: Path) -> None:
    code, out, err = run("compile", broken, "--format", "json")
    assert (code, out) == (1, "")
    (problem,) = json.loads(err)
    assert (problem["code"], problem["primary"]["range"]["start"]["column"]) == ("E0201", 20)
    assert problem["fix"]["replacement"] == "Team"


def test_an_artifact_is_written(samples: Path, tmp_path: Path) -> None:
    code, out, _ = run("compile", samples / "hello.lmg", "-o", tmp_path / "artifact")
    assert code == 0
    assert Path(out.strip()) == tmp_path / "artifact"
    assert load_artifact(tmp_path / "artifact").graph.name == "hello"


def test_check_tells_of_every_file(samples: Path, broken: Path) -> None:
    code, out, _ = run("check", samples / "hello.lmg", broken)
    assert code == 1
    assert "hello.lmg: no problems" in out
    assert "1 error" in out
    code, out, _ = run("check", samples / "hello.lmg", "--format", "json")
    assert (code, json.loads(out)) == (0, [])
