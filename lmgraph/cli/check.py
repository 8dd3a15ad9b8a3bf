"""`lmgraph check`: the diagnostics of programs, and with `--fix` what can be mended without changing what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.cli import common
from lmgraph.cli.compile import DiagnosticFormat, FormatOption, print_diagnostics
from lmgraph.cli.fmt import program_files, replace_file

if TYPE_CHECKING:
    from lmgraph.compiler.compile import Compilation
    from lmgraph.compiler.fix import Fixed
    from lmgraph.source.text import Source


def check_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help=f"Programs, or folders of them; else `program` of {common.SETTINGS_FILE}.",
            metavar="[FILE]",
            show_default=False,
        ),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Rewrite the files without what nothing in them uses.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Print what --fix would change, and change nothing.")] = False,
    format: FormatOption = DiagnosticFormat.text,
    as_json: common.JsonFlag = False,
) -> None:
    """Report every problem of the programs. Exits 1 where there is an error, or --diff shows a change.

    How much a lint matters is said in lmgraph.toml: [lints] unused_value = "off", "warning" or "error".
    """
    from lmgraph.compiler.compile import compile_path

    failed = False
    results: list[dict[str, Any]] = []
    for path in paths or [common.find_program(None)]:
        for file in program_files(path):
            common.read_settings(file.parent)
            fixed = _fixed(file, write=not diff) if fix or diff else None
            compilation = compile_path(file) if fixed is None or diff else fixed.compilation
            failed = failed or compilation.graph is None or (diff and fixed is not None and bool(fixed.applied))
            if as_json:
                results.append(_data(file, compilation, fixed))
            elif diff and fixed is not None:
                _print_diff(compilation.sources[str(file)], fixed.source)
            else:
                _print(file, compilation, fixed, format)
    if as_json:
        common.print_json(results)
    if failed:
        raise typer.Exit(1)


def _fixed(file: Path, *, write: bool) -> Fixed:
    """Raises: ConfigError where the file cannot be read or written."""
    from lmgraph.compiler.fix import fix_program
    from lmgraph.source.lint_levels import levels_of
    from lmgraph.source.reading import read_source

    source = read_source(file)
    fixed = fix_program(source, root=file.parent, levels=levels_of(file))
    if write and fixed.source.text != source.text:
        mark = b"\xef\xbb\xbf" if file.read_bytes().startswith(b"\xef\xbb\xbf") else b""
        replace_file(file, mark + fixed.source.text.encode("utf-8"))
    return fixed


def _print(file: Path, compilation: Compilation, fixed: Fixed | None, format: DiagnosticFormat) -> None:
    print_diagnostics(compilation, format, to_stderr=False)
    if format is not DiagnosticFormat.text:
        return
    if fixed is not None and fixed.applied:
        common.print_text(f"{file}: fixed {common.count(len(fixed.applied), 'problem')}")
    if not compilation.diagnostics:
        common.print_text(f"{file}: no problems")


def _print_diff(before: Source, after: Source) -> None:
    from difflib import unified_diff

    old, new = before.text.splitlines(), after.text.splitlines()
    for line in unified_diff(old, new, before.name, after.name, lineterm=""):
        common.print_text(line)


def _data(file: Path, compilation: Compilation, fixed: Fixed | None) -> dict[str, Any]:
    from lmgraph.source.render import to_json

    mended = fixed.applied if fixed is not None else ()
    return {
        "file": str(file),
        "compiles": compilation.graph is not None,
        "diagnostics": to_json(compilation.diagnostics, compilation.sources),
        "fixed": [{"code": one.code, "message": one.primary.message} for one in mended],
    }
