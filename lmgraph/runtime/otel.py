"""Runs as OpenTelemetry traces: OTLP in JSON, a request a run, as its file exporter writes them.

Written out here without an SDK. The trace id is the run's id; span ids follow from call keys, so that exporting a run
twice gives the same spans. Names of attributes are in runtime/otel_names.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lmgraph.runtime import otel_names as names

SERVICE = "lmgraph"
_INTERNAL, _CLIENT = 1, 3
_OK, _ERROR = 1, 2


def otlp_lines(runs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One `ExportTraceServiceRequest` a run, without line ends. ``runs`` are as `exports.plain` gives them."""
    for run in runs:
        yield json.dumps(otlp_request(run))


def otlp_request(run: Mapping[str, Any]) -> dict[str, Any]:
    """The spans of one run: the run, and below it each call of a model or of Python, retries and judges included."""
    root = _span_id(run["run_id"], "")
    spans = [_run_span(run, root)]
    spans += [_call_span(run, call, root, judged=False) for call in run["calls"]]
    spans += [_call_span(run, call, root, judged=True) for call in run["judged"]]
    spans += [_step_span(run, step, root) for step in run["steps"]]
    resource = {"attributes": _attributes({names.SERVICE_NAME: SERVICE})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": SERVICE}, "spans": spans}]}]}


def _run_span(run: Mapping[str, Any], root: str) -> dict[str, Any]:
    place = run["identity"]
    attributes = {
        names.OPERATION: names.INVOKE_AGENT,
        names.PROVIDER: SERVICE,
        names.AGENT_NAME: run["flow"],
        names.CONVERSATION_ID: run["run_id"],
        names.PROGRAM: run["program"],
        names.PHASE: place["phase"],
        names.STUDY: place["study"] or None,
        names.STEP: place["step"],
        names.EXAMPLE: place["example"] or None,
        names.ROLLOUT: place["rollout"],
        names.REWARD: run["reward"],
        names.INPUTS: json.dumps(run["inputs"]),
        names.OUTPUTS: None if run["outputs"] is None else json.dumps(run["outputs"]),
    }
    return _span(run, run, root, None, f"{names.INVOKE_AGENT} {run['flow']}", _INTERNAL, attributes)


def _call_span(run: Mapping[str, Any], call: Mapping[str, Any], root: str, *, judged: bool) -> dict[str, Any]:
    said = {"role": "assistant", "parts": [{"type": "text", "content": call["text"]}]}
    said["finish_reason"] = call["finish_reason"]
    attributes = {
        names.OPERATION: names.CHAT,
        names.PROVIDER: call["engine"],
        names.REQUEST_MODEL: call["model"],
        names.RESPONSE_MODEL: call["model"],
        names.TEMPERATURE: float(call["temperature"]),
        names.SEED: call["seed"],
        names.FINISH_REASONS: [call["finish_reason"]],
        names.OUTPUT_TYPE: "json" if call["constrained"] else "text",
        names.INPUT_TOKENS: call["prompt_tokens"],
        names.OUTPUT_TOKENS: call["completion_tokens"],
        names.CACHED_TOKENS: call["cached_tokens"],
        names.OUTPUT_MESSAGES: json.dumps([said]),
        names.INPUTS: json.dumps(call["inputs"]),
        names.OUTPUTS: None if call["outputs"] is None else json.dumps(call["outputs"]),
        names.NODE: call["node"],
        names.CALL_KEY: call["call_key"],
        names.MODULE: call["module"],
        names.TEMPLATE: call["template"],
        names.ADAPTER: call["adapter"],
        names.CONSTRAINED: call["constrained"],
        names.RETRY: call["retry"],
        names.SOURCE: call["source"],
        names.ATTEMPTS: call["attempts"],
        names.COST: call["cost"],
        names.JUDGED: judged,
        names.QUEUE_SECONDS: float(call["queue_seconds"]),
        names.PREFILL_SECONDS: float(call["prefill_seconds"]),
        names.DECODE_SECONDS: float(call["decode_seconds"]),
    }
    place = f"{'judged' if judged else 'call'}/{call['call_key']}/{call['retry']}/{call['attempt']}"
    span = _span_id(run["run_id"], place)
    return _span(run, call, span, root, f"{names.CHAT} {call['model']}", _CLIENT, attributes)


def _step_span(run: Mapping[str, Any], step: Mapping[str, Any], root: str) -> dict[str, Any]:
    common = {names.NODE: step["node"], names.CALL_KEY: step["call_key"]}
    span = _span_id(run["run_id"], f"step/{step['call_key']}")
    if step["kind"] == "lm":
        asked = {names.OPERATION: names.CHAT, names.MODULE: step["name"], names.INPUTS: json.dumps(step["inputs"])}
        return _span(run, step, span, root, f"{names.CHAT} {step['name']}", _CLIENT, asked | common)
    attributes = {
        names.OPERATION: names.EXECUTE_TOOL,
        names.TOOL_NAME: step["name"],
        names.TOOL_TYPE: names.TOOL_TYPES[step["kind"]],
        names.TOOL_ARGUMENTS: json.dumps(step["inputs"]),
        names.TOOL_RESULT: None if step["failure"] is not None else json.dumps(step["output"]),
        **common,
    }
    return _span(run, step, span, root, f"{names.EXECUTE_TOOL} {step['name']}", _INTERNAL, attributes)


def _span(
    run: Mapping[str, Any],
    what: Mapping[str, Any],
    span: str,
    parent: str | None,
    name: str,
    kind: int,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    failure = what["failure"]
    begun = round(what["started"] * 1e9)
    data: dict[str, Any] = {
        "traceId": _trace_id(run["run_id"]),
        "spanId": span,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(begun),
        "endTimeUnixNano": str(begun + round(what["seconds"] * 1e9)),
        "attributes": _attributes({**attributes, names.ERROR_TYPE: None if failure is None else failure["kind"]}),
        "status": {"code": _OK} if failure is None else {"code": _ERROR, "message": failure["message"]},
    }
    if parent is not None:
        data["parentSpanId"] = parent
    return data


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that have a value. 64-bit integers are texts in OTLP's JSON."""
    return [{"key": key, "value": _any_value(value)} for key, value in values.items() if value is not None]


def _any_value(value: str | bool | int | float | Sequence[Any]) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value.encode("utf-8", "replace").decode()}
        case _:
            return {"arrayValue": {"values": [_any_value(one) for one in value]}}


def _trace_id(run_id: str) -> str:
    """16 bytes in hex. A run id is that already."""
    if len(run_id) == 32 and all(letter in "0123456789abcdef" for letter in run_id):
        return run_id
    return hashlib.blake2b(run_id.encode(), digest_size=16).hexdigest()


def _span_id(run_id: str, place: str) -> str:
    return hashlib.blake2b(f"{run_id}/{place}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
