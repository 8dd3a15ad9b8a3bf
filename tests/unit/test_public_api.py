"""`import lmgraph`: cheap, the documented names, and one synchronous door."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lmgraph
from lmgraph.errors import ArtifactError, CompileError, ConfigError
from lmgraph.program import artifact
from lmgraph.testing import ScriptedEngine
from support.scripted import write_sort_program


def test_every_name_is_there() -> None:
    for name in lmgraph.__all__:
        assert getattr(lmgraph, name) is not None
    assert set(lmgraph.__all__) <= set(dir(lmgraph))
    with pytest.raises(AttributeError, match="nothing"):
        _ = lmgraph.nothing  # type: ignore[attr-defined]


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert lmgraph.__version__ == project["project"]["version"]


@pytest.mark.parametrize(
    "first", ["import lmgraph.evaluate.dataset, lmgraph.optimize.study", "lmgraph.evaluate", "lmgraph.optimize", "pass"]
)
def test_functions_are_not_hidden_by_packages_of_their_names(first: str) -> None:
    script = (
        f"import inspect, lmgraph\n{first}\nfrom lmgraph.evaluate import Task\nfrom lmgraph.optimize import Lab\n"
        "from lmgraph import evaluate, optimize\n"
        "assert all(map(inspect.iscoroutinefunction, (lmgraph.evaluate, lmgraph.optimize, evaluate, optimize)))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert importlib.import_module("lmgraph.evaluate").__name__ == "lmgraph.evaluate"


def test_importing_imports_little() -> None:
    script = "import sys, json, lmgraph; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = set(json.loads(done.stdout))
    assert not names & {"torch", "numpy", "lark", "pydantic", "typer", "rich", "asyncio", "sqlite3"}
    assert {name for name in names if name.startswith("lmgraph")} == {"lmgraph", "lmgraph.errors"}


def test_from_file_to_score_to_artifact_and_back(tmp_path: Path) -> None:
    path = write_sort_program(tmp_path)
    program = lmgraph.compile_file(path)
    assert lmgraph.load(str(path)).hash == program.hash
    folder = artifact.save(program, tmp_path / "out")
    loaded = lmgraph.load(folder)
    assert loaded.hash == program.hash

    async def score(program: lmgraph.Program) -> lmgraph.Evaluation:
        async with lmgraph.Runtime(everything=ScriptedEngine({"": "fruit"})) as runtime:
            return await lmgraph.evaluate(program, runtime=runtime, split="test")

    assert lmgraph.sync(score(loaded)).score == lmgraph.sync(score(program)).score


def test_errors_are_lmgraph_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        lmgraph.load(tmp_path / "missing.lmg")
    with pytest.raises(ArtifactError):
        lmgraph.load(tmp_path)
    (tmp_path / "bad.lmg").write_text("edition 1\nflow F(x: str) -> (y: str) { return (y=z) }\n", encoding="utf-8")
    with pytest.raises(CompileError) as caught:
        lmgraph.compile_file(tmp_path / "bad.lmg")
    assert caught.value.diagnostics


async def test_sync_inside_a_loop_says_so() -> None:
    async def nothing() -> None: ...

    with pytest.raises(RuntimeError, match="without an event loop"):
        lmgraph.sync(nothing())
