"""Statuses that sending a call again does not change, as errors that say what to do."""

from __future__ import annotations

import re

from lmgraph.engines.http.problems import Refused
from lmgraph.engines.sglang.known import API_KEY_VARIABLE
from lmgraph.errors import ContextOverflow, EngineError, EngineRejected, EngineUnavailable

_TOO_LONG = re.compile(r"context length|longer than|exceeds the (?:model|maximum)|KV cache pool", re.IGNORECASE)
_LOST_ADAPTER = re.compile(r"lora.*(?:never been loaded|not loaded|failed to implicitly load)", re.IGNORECASE)


def final_error(problem: Refused, model_id: str) -> EngineError:
    """The error that a caller of the engine gets."""
    said = problem.detail or f"HTTP {problem.status}"
    if problem.status in (400, 413, 422):
        if problem.status == 413 or _TOO_LONG.search(problem.detail):
            return ContextOverflow(
                f"the call does not fit {model_id}: {said}.",
                hint="Shorten the inputs, use fewer demos, or lower max_tokens.",
            )
        return EngineRejected(f"SGLang refused the request: {said}.")
    if problem.status in (401, 403):
        return EngineUnavailable(
            f"SGLang refused the key (HTTP {problem.status}).", hint=f"set {API_KEY_VARIABLE} to the server's api key"
        )
    if problem.status in (301, 302, 307, 308, 404, 405):
        return EngineUnavailable(
            f"No SGLang server answers at this URL (HTTP {problem.status}).", hint="check host, port and path"
        )
    return EngineError(f"SGLang failed (HTTP {problem.status}): {said}.", hint="see the server's log")


def has_lost_adapter(problem: Refused) -> bool:
    """Whether the server does not know an adapter that it was given: it was started anew meanwhile."""
    return problem.status == 400 and _LOST_ADAPTER.search(problem.detail) is not None
