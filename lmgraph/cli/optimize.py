"""`lmgraph optimize`: stages of optimizers on a program, resumable, with an artifact and a report at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from lmgraph.cli import common
from lmgraph.cli.flags import FREE_FLAGS, split_arguments
from lmgraph.cli.installed import describe_optimizers, installed_optimizers, stage_options
from lmgraph.cli.interrupt import run_async
from lmgraph.cli.progress import Progress
from lmgraph.errors import ConfigError

if TYPE_CHECKING:  # these would be imported by `lmgraph optimize --help`
    from lmgraph.optimize.compose import OptimizeRun
    from lmgraph.optimize.records import StageRecord

ARTIFACTS = Path("artifacts")
STUDIES = Path(".lmgraph") / "studies"

app = typer.Typer(add_completion=False)


class _WithOptimizers(TyperCommand):
    """Its help ends with what is installed."""

    def get_help(self, ctx: Any) -> str:
        return f"{super().get_help(ctx)}\n{describe_optimizers(installed_optimizers())}"


@app.command("optimize", cls=_WithOptimizers, context_settings=FREE_FLAGS)
def optimize_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="A .lmg file or an artifact folder, else `program` of lmgraph.toml. Options of an optimizer are"
            " flags that begin with its name: --demos.max_demos 4",
            metavar="[PROGRAM] [--OPTIMIZER.OPTION VALUE]...",
            show_default=False,
        ),
    ] = None,
    with_names: Annotated[
        str | None, typer.Option("--with", help="Optimizers, in order, with commas between them.", metavar="NAMES")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=f"Folder of the artifact (default {ARTIFACTS}/NAME-tuned)."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="A hard stop: calls, tokens, seconds, minutes, hours.",
            metavar="calls=N,minutes=N",
        ),
    ] = None,
    objective: Annotated[str | None, typer.Option("--objective", help="Which of several objectives.")] = None,
    decoding: Annotated[
        common.DecodingChoice | None,
        typer.Option(
            "--decoding",
            help="How stages are compared (default: strict where one trains weights, else constrained).",
        ),
    ] = None,
    seed: common.SeedOption = 0,
    dev_limit: Annotated[
        int | None, typer.Option("--dev-limit", min=1, help="Compare stages on the first dev rows only.")
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option("--study", help=f"Folder that keeps the work under way (default {STUDIES}/NAME-STAGES)."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew where a run was interrupted.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the installed optimizers and their options.")] = False,
    allow_effects: common.AllowEffectsOption = False,
    engine: common.EngineOption = None,
    model: common.ModelOption = None,
    lm: common.LmOption = None,
    dtype: common.DtypeOption = None,
    trace: common.TraceOption = common.DEFAULT_TRACE,
    no_trace: common.NoTraceOption = False,
    as_json: common.JsonFlag = False,
) -> None:
    """Improve a program on its data: each optimizer starts from the best program so far."""
    if listing:
        found = installed_optimizers()
        common.print_json([entry.to_data() for entry in found]) if as_json else common.print_text(
            describe_optimizers(found)
        )
        return
    names = [name.strip() for name in (with_names or "").split(",") if name.strip()]
    if not names:
        raise ConfigError(
            "No optimizer is named.", hint="for example --with demos; `lmgraph optimize --list` shows what is installed"
        )
    free = split_arguments(arguments or [])
    if len(free.positional) > 1:
        raise ConfigError(f"There is more than one program: {', '.join(free.positional)}.", hint="give one")
    options = stage_options(names, free.flags)

    from lmgraph.evaluate.task import make_task
    from lmgraph.optimize.compose import StageSpec, optimize
    from lmgraph.optimize.registry import make_optimizer
    from lmgraph.runtime.limits import Budget

    limits = None if budget is None else Budget.parse(budget)
    for name in names:
        make_optimizer(name, options[name])  # a mistake in an option shows before anything is loaded
    path = common.find_program(Path(free.positional[0]) if free.positional else None)
    program = common.load_program(path)
    task = make_task(program, objective)
    title = common.program_title(path, program)
    folder = study or STUDIES / f"{title}-{'-'.join(names)}"
    target = output or ARTIFACTS / f"{title}-tuned"
    command = shlex.join(["lmgraph", *sys.argv[1:]])
    flags = common.BindingFlags(engine, model, tuple(lm or ()), dtype)
    runtime = common.make_runtime(program, path, flags, trace=None if no_trace else trace)

    async def work() -> OptimizeRun:
        async with runtime:
            with Progress(f"optimizing {title}") as progress:
                return await optimize(
                    program,
                    [StageSpec(name, options[name]) for name in names],
                    runtime=runtime,
                    task=task,
                    output=target,
                    study_folder=folder,
                    budget=limits,
                    seed=seed,
                    decoding=None if decoding is None else decoding.value,
                    dev_limit=dev_limit,
                    fresh=fresh,
                    allow_effects=allow_effects,
                    command=command,
                    status=_Status(progress).show,
                )

    kept = f"Interrupted. What was done is kept in {folder}; the same command goes on from there:\n  {command}"
    run = run_async(work(), kept)
    where = None if no_trace else trace
    if as_json:
        common.print_json(_data(run, where))
    else:
        common.print_text(_summary(run, where, command))


class _Status:
    """Shows what goes on, and leaves a line where a stage begins and where a finished one is scored."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage = ""

    def show(self, message: str, share: float | None) -> None:
        stage = message.partition(":")[0]
        if stage.startswith(("resuming", "an unfinished run")):
            self._progress.line(message)
            return
        self._progress.status(message, share, important=stage != self._stage)
        self._stage = stage


def _data(run: OptimizeRun, trace: Path | None) -> dict[str, Any]:
    from lmgraph.optimize.records import record_data

    stages = []
    for record in run.stages:
        data = record_data(record)
        stages.append({**data, "program": data.pop("artifact")})
    return {
        "stages": stages,
        "artifact": str(run.artifact),
        "report": str(run.report),
        "study": str(run.study),
        "trace": None if trace is None else str(trace),
        "stopped": run.stopped,
        "resumed": run.resumed,
    }


def _summary(run: OptimizeRun, trace: Path | None, command: str) -> str:
    lines = ["This continued an interrupted run.", ""] if run.resumed else []
    lines += [_table(run.stages), ""]
    if run.stopped is not None:
        lines += [f"stopped early: {run.stopped} With a larger budget the same command goes on:", f"  {command}", ""]
    lines += [f"artifact  {run.artifact}", f"report    {run.report}", f"study     {run.study}"]
    if trace is not None:
        lines.append(f"trace     {trace}")
    return "\n".join(lines)


def _table(records: Sequence[StageRecord]) -> str:
    rows = [("stage", "dev score", "95 % interval", "calls", "seconds", "kept")]
    for record in records:
        dev = record.dev
        rows.append(
            (
                record.name,
                f"{dev['score']:.3f}",
                f"[{dev['low']:.3f}, {dev['high']:.3f}]",
                f"{record.calls:,}",
                f"{record.seconds:.0f}",
                "yes" if record.kept else "no",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
