"""`lmgraph trace`: the runs that a trace store holds, and one run call by call."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.cli import common
from lmgraph.errors import ConfigError, LmgraphError

if TYPE_CHECKING:  # these would be imported by `lmgraph trace --help`
    from lmgraph.runtime.engine import Tokenizer
    from lmgraph.runtime.store import TraceStore
    from lmgraph.runtime.trace import Call, CheckRecord, Step, Trace

app = typer.Typer(name="trace", help="List and show recorded runs.", no_args_is_help=True, add_completion=False)


@app.command("list")
def list_command(
    phase: Annotated[str | None, typer.Option("--phase", help="run, eval, 1-demos/bootstrap, dev/dev, ...")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Runs of one optimize run.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest runs.")] = 20,
    trace: common.TraceOption = common.DEFAULT_TRACE,
    as_json: common.JsonFlag = False,
) -> None:
    """List the newest runs."""
    equal = {name: value for name, value in (("phase", phase), ("study", study)) if value is not None}
    store = _open(trace)
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
        rows.append(
            (
                run["run_id"][:8],
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
    run: Annotated[str, typer.Argument(help="The run's id, or how it begins.", metavar="RUN")],
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
    store = _open(trace)
    try:
        found = store.find(run)
    finally:
        store.close()
    if as_json:
        common.print_json(asdict(found))
        return
    tokenizers = _Tokenizers() if prompts or tokens else None
    common.print_text(_run_text(found))
    for call in found.calls:
        tokenizer = tokenizers.of(call) if tokenizers else None
        common.print_text("\n" + _call_text(call, tokenizer, prompts=prompts, tokens=tokens))
    for step in found.steps:
        common.print_text("\n" + _step_text(step))
    if found.checks:
        common.print_text("\nchecks\n" + "\n".join(_check_text(check, where=True) for check in found.checks))
    for call in found.judged:
        tokenizer = tokenizers.of(call) if tokenizers else None
        common.print_text("\njudged\n" + _call_text(call, tokenizer, prompts=prompts, tokens=tokens))


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


def _open(path: Path) -> TraceStore:
    """Raises: ConfigError where there is no store: reading never makes one."""
    from lmgraph.runtime.store import TraceStore

    if not path.is_file():
        raise ConfigError(f"There is no trace store {path}.", hint="name one with --trace, or run a program first")
    return TraceStore(path)


def _run_text(trace: Trace) -> str:
    identity = trace.identity
    when = datetime.fromtimestamp(trace.started).strftime("%Y-%m-%d %H:%M:%S")
    lines = [
        f"run      {trace.run_id}",
        f"flow     {trace.flow} of program {trace.program}",
        f"when     {when}, {trace.seconds:.2f} s",
        f"phase    {identity.phase}" + (f", study {identity.study}, step {identity.step}" if identity.study else ""),
    ]
    if identity.example:
        lines.append(f"example  {identity.example}, rollout {identity.rollout}")
    lines.append(f"inputs   {json.dumps(trace.inputs, ensure_ascii=False)}")
    if trace.outputs is not None:
        lines.append(f"outputs  {json.dumps(trace.outputs, ensure_ascii=False)}")
    if trace.failure is not None:
        lines.append(f"failed   {trace.failure.call_key}: {trace.failure.message}")
    if trace.reward is not None:
        lines.append(f"reward   {trace.reward:g}")
    lines.append(
        f"calls    {len(trace.calls)}, {trace.prompt_tokens:,} prompt and {trace.completion_tokens:,} completion tokens"
    )
    if trace.steps:
        lines.append(f"python   {common.count(len(trace.steps), 'call')}, {sum(s.seconds for s in trace.steps):.2f} s")
    if trace.checks:
        failed = sum(check.passed is not True for check in trace.checks)
        lines.append(f"checks   {len(trace.checks)}, {failed} of them not true")
    if trace.judged:
        lines.append(f"judged   by {common.count(len(trace.judged), 'call')}")
    return "\n".join(lines)


def _call_text(call: Call, tokenizer: Tokenizer | None, *, prompts: bool, tokens: bool) -> str:
    adapter = f" with {call.adapter}" if call.adapter else ""
    decoding = "constrained" if call.constrained else "free"
    lines = [
        f"{call.call_key}",
        f"  model       {call.engine}:{call.model}{adapter}, temperature {call.temperature:g}, seed {call.seed},"
        f" {decoding}",
        f"  inputs      {json.dumps(call.inputs, ensure_ascii=False)}",
        f"  completion  {json.dumps(call.text, ensure_ascii=False)}  ({call.finish_reason})",
    ]
    if call.outputs is not None:
        lines.append(f"  outputs     {json.dumps(call.outputs, ensure_ascii=False)}")
    if call.failure is not None:
        lines.append(f"  failed      {call.failure.kind}: {call.failure.message}")
    lines += [_check_text(check) for check in call.checks]
    lines += [
        f"  tokens      {len(call.prompt_ids)} prompt ({call.cached_tokens} cached), {len(call.completion_ids)}"
        f" completion, log-probability {sum(call.logprobs):.3f}",
        f"  seconds     {call.seconds:.3f}  (queue {call.queue_seconds:.3f}, prefill {call.prefill_seconds:.3f},"
        f" decode {call.decode_seconds:.3f})",
    ]
    if prompts:
        if tokenizer is None:
            lines.append(f"  prompt ids  {' '.join(map(str, call.prompt_ids))}")
        else:
            text = tokenizer.decode(call.prompt_ids)
            lines += ["  prompt", *(f"    {line}" for line in text.splitlines())]
    if tokens:
        lines.append("  sampled     id, log-probability" + (", text" if tokenizer else ""))
        for token, logprob in zip(call.completion_ids, call.logprobs, strict=False):
            piece: Any = f"  {json.dumps(tokenizer.decode([token]), ensure_ascii=False)}" if tokenizer else ""
            lines.append(f"    {token:>8}  {logprob:9.4f}{piece}")
    return "\n".join(lines)


def _step_text(step: Step) -> str:
    lines = [
        step.call_key,
        f"  {step.kind:<11} {step.name}",
        f"  inputs      {json.dumps(step.inputs, ensure_ascii=False)}",
    ]
    if step.failure is not None:
        lines.append(f"  failed      {step.failure.kind}: {step.failure.message}")
    else:
        lines.append(f"  output      {json.dumps(step.output, ensure_ascii=False)}")
    return "\n".join([*lines, f"  seconds     {step.seconds:.3f}"])


def _check_text(check: CheckRecord, *, where: bool = False) -> str:
    came_to = {True: "true", False: "FALSE", None: "no value"}[check.passed]
    at = f"  {check.call_key}" if where else ""
    lines = [f"  {check.kind:<11} {came_to}: {check.message}{at}"]
    lines += [f"    {text} = {json.dumps(value, ensure_ascii=False)}" for text, value in check.values]
    return "\n".join(lines)
