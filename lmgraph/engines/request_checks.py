"""Requests that no engine can answer: refused before anything is computed or sent."""

from __future__ import annotations

import math

from lmgraph.errors import ContextOverflow, EngineRejected
from lmgraph.runtime.engine import GenerateRequest


def check_request(request: GenerateRequest, vocabulary: int, context_length: int, model_id: str) -> None:
    """Raises: EngineRejected, ContextOverflow."""
    prompt_ids, sampling = request.prompt_ids, request.sampling
    if not prompt_ids:
        raise EngineRejected("the prompt is empty.")
    if min(prompt_ids) < 0 or max(prompt_ids) >= vocabulary:
        raise EngineRejected(
            f"the prompt has a token id outside the model's vocabulary of {vocabulary}.",
            hint="Encode the prompt with this engine's own tokenizer.",
        )
    if sampling.max_tokens < 1:
        raise EngineRejected(f"max_tokens must be 1 or more, got {sampling.max_tokens}.")
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise EngineRejected(f"temperature must be 0 or more, got {sampling.temperature}.")
    if not 0 < sampling.top_p <= 1:
        raise EngineRejected(f"top_p must be above 0 and at most 1, got {sampling.top_p}.")
    stops = sampling.stop_token_ids or ()
    if any(not 0 <= stop < vocabulary for stop in stops):
        raise EngineRejected(f"a stop token id lies outside the model's vocabulary of {vocabulary}: {stops}.")
    if len(prompt_ids) + sampling.max_tokens > context_length:
        raise ContextOverflow(
            f"the prompt of {len(prompt_ids)} tokens and max_tokens {sampling.max_tokens} do not fit the context "
            f"of {context_length} tokens of {model_id}.",
            hint="Shorten the inputs, use fewer demos, or lower max_tokens.",
        )
