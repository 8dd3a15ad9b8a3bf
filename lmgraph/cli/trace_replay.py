"""`lmgraph trace diff` and `trace replay`: a run beside another one, and a run once more."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.cli import common
from lmgraph.cli.interrupt import run_async
from lmgraph.cli.trace_store import open_store

if TYPE_CHECKING:  # these would be imported by `lmgraph trace --help`
    from lmgraph.runtime.compare import Comparison, Difference
    from lmgraph.runtime.service import Runtime
    from lmgraph.runtime.trace import Trace

SHOWN = 160
"""Characters of a value in a comparison."""

RunArgument = Annotated[str, typer.Argument(help="The run's id, or how it begins or ends.", metavar="RUN")]


def diff_command(
    first: RunArgument,
    second: RunArgument,
    trace: common.TraceOption = common.DEFAULT_TRACE,
    as_json: common.JsonFlag = False,
) -> None:
    """Compare two runs call by call: inputs, prompts, sampling, outputs, failures."""
    from lmgraph.runtime.compare import compare

    store = open_store(trace)
    try:
        one, other = store.find(first), store.find(second)
    finally:
        store.close()
    comparison = compare(one, other)
    if as_json:
        common.print_json(_diff_data(one, other, comparison))
        return
    for difference in comparison.differences:
        common.print_text(_diff_text(difference, one, other))
    number = common.count(len(comparison.differences), "difference") if comparison.differences else "no difference"
    common.print_text(f"{number}; {comparison.alike} calls, steps and checks alike")


def replay_command(
    run: RunArgument,
    program: common.ProgramArgument = None,
    again: Annotated[
        list[str] | None,
        typer.Option("--again", help="Run this module or extern again; may be given several times.", metavar="NAME"),
    ] = None,
    allow_effects: Annotated[
        bool, typer.Option("--allow-effects", help="Call tools that the record has no answer of, which may act.")
    ] = False,
    engine: common.EngineOption = None,
    model: common.ModelOption = None,
    lm: common.LmOption = None,
    dtype: common.DtypeOption = None,
    trace: common.TraceOption = common.DEFAULT_TRACE,
    no_trace: common.NoTraceOption = False,
    as_json: common.JsonFlag = False,
) -> None:
    """Make a run again from its record. Of a changed program only what has changed, and what it reaches, runs."""
    from lmgraph.runtime.trace import short_id

    path = common.find_program(program)
    loaded = common.load_program(path)
    store = open_store(trace)
    try:
        recorded = store.find(run)
    finally:
        store.close()
    changed = loaded.hash != recorded.program or bool(again)
    keep = trace if changed and not no_trace else None
    flags = common.BindingFlags(engine, model, tuple(lm or ()), dtype)
    runtime = common.make_runtime(loaded, path, flags, trace=keep)

    async def replay(runtime: Runtime) -> Trace:
        async with runtime:
            effects: Any = "allow" if allow_effects else "refuse"
            return await runtime.replay(loaded, recorded, again=tuple(again or ()), effects=effects)

    replayed = run_async(replay(runtime))
    data = _replay_data(recorded, replayed, keep)
    if as_json:
        common.print_json(data)
        return
    for name, value in (replayed.outputs or {}).items():
        common.print_text(f"{name}: {common.as_text(value)}")
    if replayed.failure is not None:
        common.print_text(f"failed at {replayed.failure.call_key}: {replayed.failure.message}")
    made = f"{common.count(len(data['made']), 'call')} made, {data['reused']} from the record"
    said = "the same result" if data["same"] else "another result than the recorded one"
    common.print_text(f"{said}; {made}" + (f" (run {short_id(replayed.run_id)})" if keep else ""))


def _replay_data(recorded: Trace, replayed: Trace, kept: Path | None) -> dict[str, Any]:
    made = [call.call_key for call in replayed.calls if call.source == "engine"]
    return {
        "recorded": recorded.run_id,
        "run_id": None if kept is None else replayed.run_id,
        "outputs": replayed.outputs,
        "failure": replayed.failure and asdict(replayed.failure),
        "same": (recorded.outputs, recorded.failure) == (replayed.outputs, replayed.failure),
        "made": made,
        "reused": len(replayed.calls) - len(made),
        "trace": None if kept is None else str(kept),
    }


def _diff_data(one: Trace, other: Trace, comparison: Comparison) -> dict[str, Any]:
    differences = [
        {
            "call_key": difference.call_key,
            "what": difference.what,
            "only": None if difference.only is None else (one, other)[difference.only].run_id,
            "values": {name: [_data(value) for value in pair] for name, pair in (difference.values or {}).items()},
        }
        for difference in comparison.differences
    ]
    return {"runs": [one.run_id, other.run_id], "alike": comparison.alike, "differences": differences}


def _diff_text(difference: Difference, one: Trace, other: Trace) -> str:
    from lmgraph.runtime.trace import short_id

    where = f"{difference.what} {difference.call_key}".rstrip()
    if difference.only is not None:
        return f"{where}  only in {short_id((one, other)[difference.only].run_id)}"
    lines = [where]
    for name, pair in (difference.values or {}).items():
        if name in ("prompt_ids", "completion_ids"):
            lengths = " and ".join(str(len(ids)) for ids in pair)
            lines.append(f"  {name:<14} {lengths} tokens, the first {_alike(*pair)} alike")
            continue
        for run, value in zip((one, other), pair, strict=True):
            text = json.dumps(_data(value), ensure_ascii=False)
            lines.append(
                f"  {name:<14} {short_id(run.run_id)}  {text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}"
            )
    return "\n".join(lines)


def _alike(one: list[int], other: list[int]) -> int:
    return next((index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0) or (
        min(len(one), len(other)) if one[:1] == other[:1] else 0
    )


def _data(value: Any) -> Any:
    """JSON-ready."""
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    if isinstance(value, list):
        return [_data(one) for one in value]
    return value
