"""Adapters that come and go on a real SGLang server while calls are under way: each call is answered by its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from lmgraph.engines.sglang import open_sglang_engine
from lmgraph.engines.sglang.engine import SglangEngine
from lmgraph.runtime.engine import GenerateRequest, Generation, SamplingParams
from support.real_logprobs import reference_model
from support.tiny_model import make_adapter

pytestmark = [pytest.mark.model, pytest.mark.slow]

SWAPS = 200
CONTENTS = 20
"""Different weights; each comes back under a new name."""
CALLS = 2
"""Of each version, while the one before it is at work too."""
TOKENS = 3
NATS = 1e-3


@pytest.fixture
async def engine(sglang_url: str, tmp_path: Path) -> AsyncIterator[SglangEngine]:
    folder = str(tmp_path / "adapters")
    opened = await asyncio.to_thread(open_sglang_engine, "", urls=(sglang_url,), adapter_folder=folder)
    yield opened
    await opened.aclose()


async def test_200_swaps_under_load_and_no_call_of_a_wrong_version(engine: SglangEngine, tmp_path: Path) -> None:
    first = make_adapter(engine.model_folder, tmp_path / "0", rank=1)
    folders = [first, *(variant(first, tmp_path / str(seed), seed) for seed in range(1, CONTENTS))]
    ids = engine.tokenizer.encode_template("<|im_start|>user\n") + engine.tokenizer.encode("Name three colours.")
    sampling = SamplingParams(max_tokens=TOKENS, temperature=1.0, stop_token_ids=())
    done: list[list[Generation]] = []
    before: list[asyncio.Task[Generation]] = []
    for version in range(SWAPS):
        await engine.load_adapter(f"swap@v{version}", folders[version % CONTENTS])
        request = GenerateRequest(ids, sampling, f"swap@v{version}")
        calls = [asyncio.create_task(engine.generate(request)) for _ in range(CALLS)]
        if before:
            done.append(await asyncio.gather(*before))
            await engine.unload_adapter(f"swap@v{version - 1}")
        before = calls
    done.append(await asyncio.gather(*before))
    await engine.unload_adapter(f"swap@v{SWAPS - 1}")

    model = reference_model(engine.model_folder, first)
    told_apart = 0
    for content, folder in enumerate(folders):
        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        own = [one for version in range(content, SWAPS, CONTENTS) for one in done[version]]
        assert max(gaps(model, ids, own)) < NATS, f"calls of another version than {content}"
        others = [one for version in range(content + 1, SWAPS, CONTENTS) for one in done[version]]
        told_apart += sum(gap > 10 * NATS for gap in gaps(model, ids, others))
    assert told_apart > 0.95 * (SWAPS - CONTENTS) * CALLS, "a neighbour's weights would have been seen"


def variant(folder: Path, target: Path, seed: int) -> Path:
    """The adapter with other weights."""
    target.mkdir()
    shutil.copy(folder / "adapter_config.json", target)
    generator = torch.Generator().manual_seed(seed)
    weights = load_file(folder / "adapter_model.safetensors")
    drawn = {name: torch.randn(value.shape, generator=generator) * 0.05 for name, value in weights.items()}
    save_file(drawn, target / "adapter_model.safetensors", {"format": "pt"})
    return target


def gaps(model: Any, prompt_ids: Sequence[int], done: Sequence[Generation]) -> list[float]:
    """For each completion, all of one length, the largest difference between the engine's logprobs and the model's."""
    rows = torch.tensor([[*prompt_ids, *one.token_ids] for one in done])
    start = len(prompt_ids)
    with torch.inference_mode():
        logprobs = model(rows).logits[:, start - 1 : -1].log_softmax(-1)
    found = logprobs.gather(2, rows[:, start:, None])[..., 0]
    return (found - torch.tensor([one.logprobs for one in done])).abs().amax(1).tolist()
