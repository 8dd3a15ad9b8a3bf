"""`lmgraph check`: the diagnostics of programs, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmgraph.cli import common
from lmgraph.cli.compile import DiagnosticFormat, FormatOption, print_diagnostics
from lmgraph.cli.fmt import program_files


def check_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help=f"Programs, or folders of them; else `program` of {common.SETTINGS_FILE}.",
            metavar="[FILE]",
            show_default=False,
        ),
    ] = None,
    format: FormatOption = DiagnosticFormat.text,
) -> None:
    """Report every problem of the programs. Exits 1 where there is an error."""
    from lmgraph.compiler.compile import compile_path

    failed = False
    for path in paths or [common.find_program(None)]:
        for file in program_files(path):
            compilation = compile_path(file)
            failed = failed or compilation.graph is None
            print_diagnostics(compilation, format, to_stderr=False)
            if format is DiagnosticFormat.text and not compilation.diagnostics:
                common.print_text(f"{file}: no problems")
    if failed:
        raise typer.Exit(1)
