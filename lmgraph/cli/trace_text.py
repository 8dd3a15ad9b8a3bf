"""What `lmgraph trace show` prints of a run and its calls."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lmgraph.cli import common

if TYPE_CHECKING:  # these would be imported by `lmgraph trace --help`
    from lmgraph.runtime.engine import Tokenizer
    from lmgraph.runtime.trace import Call, CheckRecord, Step, Trace


def run_text(trace: Trace) -> str:
    """A run as a whole, a line each."""
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
    costs = [call.cost for call in (*trace.calls, *trace.judged) if call.cost is not None]
    if costs:
        lines.append(f"cost     {sum(costs):.6g}")
    if reused := sum(call.source != "engine" for call in trace.calls):
        lines.append(f"reused   {common.count(reused, 'call')} from the cache or a record")
    python = [step for step in trace.steps if step.kind != "lm"]
    if python:
        lines.append(f"python   {common.count(len(python), 'call')}, {sum(step.seconds for step in python):.2f} s")
    if lost := len(trace.steps) - len(python):
        lines.append(f"lost     {common.count(lost, 'call')} that an engine had no answer to")
    if trace.checks:
        failed = sum(check.passed is not True for check in trace.checks)
        lines.append(f"checks   {len(trace.checks)}, {failed} of them not true")
    if trace.judged:
        lines.append(f"judged   by {common.count(len(trace.judged), 'call')}")
    return "\n".join(lines)


def call_text(call: Call, tokenizer: Tokenizer | None, *, prompts: bool, tokens: bool) -> str:
    adapter = f" with {call.adapter}" if call.adapter else ""
    decoding = "constrained" if call.constrained else "free"
    if call.source != "engine":
        decoding += f", from the {call.source}"
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
    lines += [check_text(check) for check in call.checks]
    lines += [
        f"  tokens      {len(call.prompt_ids)} prompt ({call.cached_tokens} cached), {len(call.completion_ids)}"
        f" completion, log-probability {sum(call.logprobs):.3f}",
        f"  seconds     {call.seconds:.3f}  (queue {call.queue_seconds:.3f}, prefill {call.prefill_seconds:.3f},"
        f" decode {call.decode_seconds:.3f})",
    ]
    if call.attempts > 1:
        lines.append(f"  attempts    {call.attempts}")
    if call.cost is not None:
        lines.append(f"  cost        {call.cost:.6g}")
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


def step_text(step: Step) -> str:
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


def check_text(check: CheckRecord, *, where: bool = False) -> str:
    came_to = {True: "true", False: "FALSE", None: "no value"}[check.passed]
    at = f"  {check.call_key}" if where else ""
    lines = [f"  {check.kind:<11} {came_to}: {check.message}{at}"]
    lines += [f"    {text} = {json.dumps(value, ensure_ascii=False)}" for text, value in check.values]
    return "\n".join(lines)
