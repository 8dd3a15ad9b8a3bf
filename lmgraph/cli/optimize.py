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
from lmgraph.cli.learned import ParamsOption
from lmgraph.cli.optimize_result import result_data, result_text
from lmgraph.cli.progress import Progress
from lmgraph.cli.stages import parse_stages
from lmgraph.errors import ConfigError

if TYPE_CHECKING:  # these would be imported by `lmgraph optimize --help`
    from lmgraph.optimize.compose import OptimizeRun
    from lmgraph.optimize.seeds import SeedsRun

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
        str | None,
        typer.Option(
            "--with",
            help='Optimizers, in order, with commas between them; "(prompt,mmgrpo)x3" runs them three times in turn.',
            metavar="NAMES",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=f"Folder of the artifact (default {ARTIFACTS}/NAME-tuned)."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="A hard stop over all stages: calls, tokens, seconds, minutes, hours, usd.",
            metavar="calls=N,minutes=N,usd=N",
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
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Run with so many seeds, from --seed on, and keep the best.")
    ] = 1,
    score_test: Annotated[
        bool, typer.Option("--score-test", help="Score the start and the result on the test rows, once, at the end.")
    ] = False,
    dev_limit: Annotated[
        int | None, typer.Option("--dev-limit", min=1, help="Compare stages on the first dev rows only.")
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option("--study", help=f"Folder that keeps the work under way (default {STUDIES}/NAME-STAGES)."),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option("--log", help="Figures to mlflow[:URI] or tensorboard[:FOLDER] as well; repeat.", metavar="PLACE"),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Begin anew, or go on, where a run was interrupted.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the installed optimizers and their options.")] = False,
    allow_effects: common.AllowEffectsOption = False,
    learned: ParamsOption = None,
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
    if not (with_names or "").strip():
        raise ConfigError(
            "No optimizer is named.", hint="for example --with demos; `lmgraph optimize --list` shows what is installed"
        )
    names = parse_stages(with_names or "")
    free = split_arguments(arguments or [])
    if len(free.positional) > 1:
        raise ConfigError(f"There is more than one program: {', '.join(free.positional)}.", hint="give one")
    options = stage_options(names, free.flags)

    from lmgraph.evaluate.task import make_task
    from lmgraph.optimize.compose import StageSpec, check_output, optimize
    from lmgraph.optimize.loggers import open_loggers
    from lmgraph.optimize.registry import make_optimizer
    from lmgraph.optimize.seeds import optimize_seeds
    from lmgraph.runtime.limits import Budget

    limits = None if budget is None else Budget.parse(budget)
    for name in dict.fromkeys(names):
        make_optimizer(name, options[name])  # a mistake in an option shows before anything is loaded
    path = common.find_program(Path(free.positional[0]) if free.positional else None)
    program = common.load_program(path, learned)
    task = make_task(program, objective)
    title = common.program_title(path, program)
    folder = study or STUDIES / f"{title}-{_short(names)}"
    target = output or ARTIFACTS / f"{title}-tuned"
    command = shlex.join(["lmgraph", *sys.argv[1:]])
    flags = common.BindingFlags(engine, model, tuple(lm or ()), dtype)
    runtime = common.make_runtime(program, path, flags, trace=None if no_trace else trace)

    async def one(number: int, progress: Progress) -> OptimizeRun:
        """The run of one seed; of several, each has a study and an artifact of its own."""
        suffix = f"-seed-{number}" if seeds > 1 else ""
        shown = _Status(progress, f"seed {number}, " if seeds > 1 else "").show
        loggers = open_loggers(log, folder.name + suffix, progress.line) if log else None
        return await optimize(
            program,
            [StageSpec(name, options[name]) for name in names],
            runtime=runtime,
            task=task,
            output=target.with_name(target.name + suffix),
            study_folder=folder.with_name(folder.name + suffix),
            budget=limits,
            seed=number,
            decoding=None if decoding is None else decoding.value,
            dev_limit=dev_limit,
            fresh=fresh,
            allow_effects=allow_effects,
            score_test=score_test,
            reuse=seeds > 1,
            command=command,
            status=shown,
            loggers=loggers,
        )

    async def work() -> OptimizeRun | SeedsRun:
        async with runtime:
            with Progress(f"optimizing {title}") as progress:
                if seeds == 1:
                    return await one(seed, progress)
                check_output(target)
                numbers = range(seed, seed + seeds)
                return await optimize_seeds(numbers, lambda number: one(number, progress), target)

    place = folder if seeds == 1 else folder.with_name(f"{folder.name}-seed-*")
    kept = f"Interrupted. What was done is kept in {place}; the same command goes on from there:\n  {command}"
    run = run_async(work(), kept)
    where = None if no_trace else trace
    if as_json:
        common.print_json(result_data(run, where))
    else:
        common.print_text(result_text(run, where, command))


def _short(names: Sequence[str]) -> str:
    """The stages as part of a folder's name."""
    shown = "-".join(names[:6])
    return shown if len(names) <= 6 else f"{shown}-and-{len(names) - 6}-more"


class _Status:
    """Shows what goes on, and leaves a line where a stage begins and where a finished one is scored."""

    def __init__(self, progress: Progress, prefix: str = "") -> None:
        self._progress = progress
        self._prefix = prefix
        self._stage = ""

    def show(self, message: str, share: float | None) -> None:
        stage = message.partition(":")[0]
        if stage.startswith(("resuming", "an unfinished run")):
            self._progress.line(self._prefix + message)
            return
        self._progress.status(self._prefix + message, share, important=stage != self._stage)
        self._stage = stage
