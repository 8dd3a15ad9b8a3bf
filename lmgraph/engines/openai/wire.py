"""Chat completions on the wire: one request out, one answer in, and what an answer must be to count."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lmgraph.engines.http.problems import Malformed, Refused, cut
from lmgraph.errors import ContextOverflow, EngineError, EngineRejected, EngineUnavailable
from lmgraph.runtime.engine import Choices, Constraint, FinishReason, JsonSchema, Regex, SamplingParams, Usage

ANSWER = "answer"
"""The key that a text is wrapped in where its constraint is no schema of an object."""
OVER_LENGTH = ("context_length_exceeded", "string_above_max_length")
PAID_UP = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


def request_body(
    model: str,
    messages: Sequence[Mapping[str, str]],
    sampling: SamplingParams,
    *,
    token_limit_field: str,
    structured: bool,
    omit: Sequence[str],
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": list(messages),
        token_limit_field: sampling.max_tokens,
        "temperature": sampling.temperature,
        # Providers read it as a signed 32-bit number.
        "seed": sampling.seed & 0x7FFFFFFF,
    }
    if sampling.top_p != 1.0:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if structured and sampling.constraint is not None:
        schema, _ = _schema_of(sampling.constraint)
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "output", "strict": True, "schema": schema},
        }
    return {name: value for name, value in body.items() if name not in omit}


def read_answer(answer: object, constraint: Constraint | None) -> tuple[str, FinishReason, Usage | None]:
    """(text, finish reason, what it took where the provider says so, without its cost). ``constraint`` is what the
    request was held to.

    Raises: Malformed where the answer breaks the protocol; EngineError where it is none.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(answer, dict) or not isinstance(choice, dict) or not isinstance(message, dict):
        raise Malformed("the answer does not have one choice with a message")
    if refusal := message.get("refusal"):
        raise EngineRejected(f"the model refused to answer: {cut(str(refusal))}.")
    finish: FinishReason
    match choice.get("finish_reason"):
        case "stop":
            finish = "stop"
        case "length":
            finish = "length"
        case "content_filter":
            raise EngineRejected("the provider's filter withheld the answer.")
        case other:
            raise Malformed(f"unknown finish_reason {cut(str(other))}")
    text = message.get("content")
    if text is None and finish == "length":
        text = ""  # all tokens went into reasoning that is not shown
    if not isinstance(text, str):
        raise Malformed("the message has no content")
    if constraint is not None and _schema_of(constraint)[1]:
        text = _unwrapped(text)
    return text, finish, _usage(answer.get("usage"))


def final_error(problem: Refused, url: str, model: str, key_variable: str) -> EngineError:
    """The error for a status that sending the call again does not change."""
    said = problem.detail or f"HTTP {problem.status}"
    if problem.status == 413 or problem.code in OVER_LENGTH or "maximum context length" in problem.detail:
        return ContextOverflow(
            f"the call does not fit {model}: {said}.", hint="Shorten the inputs, use fewer demos, or lower max_tokens."
        )
    if problem.status in (401, 403):
        return EngineUnavailable(
            f"{url} refused the key (HTTP {problem.status}).", hint=f"set {key_variable} to a key that may use {model}"
        )
    if problem.code in PAID_UP or problem.status == 402:
        return EngineUnavailable(f"{url} wants to be paid first: {said}.", hint="see the account at the provider")
    if problem.status in (301, 302, 307, 308, 404, 405):
        return EngineUnavailable(
            f"{url} does not serve {model} (HTTP {problem.status}): {said}.",
            hint="check the URL, which ends before /chat/completions, often in /v1, and the model's name",
        )
    if problem.status in (400, 422):
        hint = None
        if "response_format" in problem.detail or "json_schema" in problem.detail or "schema" in problem.detail:
            hint = "where it knows no JSON Schema: structured = false in [options.openai] of lmgraph.toml"
        elif "nsupported" in problem.detail:
            hint = 'leave the field out: omit = ["FIELD"] in [options.openai] of lmgraph.toml'
        return EngineRejected(f"{url} refused the request: {said}.", hint=hint)
    return EngineError(f"{url} failed (HTTP {problem.status}): {said}.")


def never_passes(problem: Refused) -> bool:
    """Whether a status that else is worth waiting for will stay: the account has run out."""
    return problem.code in PAID_UP


def is_wrapped(constraint: Constraint) -> bool:
    """Whether the model writes an object around the text."""
    return _schema_of(constraint)[1]


def _schema_of(constraint: Constraint) -> tuple[dict[str, Any], bool]:
    """(schema, whether the text is wrapped in an object): providers take schemas of objects only."""
    match constraint:
        case JsonSchema(schema=text):
            schema: dict[str, Any] = json.loads(text)
            if schema.get("type") == "object":
                return schema, False
            inner: dict[str, Any] = schema
        case Choices(options=options):
            inner = {"type": "string", "enum": list(options)}
        case Regex(pattern=pattern):
            # Of the two dialects that providers read, neither knows inline flags.
            plain = pattern.replace("(?s:.", r"(?:[\s\S]")
            inner = {"type": "string", "pattern": f"^(?:{plain})$"}
    return {
        "type": "object",
        "properties": {ANSWER: inner},
        "required": [ANSWER],
        "additionalProperties": False,
    }, True


def _unwrapped(text: str) -> str:
    """The text in its object; as it stands where it is in none, for the parser to say what is wrong."""
    try:
        value = json.loads(text)[ANSWER]
    except (ValueError, KeyError, TypeError, RecursionError):
        return text
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    counts = (usage.get("prompt_tokens"), cached, usage.get("completion_tokens"))
    prompt, cached_tokens, completion = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return Usage(prompt, completion, cached_tokens)
