"""`lmgraph` inside this process, without fixtures."""

from __future__ import annotations

from typer.testing import CliRunner

from lmgraph.cli.app import app


def run_command(*arguments: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)"""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.stdout, result.stderr
