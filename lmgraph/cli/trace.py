"""`lmgraph trace`: the runs that a store holds, and one run call by call; its other commands are in other modules."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lmgraph.cli import common, trace_export, trace_replay, trace_text
from lmgraph.cli.trace_store import open_store
from lmgraph.errors import LmgraphError

if TYPE_CHECKING:  # these would be imported by `lmgraph trace --help`
    from lmgraph.runtime.engine import Tokenizer
    from lmgraph.runtime.trace import Call

app = typer.Typer(
    name="trace",
    help="List, show, compare, replay, export and prune recorded runs.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("list")
def list_command(
    phase: Annotated[str | None, typer.Option("--phase", help="run, eval, 1-demos/bootstrap, dev/dev, ...")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Runs of one optimize run.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest runs.")] = 20,
    trace: common.TraceOption = common.DEFAULT_TRACE,
    as_json: common.JsonFlag = False,
) -> None:
    """List the newest runs."""
    from lmgraph.runtime.trace import short_id

    equal = {name: value for name, value in (("phase", phase), ("study", study)) if value is not None}
    store = open_store(trace)
    try:
        runs = store.list_runs(limit=limit, **equal)
    finally:
        store.close()
    if as_json:
        common.print_json(runs)
        return
    rows = [("run", "when", "flow", "phase", "example", "calls", "seconds", "reward", "result")]
    for run in runs:
        reward = "" if run["reward"] is None else f"{run['reward']:.3f}"
        failure = run["failure"]
        result = f"{failure['kind']} failure" if failure else json.dumps(run["outputs"], ensure_ascii=False)
        if run["damaged"]:
            result = "damaged on disk"
        rows.append(
            (
                short_id(run["run_id"]),
                datetime.fromtimestamp(run["started"]).strftime("%m-%d %H:%M:%S"),
                run["flow"],
                run["phase"],
                f"{run['example']}{'#' + str(run['rollout']) if run['rollout'] else ''}",
                str(run["calls"]),
                f"{run['seconds']:.2f}",
                reward,
                result if len(result) <= 60 else result[:59] + "…",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        common.print_text(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(),
        )
    if not runs:
        common.print_text(f"{trace} has no such run.")


@app.command("show")
def show_command(
    run: Annotated[str, typer.Argument(help="The run's id, or how it begins or ends.", metavar="RUN")],
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Every sampled token with its id and log-probability.")
    ] = False,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="The prompts too; their model must be pulled to decode them.")
    ] = False,
    trace: common.TraceOption = common.DEFAULT_TRACE,
    as_json: common.JsonFlag = False,
) -> None:
    """Show one run call by call."""
    store = open_store(trace)
    try:
        found = store.find(run)
    finally:
        store.close()
    if as_json:
        common.print_json(asdict(found))
        return
    tokenizers = _Tokenizers() if prompts or tokens else None
    common.print_text(trace_text.run_text(found))
    for call in found.calls:
        tokenizer = tokenizers.of(call) if tokenizers else None
        common.print_text("\n" + trace_text.call_text(call, tokenizer, prompts=prompts, tokens=tokens))
    for step in found.steps:
        common.print_text("\n" + trace_text.step_text(step))
    if found.checks:
        common.print_text("\nchecks\n" + "\n".join(trace_text.check_text(check, where=True) for check in found.checks))
    for call in found.judged:
        tokenizer = tokenizers.of(call) if tokenizers else None
        common.print_text("\njudged\n" + trace_text.call_text(call, tokenizer, prompts=prompts, tokens=tokens))


class _Tokenizers:
    """Tokenizers of the models that are at hand on this machine; for the others ids stay ids."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Tokenizer | None] = {}

    def of(self, call: Call) -> Tokenizer | None:
        key = (call.engine, call.model)
        if key not in self._known:
            self._known[key] = _load_tokenizer(call.model) if call.engine == "local" else None
        return self._known[key]


def _load_tokenizer(model: str) -> Tokenizer | None:
    try:
        from lmgraph.engines.local import supply
        from lmgraph.engines.local.tokenizer import LocalTokenizer

        return LocalTokenizer(supply.resolve(model))
    except (ImportError, LmgraphError):
        return None


app.command("diff")(trace_replay.diff_command)
app.command("replay")(trace_replay.replay_command)
app.command("export")(trace_export.export_command)
app.command("prune")(trace_export.prune_command)
