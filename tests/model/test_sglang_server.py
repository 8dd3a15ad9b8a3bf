"""The SGLang engine against a real server, where one is named: LMGRAPH_TEST_SGLANG=http://127.0.0.1:30000.

The server must run in float32, with the small model and adapters of rank 16 (`lmgraph engine up --dtype float32`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgraph.engines.sglang import open_sglang_engine
from lmgraph.engines.sglang.engine import SglangEngine
from lmgraph.runtime.engine import GenerateRequest, Generation, SamplingParams
from lmgraph.testing import check_engine
from support.tiny_model import make_adapter

URL = os.environ.get("LMGRAPH_TEST_SGLANG", "")
pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(not URL, reason="NO REAL SGLANG SERVER IS TESTED: LMGRAPH_TEST_SGLANG names none"),
]
NATS = 1e-3


@pytest.fixture
async def engine() -> AsyncIterator[SglangEngine]:
    opened = await asyncio.to_thread(open_sglang_engine, "", urls=(URL,))
    yield opened
    await opened.aclose()


def prompt(engine: SglangEngine, text: str) -> list[int]:
    return engine.tokenizer.encode_template("<|im_start|>user\n") + engine.tokenizer.encode(text)


def scored(model: Any, prompt_ids: Sequence[int], generation: Generation) -> list[float]:
    """What ``model`` gives the sampled tokens, in nats."""
    import torch

    ids = torch.tensor([[*prompt_ids, *generation.token_ids]])
    with torch.inference_mode():
        logprobs = model(ids).logits[0].float().log_softmax(-1)
    start = len(prompt_ids) - 1
    return [float(logprobs[start + place, token]) for place, token in enumerate(generation.token_ids)]


def widest(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


def base_model(engine: SglangEngine) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(engine.model_folder, dtype=torch.float32).eval()


async def test_it_keeps_the_contract_of_engines(engine: SglangEngine) -> None:
    await check_engine(engine, limit_seconds=900)


async def test_logprobs_of_50_prompts_are_those_of_transformers(engine: SglangEngine) -> None:
    sampling = SamplingParams(max_tokens=8, temperature=1.0)
    prompts = [prompt(engine, f"Say something about the number {number}.") for number in range(50)]
    done = await asyncio.gather(*(engine.generate(GenerateRequest(one, sampling)) for one in prompts))
    model = base_model(engine)
    gaps = [widest(one.logprobs, scored(model, ids, one)) for ids, one in zip(prompts, done, strict=True)]
    assert max(gaps) < NATS


async def test_two_adapters_and_the_base_in_one_batch(engine: SglangEngine, tmp_path: Path) -> None:
    from peft import PeftModel

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
        model = base_model(engine)
        if folder is not None:
            model = PeftModel.from_pretrained(model, folder).eval()
        for request, generation in zip(requests, done, strict=True):
            if request.adapter == name:
                assert widest(generation.logprobs, scored(model, ids, generation)) < NATS
    for name in names[1:]:
        assert name is not None
        await engine.unload_adapter(name)


async def test_a_repeated_prefix_is_cached(engine: SglangEngine) -> None:
    shared = prompt(engine, "A long text that every call begins with. " * 40)
    sampling = SamplingParams(max_tokens=2)
    await engine.generate(GenerateRequest(shared, sampling))
    requests = [GenerateRequest([*shared, *engine.tokenizer.encode(f" {number}")], sampling) for number in range(8)]
    done = await asyncio.gather(*map(engine.generate, requests))
    cached = sum(one.cached_tokens for one in done)
    assert cached > 0.8 * sum(len(request.prompt_ids) for request in requests)
