"""The local engine on a tiny model: exact against transformers, whatever the batch; never silent, never stuck."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.errors import ConfigError, ContextOverflow, EngineError, EngineRejected, EngineUnavailable
from lmgraph.runtime.engine import (
    AdapterEngine,
    Engine,
    GenerateRequest,
    Generation,
    SamplingParams,
    TrainableEngine,
)
from lmgraph.testing import check_engine
from lmgraph_optimizers.mmgrpo.mixed import round_products
from support.tiny_model import VOCABULARY_SIZE, make_tiny_model

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import LlamaForCausalLM  # noqa: E402

from lmgraph.engines.local.engine import LocalEngine  # noqa: E402
from lmgraph.engines.local.llama import LlamaModel  # noqa: E402
from lmgraph.engines.local.plan import common_length, find_families  # noqa: E402
from lmgraph.engines.local.weights import choose_dtype  # noqa: E402

GREEDY = SamplingParams(max_tokens=12, stop_token_ids=(2,))
SAMPLED = SamplingParams(max_tokens=12, temperature=1.0, stop_token_ids=(2,))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=[True, False], ids=["lean", "transformers"])
async def engine(model_folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[LocalEngine]:
    opened = open_local_engine(str(model_folder), dtype="float32", lean=request.param)
    yield opened
    await opened.aclose()


@pytest.fixture(scope="module")
def reference(model_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()


def make_prompts(count: int, *, shared: int = 0, seed: int = 0) -> list[list[int]]:
    numbers = random.Random(seed)
    beginning = [numbers.randrange(3, VOCABULARY_SIZE) for _ in range(shared)]
    return [
        beginning + [numbers.randrange(3, VOCABULARY_SIZE) for _ in range(numbers.randrange(1, 40))]
        for _ in range(count)
    ]


def seeded(seed: int, **changes: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 12, "temperature": 1.0, "stop_token_ids": (2,), "seed": seed, **changes})


async def generate_all(
    engine: LocalEngine, prompts: list[list[int]], sampling: SamplingParams | list[SamplingParams]
) -> list[Generation]:
    each = sampling if isinstance(sampling, list) else [sampling] * len(prompts)
    requests = [GenerateRequest(prompt, params) for prompt, params in zip(prompts, each, strict=True)]
    return list(await asyncio.gather(*(engine.generate(request) for request in requests)))


def greedy_reference(model: Any, prompt: list[int], tokens: int) -> list[int]:
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=2,
        )
    return [int(token) for token in output[0, len(prompt) :]]


def reference_logprobs(model: Any, prompt: list[int], completion: list[int], temperature: float = 1.0) -> list[float]:
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + completion])).logits[0].float() / temperature
    logprobs = torch.log_softmax(logits, dim=-1)
    return [float(logprobs[len(prompt) - 1 + index, token]) for index, token in enumerate(completion)]


async def test_it_is_every_kind_of_engine(engine: LocalEngine, model_folder: Path) -> None:
    assert isinstance(engine, Engine)
    assert isinstance(engine, AdapterEngine)
    assert isinstance(engine, TrainableEngine)
    assert (engine.name, engine.model_id, engine.model_folder) == ("local", model_folder.name, model_folder)
    assert engine.stop_token_ids == (2, 0)
    assert engine.context_length == 512
    assert engine.token_exact
    assert engine.honours_seed
    assert engine.constrains


async def test_it_keeps_the_protocol(engine: LocalEngine) -> None:
    await check_engine(engine)


@pytest.mark.parametrize("shared", [0, 60])
async def test_greedy_equals_transformers_in_mixed_batches(engine: LocalEngine, reference: Any, shared: int) -> None:
    prompts = make_prompts(9, shared=shared)
    answers = await generate_all(engine, prompts, GREEDY)
    assert [answer.token_ids for answer in answers] == [greedy_reference(reference, prompt, 12) for prompt in prompts]


async def test_logprobs_equal_transformers(engine: LocalEngine, reference: Any) -> None:
    prompts = make_prompts(5) + make_prompts(4, shared=50)
    sampling = [seeded(index, temperature=(0.0, 0.7, 1.0)[index % 3]) for index in range(len(prompts))]
    answers = await generate_all(engine, prompts, sampling)
    for prompt, params, answer in zip(prompts, sampling, answers, strict=True):
        expected = reference_logprobs(reference, prompt, answer.token_ids, params.temperature or 1.0)
        assert answer.logprobs == pytest.approx(expected, abs=1e-4)


async def test_samples_do_not_depend_on_the_batch(engine: LocalEngine) -> None:
    prompts = make_prompts(6, shared=20) + make_prompts(6, seed=1)
    sampling = [seeded(index, top_p=(1.0, 0.8)[index % 2], top_k=(0, 50)[index % 2]) for index in range(12)]
    together = await generate_all(engine, prompts, sampling)
    alone = [
        (await generate_all(engine, [prompt], params))[0] for prompt, params in zip(prompts, sampling, strict=True)
    ]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]


async def test_samples_of_one_prompt_differ_by_seed(engine: LocalEngine) -> None:
    (prompt,) = make_prompts(1, shared=30)
    answers = await generate_all(engine, [prompt] * 8, [seeded(seed) for seed in range(8)])
    assert len({tuple(answer.token_ids) for answer in answers}) > 4
    assert [answer.cached_tokens for answer in answers].count(len(prompt)) == 7


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
async def test_prefix_sharing_changes_nothing(model_folder: Path, sampling: SamplingParams) -> None:
    prompts = make_prompts(6, shared=64) + make_prompts(3, shared=40, seed=2) + make_prompts(2, seed=3)
    answers: list[list[Generation]] = []
    for share in (True, False):
        engine = open_local_engine(str(model_folder), dtype="float32", share_prefixes=share)
        answers.append(await generate_all(engine, prompts, sampling))
        await engine.aclose()
    assert [answer.token_ids for answer in answers[0]] == [answer.token_ids for answer in answers[1]]
    assert sum(answer.cached_tokens for answer in answers[0]) >= 5 * 64 + 2 * 40
    assert sum(answer.cached_tokens for answer in answers[1]) == 0


async def test_rows_end_at_their_own_stop_tokens_and_lengths(engine: LocalEngine) -> None:
    prompts = make_prompts(8)
    free = await generate_all(engine, prompts, [seeded(i, max_tokens=20 - i, stop_token_ids=()) for i in range(8)])
    assert [len(answer.token_ids) for answer in free] == [20 - i for i in range(8)]
    assert {answer.finish_reason for answer in free} == {"length"}
    stops = [answer.token_ids[index % 4] for index, answer in enumerate(free)]
    sampling = [seeded(i, max_tokens=20 - i, stop_token_ids=(stops[i],)) for i in range(8)]
    stopped = await generate_all(engine, prompts, sampling)
    for before, answer, stop in zip(free, stopped, stops, strict=True):
        assert answer.token_ids == before.token_ids[: before.token_ids.index(stop) + 1]
        assert answer.finish_reason == "stop"
        assert len(answer.logprobs) == len(answer.token_ids)


async def test_small_batches_give_the_same_answers(model_folder: Path, engine: LocalEngine) -> None:
    prompts = make_prompts(7, shared=30)
    narrow = open_local_engine(str(model_folder), dtype="float32", max_batch=2, max_batch_tokens=100)
    expected = await generate_all(engine, prompts, SAMPLED)
    answers = await generate_all(narrow, prompts, SAMPLED)
    await narrow.aclose()
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in expected]


@pytest.mark.parametrize(
    ("prompt", "sampling", "error"),
    [
        ([], GREEDY, EngineRejected),
        ([VOCABULARY_SIZE], GREEDY, EngineRejected),
        ([-1], GREEDY, EngineRejected),
        ([5], SamplingParams(max_tokens=0), EngineRejected),
        ([5], SamplingParams(temperature=-1.0), EngineRejected),
        ([5], SamplingParams(temperature=float("nan")), EngineRejected),
        ([5], SamplingParams(top_p=0.0), EngineRejected),
        ([5], SamplingParams(stop_token_ids=(-1,)), EngineRejected),
        ([5] * 500, SamplingParams(max_tokens=13), ContextOverflow),
    ],
)
async def test_impossible_requests_are_refused(
    engine: LocalEngine, prompt: list[int], sampling: SamplingParams, error: type[EngineError]
) -> None:
    with pytest.raises(error):
        await engine.generate(GenerateRequest(prompt, sampling))
    with pytest.raises(EngineRejected, match="not loaded"):
        await engine.generate(GenerateRequest([5], GREEDY, adapter="none@v1"))


async def test_the_whole_context_can_be_used(engine: LocalEngine, reference: Any) -> None:
    prompt = [3 + index % 300 for index in range(400)]
    (answer,) = await generate_all(engine, [prompt], SamplingParams(max_tokens=112, stop_token_ids=()))
    assert len(answer.token_ids) == 112
    assert answer.logprobs == pytest.approx(reference_logprobs(reference, prompt, answer.token_ids), abs=1e-4)


async def test_a_cancelled_request_is_dropped_and_others_go_on(engine: LocalEngine) -> None:
    prompts = make_prompts(4)
    endless = seeded(0, max_tokens=400, stop_token_ids=())
    tasks = [asyncio.create_task(engine.generate(GenerateRequest(prompt, endless))) for prompt in prompts]
    await asyncio.sleep(0.05)
    for task in tasks[:3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results[:3]] == [asyncio.CancelledError] * 3
    assert isinstance(results[3], Generation)
    assert len(results[3].token_ids) == 400


async def test_a_failing_model_fails_its_requests_only(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_memory(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory")

    with monkeypatch.context() as patched:
        patched.setattr(LlamaModel, "forward", run_out_of_memory)
        patched.setattr(LlamaForCausalLM, "forward", run_out_of_memory)
        with pytest.raises(EngineError, match="not enough memory") as caught:
            await engine.generate(GenerateRequest([5, 6], GREEDY))
        assert "max_batch" in str(caught.value)
    assert (await engine.generate(GenerateRequest([5, 6], GREEDY))).token_ids


async def test_closing_fails_what_is_under_way(model_folder: Path) -> None:
    engine = open_local_engine(str(model_folder), dtype="float32", max_batch=2)
    endless = seeded(0, max_tokens=400, stop_token_ids=())
    tasks = [asyncio.create_task(engine.generate(GenerateRequest(p, endless))) for p in make_prompts(4)]
    await asyncio.sleep(0.05)
    await engine.aclose()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, EngineError)
    with pytest.raises(EngineError, match="closed"):
        await engine.generate(GenerateRequest([5], GREEDY))
    await engine.aclose()


def test_one_engine_serves_event_loops_in_turn(model_folder: Path) -> None:
    engine = open_local_engine(str(model_folder), dtype="float32")
    first = asyncio.run(generate_all(engine, [[5, 6, 7]], GREEDY))
    second = asyncio.run(generate_all(engine, [[5, 6, 7]], GREEDY))
    asyncio.run(engine.aclose())
    assert first[0].token_ids == second[0].token_ids


@pytest.mark.parametrize("lean", [True, False])
async def test_bfloat16_is_near_float32(model_folder: Path, reference: Any, lean: bool) -> None:
    engine = open_local_engine(str(model_folder), dtype="bfloat16", threads=1, lean=lean)
    assert engine.lean == lean
    assert engine.weights.dtype == torch.bfloat16
    prompts = make_prompts(3, shared=20)
    answers = await generate_all(engine, prompts, SAMPLED)
    await engine.aclose()
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = reference_logprobs(reference, prompt, answer.token_ids)
        gaps = [abs(ours - theirs) for ours, theirs in zip(answer.logprobs, expected, strict=True)]
        assert sum(gaps) / len(gaps) < 0.2
        assert max(gaps) > 1e-4, "it is not float32 by mistake"


async def test_mixed_rounds_in_the_products_alone(model_folder: Path, reference: Any) -> None:
    engine = open_local_engine(str(model_folder), dtype="mixed", threads=1)
    assert engine.lean
    assert (engine.weights.dtype, engine.weights.products) == (torch.float32, torch.bfloat16)
    prompts = make_prompts(3, shared=20)
    answers = await generate_all(engine, prompts, SAMPLED)
    await engine.aclose()
    rounded = copy.deepcopy(reference)
    round_products(rounded)
    for prompt, answer in zip(prompts, answers, strict=True):
        gaps = [
            max(abs(ours - theirs) for ours, theirs in zip(answer.logprobs, expected, strict=True))
            for expected in (reference_logprobs(model, prompt, answer.token_ids) for model in (reference, rounded))
        ]
        assert 1e-4 < gaps[0] < 0.2, "it is near float32, and not float32 by mistake"
        assert gaps[1] < gaps[0]


async def test_mixed_says_where_it_is_all_in_float32(model_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = open_local_engine(str(model_folder), dtype="mixed", threads=1, lean=False)
    await engine.aclose()
    assert engine.weights.dtype == torch.float32
    assert "does not take the lean path" in caplog.text


def test_auto_is_exact_on_a_cpu_and_native_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_dtype("auto", cpu) == torch.float32
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda native=native: native)
        assert choose_dtype("auto", cuda) == expected


@pytest.mark.parametrize("options", [{"max_batch": 0}, {"dtype": "int4"}, {"device": "abacus"}, {"colour": "red"}])
def test_bad_options_are_named(model_folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        open_local_engine(str(model_folder), **options)


def test_damaged_weights_are_an_error(model_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(model_folder, tmp_path / "damaged")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineUnavailable, match="incomplete: 1 tensors"):
        open_local_engine(str(folder))
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EngineUnavailable, match="cannot be loaded"):
        open_local_engine(str(folder))


def test_families_share_what_pays() -> None:
    head = tuple(range(100, 150))
    alike = sorted([(*head, 1, 2), (*head, 1, 3), (*head, 9)])
    loners = [(5, 6), (7,)]
    families = find_families(sorted([*alike, *loners]))
    assert [(family.prompts, family.shared) for family in families] == [(alike, 50), (sorted(loners), 0)]
    assert common_length((1, 2, 3), (1, 2, 3, 4)) == 2
    assert common_length((1,), (1, 2)) == 0
