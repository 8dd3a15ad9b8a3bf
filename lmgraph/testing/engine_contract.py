"""What every engine promises (lmgraph/runtime/engine.py), checked on a live engine with a handful of calls."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence

from lmgraph.errors import ContextOverflow, EngineError, EngineRejected
from lmgraph.runtime.engine import (
    AdapterEngine,
    ChatMessage,
    Choices,
    Engine,
    GenerateRequest,
    Generation,
    JsonSchema,
    SamplingParams,
    StreamingEngine,
)

TEXTS = ("plain words", "two\nlines", "naïve café ☕ 日本語 👩‍🚀", '{"json": [1, 2]}', " spaces  at both ends ", "")
SCHEMA = '{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}'


async def check_engine(engine: Engine, *, limit_seconds: float = 120.0) -> None:
    """Hold ``engine`` to the protocol, and close it.

    Raises: AssertionError that names the promise; TimeoutError where a call does not return in ``limit_seconds``.
    """
    _require(isinstance(engine, Engine), "it has every member of the Engine protocol")
    async with asyncio.timeout(limit_seconds):
        _check_tokenizer(engine)
        prompt = _prompt(engine)
        await _check_samples(engine, prompt)
        await _check_stream(engine, prompt)
        await _check_seeds(engine, prompt)
        await _check_constraints(engine, prompt)
        await _check_refusals(engine, prompt)
        await _check_cancellation(engine, prompt)
        await engine.aclose()
        await engine.aclose()
        try:
            await engine.generate(GenerateRequest(prompt, SamplingParams(max_tokens=4)))
        except EngineError:
            return
    raise AssertionError("a closed engine refuses requests with an EngineError")


def _check_tokenizer(engine: Engine) -> None:
    tokenizer = engine.tokenizer
    for text in TEXTS:
        _require(tokenizer.decode(tokenizer.encode(text)) == text, f"decode(encode(text)) is the text: {text!r}")
    _require(isinstance(tokenizer.decode([0, 1, 2]), str), "decode never raises")
    rendered = tokenizer.render_chat([ChatMessage("system", "SYSTEM-TEXT"), ChatMessage("user", "USER-TEXT")])
    order = [rendered.find("SYSTEM-TEXT"), rendered.find("USER-TEXT")]
    _require(-1 not in order and order == sorted(order), "the chat template keeps all turns, in order")
    _require(bool(engine.stop_token_ids), "there is at least one stop token")
    specials = {token for token in tokenizer.encode_template(rendered) if token in engine.stop_token_ids}
    hostile = tokenizer.encode(rendered)
    _require(not specials & set(hostile), "encode makes no special tokens from text that looks like them")
    _require(bool(tokenizer.fingerprint), "the tokenizer has a fingerprint")


async def _check_samples(engine: Engine, prompt: Sequence[int]) -> None:
    for max_tokens in (1, 8):
        for temperature in (0.0, 1.0):
            sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=7)
            _check_generation(engine, await engine.generate(GenerateRequest(prompt, sampling)), sampling)
    sampling = SamplingParams(max_tokens=8)
    together = await asyncio.gather(*(engine.generate(GenerateRequest(prompt, sampling)) for _ in range(4)))
    for generation in together:
        _check_generation(engine, generation, sampling)


async def _check_stream(engine: Engine, prompt: Sequence[int]) -> None:
    if not isinstance(engine, StreamingEngine):
        return
    told: list[str] = []

    async def tell(text: str) -> None:
        told.append(text)

    sampling = SamplingParams(max_tokens=8)
    generation = await engine.stream(GenerateRequest(prompt, sampling), tell)
    _check_generation(engine, generation, sampling)
    whole = engine.tokenizer.decode(generation.token_ids)
    _require("".join(told) == whole, f"what a stream tells is the answer: told {told!r} of {whole!r}")


def _check_generation(engine: Engine, generation: Generation, sampling: SamplingParams) -> None:
    ids = generation.token_ids
    _require(all(isinstance(token, int) and token >= 0 for token in ids), "token ids are whole numbers from 0")
    if engine.token_exact:  # the ids of a text engine are its own, and none of the model's tokens
        _require(len(ids) <= sampling.max_tokens, f"at most max_tokens = {sampling.max_tokens} tokens, got {len(ids)}")
        _require(
            len(generation.logprobs) == len(ids),
            f"one logprob a token: {len(generation.logprobs)} for {len(ids)} tokens",
        )
        fine = all(math.isfinite(value) and value <= 1e-5 for value in generation.logprobs)
        _require(fine, "logprobs are finite and not above 0")
    stops = engine.stop_token_ids if sampling.stop_token_ids is None else sampling.stop_token_ids
    inside = [index for index, token in enumerate(ids) if token in stops]
    if generation.finish_reason == "stop" and engine.token_exact:
        _require(inside == [len(ids) - 1], "finish_reason `stop`: the last token is the one stop token")
    if generation.finish_reason == "length":
        _require(not inside, "finish_reason `length`: there is no stop token")
        full = len(ids) == sampling.max_tokens or not engine.token_exact
        _require(full, "finish_reason `length`: there are max_tokens tokens")


async def _check_seeds(engine: Engine, prompt: Sequence[int]) -> None:
    seeds = (0, 3, 2**62) if engine.honours_seed else ()
    for temperature, seed in ((0.0, 0), *((1.0, seed) for seed in seeds)):
        request = GenerateRequest(prompt, SamplingParams(max_tokens=8, temperature=temperature, seed=seed))
        first, second = await engine.generate(request), await engine.generate(request)
        _require(
            first.token_ids == second.token_ids,
            f"equal requests give equal tokens (temperature {temperature}, seed {seed})",
        )


async def _check_constraints(engine: Engine, prompt: Sequence[int]) -> None:
    if not engine.constrains:
        return
    options = ("Zebra crossing", "Zen", "yes")
    for temperature in (0.0, 1.0):
        sampling = SamplingParams(max_tokens=32, temperature=temperature, constraint=Choices(options))
        text = engine.tokenizer.decode((await engine.generate(GenerateRequest(prompt, sampling))).token_ids)
        _require(text in options, f"a completion held to choices is one of them, got {text!r}")
    sampling = SamplingParams(max_tokens=64, constraint=JsonSchema(SCHEMA))
    text = engine.tokenizer.decode((await engine.generate(GenerateRequest(prompt, sampling))).token_ids)
    try:
        fits = isinstance(json.loads(text)["ok"], bool)
    except (ValueError, KeyError, TypeError):
        fits = False
    _require(fits, f"a completion held to a JSON Schema is valid under it, got {text!r}")


async def _check_refusals(engine: Engine, prompt: Sequence[int]) -> None:
    too_long = SamplingParams(max_tokens=engine.context_length)
    try:
        await engine.generate(GenerateRequest(prompt, too_long))
    except ContextOverflow:
        pass
    else:
        raise AssertionError("prompt and max_tokens over the context length raise ContextOverflow")
    if isinstance(engine, AdapterEngine):
        try:
            await engine.generate(GenerateRequest(prompt, SamplingParams(max_tokens=4), adapter="nobody@v1"))
        except EngineRejected:
            return
        raise AssertionError("an adapter that is not loaded raises EngineRejected")


async def _check_cancellation(engine: Engine, prompt: Sequence[int]) -> None:
    request = GenerateRequest(prompt, SamplingParams(max_tokens=64, temperature=1.0))
    tasks = [asyncio.create_task(engine.generate(request)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    error = tasks[2].exception()
    _require(error is None, f"cancelling two requests leaves a third as it is, got {error!r}")
    sampling = SamplingParams(max_tokens=4)
    _check_generation(engine, await engine.generate(GenerateRequest(prompt, sampling)), sampling)


def _prompt(engine: Engine) -> list[int]:
    messages = [ChatMessage("system", "Answer briefly."), ChatMessage("user", "Name a colour.")]
    return engine.tokenizer.encode_template(engine.tokenizer.render_chat(messages))


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(f"An engine promises: {promise}.")
