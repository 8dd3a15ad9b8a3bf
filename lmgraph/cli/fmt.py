"""`lmgraph fmt`: put programs into the canonical layout. Reading and writing only; the layout is syntax/format.py's."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from lmgraph.errors import CompileError, ConfigError, LmgraphError
from lmgraph.source.reading import read_source
from lmgraph.source.text import Source

STANDARD_INPUT = Path("-")


@dataclass(slots=True)
class FormatOutcome:
    """What became of each file."""

    changed: list[Path] = field(default_factory=list[Path])
    """Rewritten, or with ``check`` what would be."""
    unchanged: list[Path] = field(default_factory=list[Path])
    failed: list[tuple[Path, LmgraphError]] = field(default_factory=list[tuple[Path, LmgraphError]])
    """Left as they were, and why."""


def fmt(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Programs to format; a folder stands for every .lmg file in it; - reads standard input."),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; list the files that would change and exit 1 if any.")
    ] = False,
) -> None:
    """Put programs into the canonical layout.

    Comments and meaning stay as they are. A file with a syntax error is left alone and reported.
    """
    if STANDARD_INPUT in paths:
        raise typer.Exit(_format_standard_input(paths, check))
    outcome = format_files(paths, check=check)
    for path, error in outcome.failed:
        typer.echo(_shown(path, error), err=True)
    for path in outcome.changed:
        typer.echo(f"would change {path}" if check else f"formatted {path}")
    total = len(outcome.changed) + len(outcome.unchanged)
    typer.echo(_summary(outcome, check, total), err=True)
    if outcome.failed or (check and outcome.changed):
        raise typer.Exit(1)


def format_files(paths: list[Path], *, check: bool = False) -> FormatOutcome:
    """Format every file; one that fails is left as it is and does not keep the others from being formatted."""
    outcome = FormatOutcome()
    for path in paths:
        try:
            files = program_files(path)
        except ConfigError as error:
            outcome.failed.append((path, error))
            continue
        for file in files:
            try:
                changed = _format_file(file, check)
            except LmgraphError as error:
                outcome.failed.append((file, error))
            else:
                (outcome.changed if changed else outcome.unchanged).append(file)
    return outcome


def program_files(path: Path) -> list[Path]:
    """The file itself, or every .lmg file in the folder. Raises: ConfigError where it has none."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*.lmg") if file.is_file())
    if not found:
        raise ConfigError(f"{path}: there is no .lmg file in this folder", hint="name a program or another folder")
    return found


def _format_file(path: Path, check: bool) -> bool:
    from lmgraph.syntax.format import format_source

    source = read_source(path)
    formatted = format_source(source)
    data = formatted.encode("utf-8")
    if data == path.read_bytes():
        return False
    if not check:
        replace_file(path, data)
    return True


def replace_file(path: Path, data: bytes) -> None:
    """Write beside the file and move over it, so that the file is whole at every moment. A link stays a link.

    Raises: ConfigError.
    """
    target = path.resolve()
    temporary: str | None = None
    try:
        mode = target.stat().st_mode
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode & 0o7777)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise ConfigError(
            f"{path}: the new text cannot be written: {error.strerror or error}; the file is as it was",
            hint="check the permissions of the file's folder and the room on its disk",
        ) from None


def _format_standard_input(paths: list[Path], check: bool) -> int:
    if len(paths) > 1:
        typer.echo("error: - (standard input) stands alone\n  next: format files in a call of their own", err=True)
        return 2
    from lmgraph.syntax.format import format_source

    data = sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        typer.echo(
            f"error: standard input is not UTF-8 text: byte {error.start + 1}\n  next: save it as UTF-8", err=True
        )
        return 1
    try:
        formatted = format_source(Source("<stdin>", text))
    except LmgraphError as error:
        typer.echo(_shown(STANDARD_INPUT, error), err=True)
        return 1
    changes = formatted.encode("utf-8") != data
    if check:
        typer.echo("standard input would change" if changes else "standard input is formatted", err=True)
        return 1 if changes else 0
    sys.stdout.buffer.write(formatted.encode("utf-8"))
    sys.stdout.buffer.flush()
    return 0


def _shown(path: Path, error: LmgraphError) -> str:
    return str(error).rstrip() if isinstance(error, CompileError) else f"error: {error}"


def _summary(outcome: FormatOutcome, check: bool, total: int) -> str:
    verb = "would change" if check else "formatted"
    parts = [f"{len(outcome.changed)} {verb}", f"{len(outcome.unchanged)} already canonical"]
    if outcome.failed:
        parts.append(f"{len(outcome.failed)} left alone because of errors")
    return f"{total + len(outcome.failed)} file{'s' if total + len(outcome.failed) != 1 else ''}: {', '.join(parts)}"
