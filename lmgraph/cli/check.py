"""`lmgraph check`: the diagnostics of a program, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmgraph.cli.compile import DiagnosticFormat, FormatOption, print_diagnostics


def check_command(
    files: Annotated[list[Path], typer.Argument(help="The programs.", metavar="FILE...")],
    format: FormatOption = DiagnosticFormat.text,
) -> None:
    """Report every problem of the programs. Exits 1 where there is an error."""
    from lmgraph.compiler.compile import compile_path

    failed = False
    for file in files:
        compilation = compile_path(file)
        failed = failed or compilation.graph is None
        print_diagnostics(compilation, format, to_stderr=False)
        if format is DiagnosticFormat.text and not compilation.diagnostics:
            print(f"{file}: no problems")
    if failed:
        raise typer.Exit(1)
