"""The local engine on the real small model, in float32, token by token against transformers and PEFT."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.engines.local.supply import resolve
from lmgraph.runtime.engine import (
    ChatMessage,
    Choices,
    Constraint,
    GenerateRequest,
    Generation,
    JsonSchema,
    SamplingParams,
)
from support.tiny_model import make_adapter

torch = pytest.importorskip("torch")

from lmgraph.engines.local.engine import LocalEngine  # noqa: E402

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
INSTRUCTION = "You label requests to a voice assistant. Answer with one short label and nothing else. Be exact."
REQUESTS = (
    "play some jazz",
    "What will the weather be like in Oslo on the 12th of May, and should I take an umbrella with me?",
    "add this song to my road trip list",
    "1. one 2. two  12 345\n\n3.",
)
OTHER_REQUESTS = ("Name the capital of France, then of Norway.",)
LABELS = ("PlayMusic", "GetWeather", "AddToPlaylist", "BookRestaurant")
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "sunny": {"type": "boolean"}},
    "required": ["city", "sunny"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model_folder() -> Path:
    return resolve(MODEL)  # not pulled: an error that says how, never a silent skip


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> LocalEngine:
    return open_local_engine(MODEL, dtype="float32")


@pytest.fixture(scope="module")
def unshared(model_folder: Path) -> LocalEngine:
    return open_local_engine(MODEL, dtype="float32", share_prefixes=False)


@pytest.fixture(scope="module")
def reference(model_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def prompts(engine: LocalEngine) -> list[list[int]]:
    tokenizer = engine.tokenizer
    chats = [[ChatMessage("system", INSTRUCTION), ChatMessage("user", request)] for request in REQUESTS]
    chats += [[ChatMessage("user", request)] for request in OTHER_REQUESTS]
    return [tokenizer.encode_template(tokenizer.render_chat(chat)) for chat in chats]


async def generate_all(
    engine: LocalEngine, prompts: list[list[int]], sampling: list[SamplingParams], adapter: str | None = None
) -> list[Generation]:
    requests = [GenerateRequest(prompt, params, adapter) for prompt, params in zip(prompts, sampling, strict=True)]
    return list(await asyncio.gather(*(engine.generate(request) for request in requests)))


def teacher_forced(model: Any, prompt: list[int], completion: list[int], temperature: float = 1.0) -> list[float]:
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + completion])).logits[0].float() / temperature
    logprobs = torch.log_softmax(logits, dim=-1)
    return [float(logprobs[len(prompt) - 1 + index, token]) for index, token in enumerate(completion)]


def test_the_tokenizer_splits_digits(engine: LocalEngine) -> None:
    digits = engine.tokenizer.encode("  12 345\n\n1.")
    assert engine.tokenizer.decode(digits) == "  12 345\n\n1."
    assert len(engine.tokenizer.encode("12345")) == 5
    assert engine.stop_token_ids == (2, 0)
    assert engine.context_length == 8192


async def test_greedy_equals_transformers_generate(
    engine: LocalEngine, reference: Any, prompts: list[list[int]]
) -> None:
    assert engine.lean
    answers = await generate_all(engine, prompts, [SamplingParams(max_tokens=8)] * len(prompts))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            output = reference.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=[2, 0]
            )
        assert answer.token_ids == [int(token) for token in output[0, len(prompt) :]]
        assert answer.logprobs == pytest.approx(teacher_forced(reference, prompt, answer.token_ids), abs=1e-4)


async def test_samples_and_their_logprobs_do_not_depend_on_the_batch(
    engine: LocalEngine, reference: Any, prompts: list[list[int]]
) -> None:
    sampling = [
        SamplingParams(max_tokens=6, temperature=(0.7, 1.0)[index % 2], seed=index) for index in range(len(prompts))
    ]
    together = await generate_all(engine, prompts * 2, sampling * 2)
    for index, (prompt, params) in enumerate(zip(prompts, sampling, strict=True)):
        (alone,) = await generate_all(engine, [prompt], [params])
        assert together[index].token_ids == alone.token_ids
        assert together[index].token_ids == together[index + len(prompts)].token_ids
        expected = teacher_forced(reference, prompt, alone.token_ids, params.temperature)
        assert together[index].logprobs == pytest.approx(expected, abs=1e-4)


async def test_prefix_sharing_changes_nothing(
    engine: LocalEngine, unshared: LocalEngine, prompts: list[list[int]]
) -> None:
    greedy = [SamplingParams(max_tokens=8)] * len(prompts)
    shared_answers = await generate_all(engine, prompts, greedy)
    own_answers = await generate_all(unshared, prompts, greedy)
    assert [answer.token_ids for answer in shared_answers] == [answer.token_ids for answer in own_answers]
    assert sum(answer.cached_tokens for answer in shared_answers) > 60


@pytest.mark.parametrize("constraint", [Choices(LABELS), JsonSchema(json.dumps(SCHEMA))], ids=["choices", "json"])
async def test_constrained_outputs_are_always_valid(
    engine: LocalEngine, prompts: list[list[int]], constraint: Constraint
) -> None:
    sampling = [
        SamplingParams(max_tokens=48, temperature=1.0 * (seed % 2), seed=seed, constraint=constraint)
        for seed in range(2 * len(prompts))
    ]
    for answer in await generate_all(engine, prompts * 2, sampling):
        text = engine.tokenizer.decode(answer.token_ids)
        assert answer.finish_reason == "stop"
        if isinstance(constraint, Choices):
            assert text in LABELS
        else:
            value = json.loads(text)
            assert set(value) == {"city", "sunny"}
            assert len(value["city"]) <= 12
            assert isinstance(value["sunny"], bool)


async def test_adapter_logprobs_equal_peft(
    engine: LocalEngine, model_folder: Path, prompts: list[list[int]], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = make_adapter(model_folder, tmp_path / "adapter", rank=8)
    await engine.load_adapter("test@v1", folder)
    sampling = [SamplingParams(max_tokens=8, temperature=1.0, seed=seed) for seed in range(2)]
    tuned = await generate_all(engine, prompts[:2], sampling, "test@v1")
    base = await generate_all(engine, prompts[:2], sampling)
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    peft_model: Any = PeftModel.from_pretrained(model, folder).eval()
    for prompt, answer, other in zip(prompts, tuned, base, strict=False):
        assert answer.logprobs == pytest.approx(teacher_forced(peft_model, prompt, answer.token_ids), abs=1e-4)
        assert answer.logprobs[0] != pytest.approx(other.logprobs[0], abs=1e-3)
    await engine.unload_adapter("test@v1")


async def test_transformers_own_forward_pass_agrees(
    engine: LocalEngine, model_folder: Path, prompts: list[list[int]]
) -> None:
    other = open_local_engine(MODEL, dtype="float32", lean=False)
    sampling = [SamplingParams(max_tokens=6, temperature=1.0 * (seed % 2), seed=seed) for seed in range(len(prompts))]
    for ours, theirs in zip(
        await generate_all(engine, prompts, sampling), await generate_all(other, prompts, sampling), strict=True
    ):
        assert ours.token_ids == theirs.token_ids
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    await other.aclose()
