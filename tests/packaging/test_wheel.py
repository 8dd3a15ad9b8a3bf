"""The wheel holds three packages and everything they need at run time, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "lmgraph": ROOT / "lmgraph",
    "lmgraph_optimizers": ROOT / "optimizers" / "lmgraph_optimizers",
    "lmgraph_grammar": ROOT / "grammar" / "lmgraph_grammar",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_top_level_names_are_the_three_packages(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/", 1)[0] for name in wheel.namelist()}
    (information,) = {name for name in top if name.endswith(".dist-info")}
    assert information.startswith("lmgraph-")
    assert top - {information} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_whole_and_typed(wheel: zipfile.ZipFile, package: str) -> None:
    source = PACKAGES[package]
    there = {
        f"{package}/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert packed == there
    assert f"{package}/py.typed" in packed
    assert f"{package}/__init__.py" in packed


def test_the_grammar_comes_with_its_tables(wheel: zipfile.ZipFile) -> None:
    """Without the tables every start would build them from the grammar, which takes longer than all the rest."""
    data = {name for name in wheel.namelist() if name.startswith("lmgraph_grammar/") and "/lmg." in name}
    assert "lmgraph_grammar/lmg.lark" in data
    assert len(data) > 1, "no cached tables beside the grammar"
    assert all(wheel.getinfo(name).file_size > 0 for name in data)


def test_licence_entry_points_and_extras_are_in_the_metadata(wheel: zipfile.ZipFile) -> None:
    def read(end: str) -> str:
        (name,) = [name for name in wheel.namelist() if name.endswith(end)]
        return wheel.read(name).decode()

    assert "Apache License" in read(".dist-info/licenses/LICENSE")
    metadata = read(".dist-info/METADATA")
    assert "License-Expression: Apache-2.0" in metadata
    for extra in ("local", "sglang", "optimize", "dev"):
        assert f"Provides-Extra: {extra}\n" in metadata
    entry_points = ConfigParser()
    entry_points.read_string(read(".dist-info/entry_points.txt"))
    assert entry_points["console_scripts"]["lmgraph"] == "lmgraph.cli.app:main"
    assert {"demos", "mmgrpo"} <= set(entry_points["lmgraph.optimizers"])
