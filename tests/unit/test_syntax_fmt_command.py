"""`lmgraph fmt`: files in place, whole at every moment, and standard input."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lmgraph.cli.fmt import fmt, format_files
from lmgraph.errors import CompileError, ConfigError

LOOSE, CANONICAL, BROKEN = "lm a {b:1}  # c\n", "lm a { b: 1 }  # c\n", "lm a { b }\n"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(fmt)
    return app


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    (tmp_path / "broken.lmg").write_text(BROKEN)
    (tmp_path / "canonical.lmg").write_text(CANONICAL)
    (tmp_path / "loose.lmg").write_text(LOOSE)
    return tmp_path


def test_files_are_formatted_in_place_and_broken_ones_left(app: typer.Typer, programs: Path) -> None:
    result = CliRunner().invoke(app, [str(programs)])
    assert result.exit_code == 1
    assert files(programs) == {"broken.lmg": BROKEN, "canonical.lmg": CANONICAL, "loose.lmg": CANONICAL}
    assert f"formatted {programs / 'loose.lmg'}" in result.output
    assert "E0101" in result.output
    assert "3 files: 1 formatted, 1 already canonical, 1 left alone because of errors" in result.output


def test_check_lists_and_changes_nothing(app: typer.Typer, programs: Path) -> None:
    (programs / "broken.lmg").unlink()
    before = files(programs)
    result = CliRunner().invoke(app, ["--check", str(programs)])
    assert result.exit_code == 1
    assert f"would change {programs / 'loose.lmg'}" in result.stdout
    assert "canonical.lmg" not in result.stdout
    assert files(programs) == before
    assert CliRunner().invoke(app, ["--check", str(programs / "canonical.lmg")]).exit_code == 0


def test_standard_input(app: typer.Typer) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["-"], input=LOOSE).stdout == CANONICAL
    assert runner.invoke(app, ["--check", "-"], input=LOOSE).exit_code == 1
    assert runner.invoke(app, ["--check", "-"], input=CANONICAL).exit_code == 0
    broken = runner.invoke(app, ["-"], input=BROKEN)
    assert broken.exit_code == 1
    assert "E0101" in broken.stderr
    assert broken.stdout == ""
    assert runner.invoke(app, ["-"], input=b"\xff").exit_code == 1
    assert runner.invoke(app, ["-", "x.lmg"], input=LOOSE).exit_code == 2


def test_missing_and_empty(app: typer.Typer, tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, [str(tmp_path / "none.lmg")])
    assert missing.exit_code == 1
    assert "there is no such file" in missing.output
    empty = CliRunner().invoke(app, [str(tmp_path)])
    assert empty.exit_code == 1
    assert "no .lmg file" in empty.output


def test_outcome(programs: Path) -> None:
    outcome = format_files([programs / "broken.lmg", programs / "loose.lmg", programs / "none.lmg"])
    assert outcome.changed == [programs / "loose.lmg"]
    assert [type(error) for _, error in outcome.failed] == [CompileError, ConfigError]


def test_a_write_that_fails_leaves_the_file_and_no_litter(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    before = files(programs)
    outcome = format_files([programs / "loose.lmg"])
    assert "cannot be written" in str(outcome.failed[0][1])
    assert files(programs) == before


def test_links_and_permissions_stay(programs: Path) -> None:
    loose, link = programs / "loose.lmg", programs / "link.lmg"
    loose.chmod(0o640)
    link.symlink_to(loose)
    format_files([link])
    assert link.is_symlink()
    assert loose.read_text() == CANONICAL
    assert loose.stat().st_mode & 0o777 == 0o640
