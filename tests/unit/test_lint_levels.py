"""How much lints matter: `[lints]` of lmgraph.toml, for every command that compiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lmgraph
from lmgraph.compiler.compile import compile_path
from lmgraph.compiler.workspace import Workspace
from lmgraph.errors import CompileError, ConfigError
from lmgraph.source.codes import CODES
from lmgraph.source.lint_levels import LINTS, read_levels
from support.command import run_command as run

PROGRAM = """edition 1
module Ask(q: str) -> (a: str) {}
flow F(q: str, hint: str) -> (a: str) {
  spare = Ask(q=q + "!")
  return (a=Ask(q).a)
}
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.lmg"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


def set_levels(program: Path, table: str) -> None:
    (program.parent / "lmgraph.toml").write_text(f"[lints]\n{table}\n", encoding="utf-8")


def test_every_lint_has_a_name_and_no_error_has() -> None:
    # W08 is about what artifacts hold: told when one is put on a program, which no lint is about.
    lints = {code for code in CODES if code.startswith("W00")}
    assert {code for code, info in CODES.items() if info.name} == lints
    assert len(LINTS) == len(lints)
    assert all(name.replace("_", "").isalpha() and name.islower() for name in LINTS)


def test_off_and_error(program: Path) -> None:
    assert [(one.code, one.severity) for one in compile_path(program).diagnostics] == [
        ("W0002", "warning"),
        ("W0001", "warning"),
    ]
    set_levels(program, 'unused_input = "off"\nW0001 = "error"')
    compiled = compile_path(program)
    (only,) = compiled.diagnostics
    assert (only.code, only.severity, compiled.graph) == ("W0001", "error", None)
    assert only.notes == ("lmgraph.toml says that unused_value is an error",)
    with pytest.raises(CompileError, match="unused_value"):
        lmgraph.compile_file(program)
    assert Workspace().open(program).diagnostics == compiled.diagnostics


def test_a_lint_as_an_error_hides_no_other(program: Path) -> None:
    """Use is looked at only where nothing is wrong; that a lint counts as an error changes nothing there."""
    program.write_text(PROGRAM.replace("  return", '  if q == "" { }\n  return'), encoding="utf-8")
    set_levels(program, 'empty_branch = "error"')
    assert {one.code for one in compile_path(program).diagnostics} == {"W0001", "W0002", "W0008"}


@pytest.mark.parametrize("command", ["compile", "check", "test", "run", "eval", "plan"])
def test_every_command_that_compiles_reads_them(command: str, program: Path) -> None:
    set_levels(program, 'unused_value = "error"')
    code, out, err = run(command, program)
    assert code == 1
    assert "error[W0001]" in out + err


def test_as_json(program: Path) -> None:
    set_levels(program, 'unused_value = "error"\nW0002 = "off"')
    code, out, _ = run("check", program, "--json")
    (file,) = json.loads(out)
    assert (code, file["compiles"], [one["severity"] for one in file["diagnostics"]]) == (1, False, ["error"])


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ('unused_valu = "off"', "there is no such lint", "did you mean `unused_value`"),
        ('W9999 = "off"', "there is no such lint", "the lints are unused_value"),
        ('nonsense = "off"', "there is no such lint", "the lints are unused_value"),
        ('E0302 = "off"', "is no lint", "errors have no levels"),
        ('unused_value = "eror"', "is no level", "`error`"),
        ("unused_value = 1", "is no level", '"off", "warning" or "error"'),
        ('unused_value = "off"\nw0001 = "error"', "twice", "delete one"),
        ("unused_value = ", "cannot be read", "mend it"),
    ],
)
def test_what_is_refused(table: str, message: str, hint: str, program: Path) -> None:
    set_levels(program, table)
    with pytest.raises(ConfigError, match=message) as raised:
        compile_path(program)
    assert hint in (raised.value.hint or "")
    assert "lmgraph.toml" in raised.value.message


def test_a_table_is_needed(tmp_path: Path) -> None:
    (tmp_path / "lmgraph.toml").write_text('lints = "off"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="not a table"):
        read_levels(tmp_path / "lmgraph.toml")


def test_explain_takes_a_name_and_says_how_to_set_the_level() -> None:
    code, out, _ = run("explain", "Unused_Value")
    assert code == 0
    assert out.startswith("W0001: value is never used")
    assert '[lints] unused_value = "off"' in out
    assert "Did you mean unused_value?" in run("explain", "unused_vale")[2]
    assert "[lints]" not in run("explain", "E0302")[1]
