"""`lmgraph eval`: a program's score on a split, with its interval, its failures and what it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.cli import common
from lmgraph.cli.interrupt import run_async
from lmgraph.cli.learned import ParamsOption
from lmgraph.cli.progress import Progress
from lmgraph.errors import ConfigError

if TYPE_CHECKING:  # these would be imported by `lmgraph eval --help`
    from lmgraph.evaluate.evaluate import Evaluation, RowResult
    from lmgraph.evaluate.rollout import Rollout

SHOWN_ROWS = 3

app = typer.Typer(add_completion=False)


@app.command("eval")
def eval_command(
    program: common.ProgramArgument = None,
    split: Annotated[str, typer.Option("--split", help="The rows to score.")] = "dev",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Score only the first rows.")] = None,
    decoding: common.DecodingOption = common.DecodingChoice.CONSTRAINED,
    data: Annotated[
        Path | None, typer.Option("--data", help="Rows (.jsonl or .csv) in place of the dataset's own.", metavar="FILE")
    ] = None,
    objective: Annotated[str | None, typer.Option("--objective", help="Which of several objectives.")] = None,
    seed: common.SeedOption = 0,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Write one result a row to this JSON Lines file.", metavar="FILE")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write what --json prints to this file.", metavar="FILE")
    ] = None,
    allow_effects: common.AllowEffectsOption = False,
    learned: ParamsOption = None,
    engine: common.EngineOption = None,
    model: common.ModelOption = None,
    lm: common.LmOption = None,
    dtype: common.DtypeOption = None,
    trace: common.TraceOption = common.DEFAULT_TRACE,
    no_trace: common.NoTraceOption = False,
    cache: common.CacheOption = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Take rows that were scored before, under the same settings, from the trace."),
    ] = False,
    as_json: common.JsonFlag = False,
) -> None:
    """Score a program on a split of its objective's data."""
    path = common.find_program(program)
    loaded = common.load_program(path, learned)

    from lmgraph.evaluate.evaluate import evaluate
    from lmgraph.evaluate.task import make_task

    task = make_task(loaded, objective, data=data)
    total = len(task.split(split)[:limit])
    if resume and no_trace:
        raise ConfigError("--resume reads the trace, and --no-trace keeps none.", hint="leave out one of them")
    for file in (rows, output):
        if file is not None:
            common.check_writable(file)
    flags = common.BindingFlags(engine, model, tuple(lm or ()), dtype)
    runtime = common.make_runtime(loaded, path, flags, trace=None if no_trace else trace, cache=cache)

    running: _Running | None = None

    async def score() -> Evaluation:
        async with runtime:
            with Progress(f"{split} rows", total) as progress:
                nonlocal running
                running = _Running(progress)
                return await evaluate(
                    loaded,
                    runtime=runtime,
                    task=task,
                    split=split,
                    limit=limit,
                    decoding=decoding.value,
                    seed=seed,
                    allow_effects=allow_effects,
                    resume=resume,
                    progress=running.add,
                )

    evaluation = run_async(score())
    hits = None if runtime.cache is None else runtime.cache.hits
    resumed = 0 if running is None else running.resumed
    result = {
        **evaluation.to_data(),
        "cached_calls": hits,
        "resumed_rows": resumed,
        "trace": None if no_trace else str(trace),
    }
    if rows is not None:
        lines = [json.dumps(row) for row in result["results"]]
        common.write_file(rows, "\n".join(lines) + "\n")
    if output is not None:
        common.write_file(output, json.dumps(result, indent=2) + "\n")
    if as_json:
        common.print_json(result)
    else:
        common.print_text(_summary(evaluation, None if no_trace else trace, hits, resumed))


class _Running:
    """The mean so far."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.resumed = 0
        self._done = 0
        self._sum = 0.0

    def add(self, rollout: Rollout) -> None:
        self._done += 1
        self.resumed += rollout.resumed
        self._sum += rollout.score.value
        self._progress.rows(self._done, f"score {self._sum / self._done:.3f}")


def _summary(evaluation: Evaluation, trace: Path | None, hits: int | None, resumed: int) -> str:
    interval = evaluation.interval
    failed = sum(evaluation.failures.values())
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(evaluation.failures.items()))
    lines = [
        f"score     {interval.mean:.3f}  [{interval.low:.3f}, {interval.high:.3f}]  95 % interval,"
        f" {common.count(len(evaluation.rows), 'row')} of {evaluation.split}, {evaluation.decoding}",
        f"failures  {failed}" + (f"  ({kinds})" if kinds else ""),
        f"calls     {evaluation.calls:,}  ({evaluation.prompt_tokens:,} prompt tokens,"
        f" {evaluation.completion_tokens:,} completion tokens)",
        f"seconds   {evaluation.seconds:.1f}",
    ]
    if evaluation.judge_calls or evaluation.failed_metrics:
        unusable = ", ".join(f"{metric} {number}" for metric, number in sorted(evaluation.failed_metrics.items()))
        told = f"  (nothing usable for {unusable})" if unusable else ""
        lines.append(f"judges    {common.count(evaluation.judge_calls, 'call')}{told}")
    if hits is not None:
        lines.append(f"cache     {common.count(hits, 'call')} answered from {common.DEFAULT_CACHE}")
    if resumed:
        lines.append(f"resumed   {common.count(resumed, 'row')} scored before")
    if trace is not None:
        lines.append(f"trace     {trace}")
    lowest = sorted((row for row in evaluation.rows if _is_low(row, evaluation)), key=lambda row: row.score)
    if lowest:
        lines += ["", f"lowest rows (`--rows FILE` writes all {len(evaluation.rows)}):"]
        lines += [f"  {_row(row)}" for row in lowest[:SHOWN_ROWS]]
    return "\n".join(lines)


def _is_low(row: RowResult, evaluation: Evaluation) -> bool:
    failed = row.failure is not None or bool(row.failed_metrics)
    return failed or row.score < max(one.score for one in evaluation.rows) or row.score <= 0


def _row(row: RowResult) -> str:
    from lmgraph.runtime.trace import short_id

    problem = row.failure or next(iter(row.failed_metrics.values()), None)
    result: Any = problem if problem is not None else json.dumps(row.outputs, ensure_ascii=False)
    text = result if len(result) <= 100 else result[:99] + "…"
    return f"{row.example}  {row.score:.3f}  {text}  (run {short_id(row.run_id)})"
