"""One module call: prompt, sample, parse, and again where the output does not fit and a retry is allowed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmgraph.errors import EngineError, EngineUnavailable
from lmgraph.graph.graph import ModuleSpec
from lmgraph.runtime.engine import Engine, GenerateRequest, Generation, SamplingParams
from lmgraph.runtime.limits import Meter
from lmgraph.runtime.parse import Decoding, ParseProblem
from lmgraph.runtime.prompt import Correction, PromptRenderer
from lmgraph.runtime.trace import Call, Failure


@dataclass(frozen=True, slots=True)
class ModuleVersion:
    """A module with its parameters, bound to an engine."""

    spec: ModuleSpec
    lm: str
    engine: Engine
    renderer: PromptRenderer
    temperature: float
    adapter: str | None = None
    """As the engine knows it."""


@dataclass(frozen=True, slots=True)
class CallContext:
    node: str
    call_key: str
    decoding: Decoding
    temperature: float | None
    seed: Callable[[int], int]
    """Seed of the k-th retry."""
    meter: Meter


async def call_module(
    version: ModuleVersion, inputs: Mapping[str, Any], context: CallContext, record: list[Call]
) -> Mapping[str, Any] | Failure:
    """Call the LM, and append one Call to ``record`` for each sample taken.

    Returns the outputs, or a Failure where the engine failed or no sample parsed.
    Raises: EngineUnavailable, BudgetExhausted: reasons to stop everything, not this run.
    """
    decoding = context.decoding
    retries = version.spec.retries
    if decoding == "constrained" and not version.engine.constrains:
        decoding, retries = "tolerant", max(retries, 1)
    corrections: list[Correction] = []
    failure: Failure | None = None
    for retry in range(retries + 1):
        call = await _sample(version, inputs, context, decoding, retry, corrections)
        if isinstance(call, Failure):
            return call
        record.append(call)
        if call.outputs is not None:
            return {field.name: call.outputs[field.name] for field in version.spec.outputs}
        failure = call.failure
        assert failure is not None
        corrections.append(Correction(call.text, failure.message))
    assert failure is not None
    return failure


async def _sample(
    version: ModuleVersion,
    inputs: Mapping[str, Any],
    context: CallContext,
    decoding: Decoding,
    retry: int,
    corrections: list[Correction],
) -> Call | Failure:
    key = f"{context.call_key}/retry[{retry}]" if retry else context.call_key
    form = version.renderer.form
    temperature = version.temperature if context.temperature is None else context.temperature
    constraint = form.constraint if decoding == "constrained" else None
    sampling = SamplingParams(version.spec.max_tokens, temperature, seed=context.seed(retry), constraint=constraint)
    prompt_ids = version.renderer.render(inputs, corrections)
    started, began = time.time(), time.perf_counter()
    context.meter.admit()
    tokens = 0
    try:
        generation = await version.engine.generate(GenerateRequest(prompt_ids, sampling, version.adapter, key))
        tokens = len(prompt_ids) + len(generation.token_ids)
    except EngineUnavailable:
        raise
    except EngineError as error:
        return Failure("engine", str(error), context.node, key)
    finally:
        context.meter.count(tokens)
    if generation.finish_reason == "abort":
        return Failure("engine", "the engine aborted the call", context.node, key)
    text = version.engine.tokenizer.decode(generation.token_ids)
    outputs, failure = _read(version, generation, text, decoding, context.node, key)
    return Call(
        node=context.node,
        call_key=key,
        module=version.spec.name,
        lm=version.lm,
        engine=version.engine.name,
        model=version.engine.model_id,
        adapter=version.adapter,
        template=version.renderer.template_hash,
        prompt_ids=prompt_ids,
        completion_ids=generation.token_ids,
        logprobs=generation.logprobs,
        temperature=temperature,
        seed=sampling.seed,
        constrained=constraint is not None,
        finish_reason=generation.finish_reason,
        text=text,
        inputs=inputs,
        outputs=outputs,
        failure=failure,
        retry=retry,
        cached_tokens=generation.cached_tokens,
        started=started,
        seconds=time.perf_counter() - began,
        queue_seconds=generation.queue_seconds,
        prefill_seconds=generation.prefill_seconds,
        decode_seconds=generation.decode_seconds,
    )


def _read(
    version: ModuleVersion, generation: Generation, text: str, decoding: Decoding, node: str, key: str
) -> tuple[dict[str, Any] | None, Failure | None]:
    try:
        return version.renderer.form.read(text, tolerant=decoding == "tolerant"), None
    except ParseProblem as problem:
        message = str(problem)
        if generation.finish_reason == "length":
            message += f" (cut at max_tokens = {version.spec.max_tokens})"
        return None, Failure("parse", message, node, key, text)
