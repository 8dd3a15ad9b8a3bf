"""SGLang's `/generate` as bytes on the wire: one request out, one answer in, and what an answer must be to count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraph.engines.http.problems import Malformed, Refused, cut
from lmgraph.errors import EngineError
from lmgraph.runtime.engine import Choices, Constraint, FinishReason, Generation, JsonSchema, Regex, SamplingParams

SPECIAL_IN_REGEX = frozenset("\\.^$*+?{}[]()|/")
CONTROL_IN_REGEX = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
LOGPROB_SLACK = 1e-3
"""Nats above 0 that rounding may give a token that is all but certain."""


def request_body(
    prompt_ids: Sequence[int], sampling: SamplingParams, stop_ids: Sequence[int], adapter: str | None, *, seeded: bool
) -> dict[str, Any]:
    """The body of one `/generate`, without its `rid`."""
    params: dict[str, Any] = {
        "max_new_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        **_constraint(sampling.constraint),
    }
    if stop_ids:
        params["stop_token_ids"] = list(stop_ids)
    else:
        params["ignore_eos"] = True
    if seeded:
        params["sampling_seed"] = sampling.seed & (2**63 - 1)
    body: dict[str, Any] = {
        "input_ids": list(prompt_ids),
        "sampling_params": params,
        "return_logprob": True,
        # From the prompt's end on: 0 would ask for the prompt's logprobs, and switch the reuse of prefixes off.
        "logprob_start_len": -1,
        "stream": False,
    }
    if adapter is not None:
        body["lora_path"] = adapter
    return body


def read_answer(answer: object, rid: str, max_tokens: int, vocabulary: int) -> Generation:
    """The generation in an answer with status 200.

    Raises: Malformed where it breaks the protocol or answers another request; Refused where the server gave up with a
    status; EngineError where it aborted for another reason.
    """
    whole, meta = checked_answer(answer, rid)
    finish = _finish(meta.get("finish_reason"))
    ids = whole.get("output_ids")
    sampled = meta.get("output_token_logprobs")
    if not isinstance(ids, list) or not isinstance(sampled, list):
        raise Malformed("the answer has no output_ids or no output_token_logprobs")
    if not all(isinstance(entry, list) and len(entry) >= 2 for entry in sampled):
        raise Malformed("output_token_logprobs are not [logprob, token id, …]")
    if [entry[1] for entry in sampled] != ids:
        raise Malformed(f"output_ids ({len(ids)}) and the ids of output_token_logprobs ({len(sampled)}) differ")
    if not all(type(token) is int and 0 <= token < vocabulary for token in ids):
        raise Malformed(f"an output id lies outside the vocabulary of {vocabulary}")
    if len(ids) > max_tokens:
        raise Malformed(f"asked for {max_tokens} tokens at most, it gives {len(ids)}")
    return Generation(ids, _logprobs([entry[0] for entry in sampled]), finish, cached_tokens=_count(meta))


def checked_answer(answer: object, rid: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An answer, or an event of one, and what it says beside its ids. Raises: Malformed where it answers another
    request."""
    meta = answer.get("meta_info") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(meta, dict):
        raise Malformed("the answer has no meta_info")
    if meta.get("id") != rid:
        raise Malformed(f"asked for request {rid}, it answers {cut(str(meta.get('id')))}")
    return answer, meta


def _finish(reason: object) -> FinishReason:
    if not isinstance(reason, dict):
        raise Malformed("the answer has no finish_reason")
    match reason.get("type"):
        case "stop":
            return "stop"
        case "length":
            return "length"
        case "abort":
            message = cut(str(reason.get("message") or "no reason given"))
            status = reason.get("status_code")
            if isinstance(status, int):
                raise Refused(status, message)
            raise EngineError(f"SGLang aborted the call: {message}.", hint="see the server's log")
        case other:
            raise Malformed(f"unknown finish_reason {cut(str(other))}")


def _logprobs(values: list[Any]) -> list[float]:
    """Nearly always all of them are what they should be, which is seen at once."""
    if set(map(type, values)) == {float} and math.isfinite(sum(values)) and max(values) <= 0.0:
        return values
    return [_logprob(value) for value in values]


def _logprob(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or value > LOGPROB_SLACK:
        raise Malformed(f"{cut(str(value))} is no logprob")
    return min(float(value), 0.0)


def _count(meta: Mapping[str, Any]) -> int:
    cached = meta.get("cached_tokens", 0)
    return cached if isinstance(cached, int) else 0


def _constraint(constraint: Constraint | None) -> dict[str, str]:
    match constraint:
        case Choices(options=options):
            return {"regex": "(" + "|".join(_literal(option) for option in options) + ")"}
        case Regex(pattern=pattern):
            # The grammar backends know no inline flags.
            return {"regex": pattern.replace("(?s:.", "((.|\\n)")}
        case JsonSchema(schema=schema):
            return {"json_schema": schema}
        case None:
            return {}


def _literal(text: str) -> str:
    return "".join(CONTROL_IN_REGEX.get(char) or (f"\\{char}" if char in SPECIAL_IN_REGEX else char) for char in text)
