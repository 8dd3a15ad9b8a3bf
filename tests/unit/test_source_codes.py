"""The catalogue of codes is complete, its examples earn their codes, and the page made from it is fresh."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from lmgraph.cli.check import check_command
from lmgraph.cli.compile import compile_command
from lmgraph.cli.explain import explain_command
from lmgraph.program import artifact
from lmgraph.source.codes import CODES

ROOT = Path(__file__).parents[2]
TOO_LONG = {"E0108", "E0109", "E0110"}
"""Their examples only stand for a text that cannot be printed."""
LATER = {"E0601", "E0602"}
"""They are reported where models and budgets are known: tests/unit/test_runtime_context.py, test_optimize_budget.py."""

app = typer.Typer()
app.command("explain")(explain_command)
app.command("check")(check_command)
app.command("compile")(compile_command)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.stdout


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diagnostics", ROOT / "docs" / "internals" / "diagnostics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def put_onto(file: Path, text: str) -> tuple[int, str]:
    """The diagnostics where parameters that were learned on the program ``text`` are put onto another one."""
    program = generator().learned(text)
    (file.parent / "adapter").mkdir()
    for name in artifact.ADAPTER_FILES:
        (file.parent / "adapter" / name).write_bytes(b"{}")
    refs = {key: replace(ref, folder=file.parent / "adapter") for key, ref in program.params.adapters.items()}
    folder = artifact.save(program.with_params(replace(program.params, adapters=refs)), file.parent / "tuned")
    options = ("--params", folder, "-o", file.parent / "new", "--format", "json")
    result = CliRunner().invoke(app, [str(one) for one in ("compile", file, *options)])
    return result.exit_code, result.stderr


def test_codes_are_unique_and_explained() -> None:
    for code, info in CODES.items():
        assert info.code == code
        assert re.fullmatch(r"[EW]\d{4}", code)
        assert info.title
        assert info.title == info.title.rstrip(".")
        assert info.explanation.endswith((".", "`"))
        assert len(info.explanation) > 20
        assert info.example
    assert list(CODES) == sorted(CODES)


@pytest.mark.parametrize("code", sorted(CODES.keys() - TOO_LONG - LATER))
def test_an_example_earns_its_code_and_no_other(code: str, tmp_path: Path) -> None:
    info = CODES[code]
    (tmp_path / "program.lmg").write_text(info.example, encoding="utf-8")
    for name, text in info.files:
        (tmp_path / name).write_text(text, encoding="utf-8")
    if info.learned is None:
        exit_code, out = run("check", tmp_path / "program.lmg", "--format", "json")
    else:
        exit_code, out = put_onto(tmp_path / "program.lmg", info.learned)
    found = json.loads(out)
    assert [one["code"] for one in found] == [code]
    assert exit_code == (1 if code.startswith("E") else 0)
    (only,) = found
    assert only["title"] == info.title
    assert only["severity"] == ("error" if code.startswith("E") else "warning")
    assert {"file", "start", "end"} <= only["primary"]["range"].keys()
    assert only["help"] or only["fix"] or only["primary"]["message"]


@pytest.mark.parametrize("code", CODES)
def test_every_code_can_be_explained(code: str) -> None:
    exit_code, out = run("explain", code.lower())
    assert exit_code == 0
    assert out.startswith(f"{code}: {CODES[code].title}\n\n{CODES[code].explanation}\n")
    for line in CODES[code].example.splitlines():
        assert f"    {line}".rstrip() in out
    assert ("with parameters that were learned on:" in out) == (CODES[code].learned is not None)
    assert json.loads(run("explain", code, "--json")[1])["code"] == code


def test_all_codes_are_listed() -> None:
    assert [line.split()[0] for line in run("explain")[1].splitlines()] == sorted(CODES)


def test_the_page_is_fresh() -> None:
    tool = generator()
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), "run: python docs/internals/diagnostics.py"
