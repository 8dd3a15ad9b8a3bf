"""`lmgraph trace export` and `trace prune`: runs for other tools, and runs deleted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.cli import common
from lmgraph.cli.trace_store import open_store
from lmgraph.errors import ConfigError

if TYPE_CHECKING:  # these would be imported by `lmgraph trace --help`
    from lmgraph.runtime.store import TraceStore
    from lmgraph.runtime.trace import Trace

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


class Format(StrEnum):
    JSONL = "jsonl"
    OTEL = "otel"
    CHROME = "chrome"


def export_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs by their ids, or how these begin or end; else all.", metavar="[RUN]..."),
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="jsonl: a run a line, whole. otel: OpenTelemetry, an OTLP request a line. chrome: for Perfetto.",
        ),
    ] = Format.JSONL,
    phase: Annotated[str | None, typer.Option("--phase", help="Runs of one phase.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Runs of one optimize run.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="The newest runs.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.", metavar="FILE")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Write private values too, instead of masking them.")
    ] = False,
    trace: common.TraceOption = common.DEFAULT_TRACE,
) -> None:
    """Write runs for other tools. Values of private fields are masked."""
    from lmgraph.runtime import exports, otel

    store = open_store(trace)
    try:
        views = (
            exports.plain(one, {} if private else store.private_of(one.program.partition("+")[0]))
            for one in _chosen(store, runs or [], phase, study, limit)
        )
        pieces: Iterator[str]
        match form:
            case Format.JSONL:
                pieces = (line + "\n" for line in exports.json_lines(views))
            case Format.OTEL:
                pieces = (line + "\n" for line in otel.otlp_lines(views))
            case Format.CHROME:
                pieces = exports.chrome_trace(views)
        if output is None:
            for piece in pieces:
                common.print_text(piece.removesuffix("\n"))
        else:
            _write(output, pieces)
    finally:
        store.close()


def prune_command(
    keep: Annotated[int | None, typer.Option("--keep", min=0, help="The newest runs stay.")] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Only runs older than this go: 12h, 30d, 4w.", metavar="AGE")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
    trace: common.TraceOption = common.DEFAULT_TRACE,
    as_json: common.JsonFlag = False,
) -> None:
    """Delete old runs. With both bounds only runs go that are neither among the newest nor young."""
    if keep is None and older_than is None:
        raise ConfigError("Nothing says which runs go.", hint="give --keep N, or --older-than 30d, or both")
    before = None if older_than is None else time.time() - _age(older_than)
    store = open_store(trace, write=not dry_run)
    try:
        gone = store.prune(keep=keep, before=before, dry=dry_run)
    finally:
        store.close()
    if as_json:
        common.print_json({"deleted": [] if dry_run else gone, "found": gone, "trace": str(trace)})
        return
    common.print_text(
        f"{common.count(len(gone), 'run')} {'would be' if dry_run else ''} deleted from {trace}".replace("  ", " ")
    )


def _chosen(
    store: TraceStore, runs: list[str], phase: str | None, study: str | None, limit: int | None
) -> Iterator[Trace]:
    if runs and (phase or study or limit):
        raise ConfigError(
            "Runs are named, and filters are given too.", hint="leave out --phase, --study and --limit, or the runs"
        )
    if runs:
        yield from (store.find(run) for run in runs)
        return
    equal = {name: value for name, value in (("phase", phase), ("study", study)) if value is not None}
    yield from store.traces(limit=limit, **equal)


def _write(path: Path, pieces: Iterator[str]) -> None:
    """Run by run, so that memory does not grow with them."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(pieces)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}.", hint="choose a file you may write to"
        ) from None


def _age(text: str) -> float:
    """Seconds of `30d`. Raises: ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if match is None:
        raise ConfigError(
            f"--older-than has `{text}`; expected a number and s, m, h, d or w.", hint="for example --older-than 30d"
        )
    found: Any = match[2]
    return float(match[1]) * _SECONDS[found]
