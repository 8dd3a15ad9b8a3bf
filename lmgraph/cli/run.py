"""`lmgraph run`: a flow on inputs from flags, from JSON, or from standard input, one run a line."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.cli import common
from lmgraph.cli.flags import FREE_FLAGS, read_inputs, split_arguments
from lmgraph.cli.interrupt import run_async
from lmgraph.cli.learned import ParamsOption
from lmgraph.cli.progress import Progress
from lmgraph.errors import ConfigError

if TYPE_CHECKING:  # these would be imported by `lmgraph run --help`
    from lmgraph.program.program import Program
    from lmgraph.runtime.service import RunOptions, Runtime
    from lmgraph.runtime.trace import Trace

AT_ONCE = 64
"""Runs under way at once where there are many lines."""
TEXT_SHOWN = 48
"""Characters of what a call is writing."""

app = typer.Typer(add_completion=False)


@app.command("run", context_settings=FREE_FLAGS)
def run_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="A .lmg file or an artifact folder, else `program` of lmgraph.toml; `-` reads the inputs as JSON from"
            " standard input, or one JSON object a line. Inputs are flags of their names.",
            metavar="[PROGRAM] [-] [--INPUT VALUE]...",
            show_default=False,
        ),
    ] = None,
    inputs: Annotated[str | None, typer.Option("--input", help="All inputs as a JSON object.", metavar="JSON")] = None,
    flow: Annotated[str | None, typer.Option("--flow", help="The flow to run.")] = None,
    decoding: common.DecodingOption = common.DecodingChoice.CONSTRAINED,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="For every call.")] = None,
    seed: common.SeedOption = 0,
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
        typer.Option("--resume", help="Of many lines, take those that were run before from the trace."),
    ] = False,
    as_json: common.JsonFlag = False,
) -> None:
    """Run a flow. Inputs are flags named after the flow's inputs: lmgraph run program.lmg --question "..." """
    free = split_arguments(arguments or [])
    positional = [argument for argument in free.positional if argument != "-"]
    if len(positional) > 1:
        raise ConfigError(
            f"There is more than one program: {', '.join(positional)}.", hint="inputs are flags: --name VALUE"
        )
    path = common.find_program(Path(positional[0]) if positional else None)
    program = common.load_program(path, learned)
    flow = program.flow_name(flow)
    from_stdin = "-" in free.positional
    if (free.flags or inputs is not None) and from_stdin:
        raise ConfigError("Inputs are given both here and on standard input.", hint="leave out one of them")
    fields = program.graph.flow(flow).inputs
    required = any(not field.has_default for field in fields)
    from_stdin = from_stdin or (required and not free.flags and inputs is None and _stdin_has_data())
    rows, many = _from_stdin() if from_stdin else ([_object(inputs or "{}", "--input")], False)
    if not from_stdin:
        rows[0] |= read_inputs(free.flags, fields, flow)

    if resume and (no_trace or not many):
        what = "reads the trace, and --no-trace keeps none" if no_trace else "is for many lines on standard input"
        raise ConfigError(f"--resume {what}.", hint="leave out --resume")

    from lmgraph.runtime.service import RunOptions

    runtime = common.make_runtime(
        program,
        path,
        common.BindingFlags(engine, model, tuple(lm or ()), dtype),
        trace=None if no_trace else trace,
        cache=cache,
    )
    options = RunOptions(decoding.value, temperature, seed)
    store = None if no_trace else trace
    failed = run_async(_run(runtime, program, rows, flow, options, store, lines=many, resume=resume, as_json=as_json))
    if failed:
        raise typer.Exit(1)


async def _run(
    runtime: Runtime,
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    flow: str,
    options: RunOptions,
    store: Path | None,
    *,
    lines: bool,
    resume: bool,
    as_json: bool,
) -> int:
    """Run every row and print each result in its turn. Returns how many failed."""
    failed = 0
    async with runtime:
        results = runtime.map(program, rows, flow=flow, options=options, concurrency=AT_ONCE, resume=resume)
        async with aclosing(results if lines else _one(runtime, program, rows[0], flow, options)) as traces:
            async for trace in traces:
                failed += trace.failure is not None
                if lines or as_json:
                    common.print_json(_data(trace, store), line=lines)
                if not lines:
                    _show(trace, store, outputs=not as_json)
    return failed


async def _one(
    runtime: Runtime, program: Program, row: Mapping[str, Any], flow: str, options: RunOptions
) -> AsyncGenerator[Trace, None]:
    """As `Runtime.map` of one input, whose seeds are no position's, and which is refused where it does not fit."""
    from lmgraph.runtime.events import NodeFinished, NodeStarted, RunFinished, TextSampled

    texts: dict[str, str] = {}
    """Of the calls that are under way, by call key."""
    trace: Trace | None = None
    with Progress(f"running {flow}") as progress:
        async with aclosing(runtime.stream(program, row, flow=flow, options=options)) as events:
            async for event in events:
                match event:
                    case NodeStarted():
                        texts[event.call_key] = ""
                    case TextSampled():
                        texts[event.call_key] = texts.get(event.call_key, "") + event.text
                    case NodeFinished():
                        texts = {key: text for key, text in texts.items() if not _is_of(key, event.call_key)}
                    case RunFinished():
                        trace = event.trace
                if texts:
                    progress.status(_under_way(texts), None)
    assert trace is not None, "the last event has it"
    yield trace


def _is_of(key: str, call_key: str) -> bool:
    """A call, or one of its retries."""
    return key == call_key or key.startswith(f"{call_key}/retry[")


def _under_way(texts: Mapping[str, str]) -> str:
    """The latest call, how what it has written ends, and how many go on beside it."""
    key, text = list(texts.items())[-1]
    end = " ".join(text[-4 * TEXT_SHOWN :].split())[-TEXT_SHOWN:]
    beside = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return f"{key}{beside}" + (f": {end}" if end else "")


def _show(trace: Trace, store: Path | None, *, outputs: bool) -> None:
    from lmgraph.runtime.trace import short_id

    failure = trace.failure
    if failure is None:
        for name, value in (trace.outputs or {}).items() if outputs else ():
            common.print_text(f"{name}: {common.as_text(value)}")
        return
    sys.stdout.flush()
    from lmgraph.cli.app import show_error

    message = f"The run failed at {failure.call_key}: {failure.message}"
    if failure.raw_text is not None:
        message += "\n  the model wrote: " + json.dumps(failure.raw_text, ensure_ascii=False)
    for check in trace.checks:
        if failure.kind == "assert" and check.call_key == failure.call_key:
            message += "".join(f"\n  {text} = {json.dumps(value, ensure_ascii=False)}" for text, value in check.values)
    where = f" --trace {store}" if store not in (None, common.DEFAULT_TRACE) else ""
    way = f"`lmgraph trace show {short_id(trace.run_id)}{where}` shows every call"
    show_error(message, None if store is None else way)


def _data(trace: Trace, store: Path | None) -> dict[str, Any]:
    failure = trace.failure
    return {
        "outputs": None if trace.outputs is None else dict(trace.outputs),
        "failure": failure
        and {
            "kind": failure.kind,
            "message": failure.message,
            "call": failure.call_key,
            "raw_text": failure.raw_text,
        },
        "run_id": trace.run_id,
        "flow": trace.flow,
        "calls": len(trace.calls),
        "cached_calls": sum(call.source == "cache" for call in trace.calls),
        "steps": len(trace.steps),
        "false_checks": [
            {"call": check.call_key, "kind": check.kind, "message": check.message, "values": dict(check.values)}
            for check in (*trace.checks, *(check for call in trace.calls for check in call.checks))
            if check.passed is False
        ],
        "prompt_tokens": trace.prompt_tokens,
        "completion_tokens": trace.completion_tokens,
        "seconds": round(trace.seconds, 3),
        "trace": None if store is None else str(store),
    }


def _stdin_has_data() -> bool:
    """Whether something is piped or redirected into this command."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _from_stdin() -> tuple[list[dict[str, Any]], bool]:
    """The rows, and whether they came one a line. Raises: ConfigError."""
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"Standard input is not UTF-8 text (byte {error.start}).", hint="send JSON") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ConfigError("Standard input is empty.", hint='send the inputs as JSON: {"name": value}')
    if len(lines) > 1 and not _is_json(text):
        return [_object(line, f"standard input, line {number}") for number, line in lines], True
    return [_object(text, "standard input")], False


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON: {error}.", hint='send the inputs as {"name": value}') from None
    if not isinstance(data, dict):
        raise ConfigError(f"{where} is JSON, but no object: expected the inputs by name.", hint='send {"name": value}')
    return data
