"""The SGLang engine on a real server, in float32, token by token against transformers and PEFT."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmgraph.engines.http.transport import Transport
from lmgraph.engines.sglang import open_sglang_engine
from lmgraph.engines.sglang.engine import SglangEngine
from lmgraph.engines.sglang.known import is_healthy
from lmgraph.runtime.engine import Choices, Constraint, GenerateRequest, JsonSchema, Regex, SamplingParams
from lmgraph.testing import check_engine
from support.real_logprobs import reference_model, scored, widest
from support.tiny_model import make_adapter

pytestmark = [pytest.mark.model, pytest.mark.slow]

NATS = 1e-3
SCHEMA = {
    "type": "object",
    "properties": {
        "sure": {"type": "boolean"},
        "count": {"type": "integer", "minimum": 3, "maximum": 5},
        "word": {"type": "string", "minLength": 1, "maxLength": 8},
        "list": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["sure", "count", "word", "list"],
    "additionalProperties": False,
}
LABELS = ("a\nb", "c\\d", "e/f", "ünï ☕", "x\ty", 'q"uo', "{br}[ack]", "^$|*+?.()", "<|im_end|>")


@pytest.fixture
async def engine(sglang_url: str, tmp_path: Path) -> AsyncIterator[SglangEngine]:
    folder = str(tmp_path / "adapters")
    opened = await asyncio.to_thread(open_sglang_engine, "", urls=(sglang_url,), adapter_folder=folder)
    yield opened
    await opened.aclose()


def prompt(engine: SglangEngine, text: str) -> list[int]:
    return engine.tokenizer.encode_template("<|im_start|>user\n") + engine.tokenizer.encode(text)


async def test_it_keeps_the_contract_of_engines(engine: SglangEngine) -> None:
    assert is_healthy(engine.urls[0])
    assert await engine.health() == {engine.urls[0]: True}
    await check_engine(engine, limit_seconds=900)


async def test_logprobs_of_50_prompts_are_those_of_transformers(engine: SglangEngine) -> None:
    sampling = SamplingParams(max_tokens=8, temperature=1.0)
    prompts = [prompt(engine, f"Say something about the number {number}.") for number in range(50)]
    done = await asyncio.gather(*(engine.generate(GenerateRequest(one, sampling)) for one in prompts))
    model = reference_model(engine.model_folder)
    gaps = [widest(one.logprobs, scored(model, ids, one)) for ids, one in zip(prompts, done, strict=True)]
    assert max(gaps) < NATS


async def test_a_stop_token_is_part_of_what_was_sampled(engine: SglangEngine) -> None:
    ids = prompt(engine, "Write a list of words.")
    comma = engine.tokenizer.encode(",")[0]
    sampling = SamplingParams(max_tokens=200, stop_token_ids=(comma, engine.tokenizer.encode("\n")[0]))
    done = await engine.generate(GenerateRequest(ids, sampling))
    assert done.finish_reason == "stop"
    assert done.token_ids[-1] in (sampling.stop_token_ids or ())
    assert len(done.logprobs) == len(done.token_ids)
    assert widest(done.logprobs, scored(reference_model(engine.model_folder), ids, done)) < NATS


async def test_a_streamed_answer_is_the_one_that_comes_whole(engine: SglangEngine, tmp_path: Path) -> None:
    await engine.load_adapter("test@v1", make_adapter(engine.model_folder, tmp_path / "adapter", seed=3, rank=16))
    ids = prompt(engine, "Say hello with emoji ☕ 👩‍🚀 and in 日本語.<|im_end|>\n")
    held = JsonSchema(json.dumps(SCHEMA))
    for adapter, constraint in ((None, None), ("test@v1", None), (None, held)):
        request = GenerateRequest(ids, SamplingParams(max_tokens=48, constraint=constraint), adapter)
        told: list[str] = []

        async def tell(text: str, told: list[str] = told) -> None:
            told.append(text)

        whole, streamed = await engine.generate(request), await engine.stream(request, tell)
        assert (streamed.token_ids, streamed.finish_reason) == (whole.token_ids, whole.finish_reason)
        assert max(abs(a - b) for a, b in zip(streamed.logprobs, whole.logprobs, strict=True)) < NATS
        assert "".join(told) == engine.tokenizer.decode(whole.token_ids)
        assert len(told) > len(whole.token_ids) / 4
    await engine.unload_adapter("test@v1")


async def test_a_stream_that_nobody_reads_on_ends_at_the_server(engine: SglangEngine) -> None:
    began = asyncio.Event()

    async def tell(text: str) -> None:
        began.set()

    ids = prompt(engine, "Count from one to a thousand.<|im_end|>\n")
    sampling = SamplingParams(max_tokens=7000, stop_token_ids=())
    task = asyncio.create_task(engine.stream(GenerateRequest(ids, sampling), tell))
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    transport = Transport()
    running = True
    for _ in range(300):  # the request would take longer than these waits
        loads = (await transport.get(f"{engine.urls[0]}/v1/loads", {}))["loads"]
        running = any(load["num_running_reqs"] for load in loads)
        if not running:
            break
        await asyncio.sleep(0.2)
    await transport.aclose()
    assert not running


async def test_two_adapters_and_the_base_in_one_batch(engine: SglangEngine, tmp_path: Path) -> None:
    folders = [make_adapter(engine.model_folder, tmp_path / f"{seed}", seed=seed, rank=16) for seed in (1, 2)]
    names: list[str | None] = [None]
    for seed, folder in enumerate(folders, 1):
        names.append(f"test{seed}@v1")
        await engine.load_adapter(f"test{seed}@v1", folder)
    sampling = SamplingParams(max_tokens=8, temperature=1.0)
    ids = prompt(engine, "Name three colours.")
    requests = [GenerateRequest(ids, sampling, name) for name in names * 4]
    done = await asyncio.gather(*map(engine.generate, requests))
    for name, folder in zip(names, [None, *folders], strict=True):
        model = reference_model(engine.model_folder, folder)
        for request, generation in zip(requests, done, strict=True):
            gap = widest(generation.logprobs, scored(model, ids, generation))
            assert gap < NATS if request.adapter == name else gap > 10 * NATS
    for name in names[1:]:
        assert name is not None
        await engine.unload_adapter(name)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_json_schema_is_kept_to(engine: SglangEngine, temperature: float) -> None:
    sampling = SamplingParams(max_tokens=160, temperature=temperature, constraint=JsonSchema(json.dumps(SCHEMA)))
    ids = prompt(engine, "Describe a fruit as JSON.<|im_end|>\n")
    done = await asyncio.gather(*(engine.generate(GenerateRequest(ids, sampling)) for _ in range(4)))
    for one in done:
        value = json.loads(engine.tokenizer.decode(one.token_ids))
        assert list(value) == list(SCHEMA["properties"])
        assert type(value["sure"]) is bool
        assert 3 <= value["count"] <= 5
        assert 1 <= len(value["word"]) <= 8
        assert 1 <= len(value["list"]) <= 3
        assert set(value["list"]) <= {"a", "b"}


async def test_labels_and_patterns_are_kept_to(engine: SglangEngine) -> None:
    """In xgrammar's dialect: what regular expressions mean elsewhere, what JSON escapes, and text of other scripts."""
    ids = prompt(engine, "Say something.<|im_end|>\n")
    constraints: list[Constraint] = [Choices((label,)) for label in LABELS]
    constraints += [
        Choices(LABELS),
        Regex(r"-?(0|[1-9][0-9]{0,17})"),
        Regex(r"\S(?s:.{2,9})"),
        Regex(r"(\S(?s:.{0,4}))?"),
    ]
    for temperature in (0.0, 1.0):
        params = [SamplingParams(48, temperature, constraint=constraint) for constraint in constraints]
        done = await asyncio.gather(*(engine.generate(GenerateRequest(ids, sampling)) for sampling in params))
        for constraint, one in zip(constraints, done, strict=True):
            text = engine.tokenizer.decode(one.token_ids)
            if isinstance(constraint, Choices):
                assert text in constraint.options
            elif isinstance(constraint, Regex):
                assert re.fullmatch(constraint.pattern, text)


async def test_a_repeated_prefix_is_cached(engine: SglangEngine) -> None:
    shared = prompt(engine, "A long text that every call begins with. " * 40)
    sampling = SamplingParams(max_tokens=2)
    await engine.generate(GenerateRequest(shared, sampling))
    requests = [GenerateRequest([*shared, *engine.tokenizer.encode(f" {number}")], sampling) for number in range(8)]
    done = await asyncio.gather(*map(engine.generate, requests))
    cached = sum(one.cached_tokens for one in done)
    assert cached > 0.8 * sum(len(request.prompt_ids) for request in requests)
