"""A third party's optimizer: built by its own pyproject, installed by pip, found by name, held to the contract."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.scripted import write_distribution, write_engine_plugin, write_sort_program

SOURCE = Path(__file__).parent / "shuffle_demos"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the package into, with a scripted engine beside it."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "shuffle_demos"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--no-index", "--target", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return write_engine_plugin(folder)


def lmgraph(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from lmgraph.cli.app import main; main()", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_it_is_listed_with_its_options(installed: Path, tmp_path: Path) -> None:
    listed = lmgraph(installed, tmp_path, "optimize", "--list", "--json")
    assert listed.returncode == 0, listed.stderr
    (entry,) = [one for one in json.loads(listed.stdout) if one["name"] == "shuffle"]
    assert entry["distribution"] == "shuffle-demos"
    options = {option["name"]: option for option in entry["options"]}
    assert options["shuffle.demos"]["default"] == "2"
    assert options["shuffle.orders"]["description"] == "orders that are tried"
    helped = lmgraph(installed, tmp_path, "optimize", "--help")
    assert "--shuffle.demos" in helped.stdout
    assert "--with" in helped.stdout


def test_it_optimizes_by_name(installed: Path, tmp_path: Path) -> None:
    program = write_sort_program(tmp_path)
    arguments = ("optimize", str(program), "--with", "shuffle", "--shuffle.demos", "3", "--engine", "words")
    done = lmgraph(installed, tmp_path, *arguments, "--output", "tuned", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [stage["name"] for stage in result["stages"]] == ["start", "shuffle"]
    assert result["stages"][1]["options"] == {"demos": 3, "orders": 3}
    assert result["stages"][1]["dev"]["score"] == 1.0
    assert result["stages"][1]["kept"]
    scored = lmgraph(installed, tmp_path, "eval", "tuned", "--split", "test", "--engine", "words", "--json")
    assert json.loads(scored.stdout)["score"] == 1.0


def test_it_keeps_the_contract(installed: Path, tmp_path: Path) -> None:
    script = (
        "import asyncio; from lmgraph.testing import check_optimizer; from shuffle_demos import ShuffleDemos\n"
        "asyncio.run(check_optimizer(ShuffleDemos, {'demos': 2}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_second_claim_on_its_name_is_an_error(installed: Path, tmp_path: Path) -> None:
    rival = write_distribution(
        tmp_path / "rival", "rival-demos", "rival", "class Rival: ...", "lmgraph.optimizers", {"shuffle": "rival:Rival"}
    )
    both = Path(f"{installed}{os.pathsep}{rival}")
    program = write_sort_program(tmp_path)
    for arguments in (("--with", "shuffle", str(program), "--engine", "words"), ("--list",), ("--help",)):
        done = lmgraph(both, tmp_path, "optimize", *arguments)
        assert done.returncode == 1, arguments
        assert "Two optimizers are named `shuffle`" in done.stderr
        assert "shuffle-demos" in done.stderr
        assert "rival-demos" in done.stderr
        assert "Traceback" not in done.stderr
