"""Requests join the running batch and leave it; what they answer does not depend on who else is there."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.errors import EngineError
from lmgraph.runtime.engine import Choices, GenerateRequest, Generation, SamplingParams
from support.tiny_model import VOCABULARY_SIZE, make_adapter, make_tiny_model

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM  # noqa: E402

from lmgraph.engines.local import decode  # noqa: E402
from lmgraph.engines.local.engine import LocalEngine  # noqa: E402
from lmgraph.engines.local.lean_rows import LeanRows  # noqa: E402
from lmgraph.engines.local.llama import LlamaModel  # noqa: E402
from lmgraph.engines.local.module_rows import ModuleRows  # noqa: E402
from lmgraph.engines.local.plan import PADDING_ALLOWED, similar  # noqa: E402


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def engine(model_folder: Path) -> AsyncIterator[LocalEngine]:
    opened = open_local_engine(str(model_folder), dtype="float32")
    yield opened
    await opened.aclose()


def make_requests(count: int, *, adapters: tuple[str | None, ...] = (None,)) -> list[GenerateRequest]:
    """Requests of many kinds: three families and loners, long and short, greedy and sampled, free and constrained."""
    numbers = random.Random(5)
    heads = [[numbers.randrange(3, VOCABULARY_SIZE) for _ in range(length)] for length in (0, 30, 90, 300)]
    requests: list[GenerateRequest] = []
    for place in range(count):
        tail = [numbers.randrange(3, VOCABULARY_SIZE) for _ in range(numbers.choice((1, 5, 40)))]
        sampling = SamplingParams(
            max_tokens=numbers.choice((1, 7, 30)),
            temperature=numbers.choice((0.0, 1.0)),
            top_p=numbers.choice((1.0, 0.9)),
            seed=place,
            stop_token_ids=None if place % 5 == 0 else (),
            constraint=Choices(("yes", "no, never")) if place % 5 == 0 else None,
        )
        requests.append(GenerateRequest(heads[place % 4] + tail, sampling, adapters[place % len(adapters)]))
        if place % 3 == 0:  # the same prompt with another seed
            again = SamplingParams(9, 1.0, seed=1000 + place, stop_token_ids=())
            requests.append(GenerateRequest(heads[place % 4] + tail, again, adapters[place % len(adapters)]))
    return requests


async def test_answers_do_not_depend_on_when_requests_come(
    engine: LocalEngine, model_folder: Path, tmp_path: Path
) -> None:
    for name in ("a@v1", "b@v1"):
        await engine.load_adapter(name, make_adapter(model_folder, tmp_path / name, seed=ord(name[0])))
    requests = make_requests(24, adapters=(None, "a@v1", "b@v1"))
    alone = [await engine.generate(request) for request in requests]

    async def later(request: GenerateRequest, seconds: float) -> Generation:
        await asyncio.sleep(seconds)
        return await engine.generate(request)

    numbers = random.Random(0)
    together = await asyncio.gather(*(later(request, numbers.random() * 0.3) for request in requests))
    for answer, other in zip(together, alone, strict=True):
        assert answer.token_ids == other.token_ids
        assert answer.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert answer.finish_reason == other.finish_reason


async def test_a_request_joins_a_running_batch(engine: LocalEngine) -> None:
    long = asyncio.create_task(
        engine.generate(GenerateRequest([5, 6, 7], SamplingParams(400, 1.0, seed=1, stop_token_ids=())))
    )
    await asyncio.sleep(0.05)
    short = await engine.generate(GenerateRequest([5, 6, 8], SamplingParams(3, stop_token_ids=())))
    assert len(short.token_ids) == 3
    assert not long.done()
    assert len((await long).token_ids) == 400


async def test_no_request_waits_for_ever_for_room(model_folder: Path) -> None:
    engine = open_local_engine(str(model_folder), dtype="float32", max_batch=4, max_batch_tokens=150)
    large = GenerateRequest([5] * 100, SamplingParams(100, stop_token_ids=()))

    async def small(seed: int) -> Generation:
        await asyncio.sleep(0.01 * seed)
        return await engine.generate(GenerateRequest([seed], SamplingParams(10, 1.0, seed=seed, stop_token_ids=())))

    first = asyncio.create_task(small(3))
    await asyncio.sleep(0.02)
    answer, *others = await asyncio.wait_for(
        asyncio.gather(engine.generate(large), *(small(seed) for seed in range(4, 40))), timeout=60
    )
    assert len(answer.token_ids) == 100
    assert len(others) == 36
    assert (await first).token_ids
    await engine.aclose()


async def test_a_prompt_that_fails_leaves_running_requests_alone(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = SamplingParams(300, 1.0, seed=1, stop_token_ids=())
    expected = await engine.generate(GenerateRequest([5, 6, 7], params))
    running = asyncio.create_task(engine.generate(GenerateRequest([5, 6, 7], params)))
    await asyncio.sleep(0.05)
    assert not running.done()
    admit = LeanRows.admit

    def fail_once(self: LeanRows, jobs: object) -> object:
        monkeypatch.setattr(LeanRows, "admit", admit)
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(LeanRows, "admit", fail_once)
    with pytest.raises(EngineError, match="not enough memory"):
        await engine.generate(GenerateRequest([9, 9], SamplingParams(3)))
    assert (await running).token_ids == expected.token_ids
    assert (await engine.generate(GenerateRequest([9, 9], SamplingParams(3, stop_token_ids=())))).token_ids


async def test_first_tokens_that_fail_leave_running_requests_alone(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = SamplingParams(300, 1.0, seed=1, stop_token_ids=())
    expected = await engine.generate(GenerateRequest([5, 6, 7], params))
    running = asyncio.create_task(engine.generate(GenerateRequest([5, 6, 7], params)))
    await asyncio.sleep(0.05)
    assert not running.done()

    choose = decode.RunningBatch._choose

    def fail_for_those_that_join(self: Any, rows: Any, logits: torch.Tensor) -> None:
        if rows is not self._rows:
            raise RuntimeError("not enough memory")
        choose(self, rows, logits)

    joining = [GenerateRequest([9, place], SamplingParams(3, stop_token_ids=())) for place in range(3, 6)]
    with monkeypatch.context() as patched:
        patched.setattr(decode.RunningBatch, "_choose", fail_for_those_that_join)
        results = await asyncio.gather(*(engine.generate(request) for request in joining), return_exceptions=True)
    assert [type(result) for result in results] == [EngineError] * 3
    assert (await running).token_ids == expected.token_ids
    assert (await engine.generate(joining[0])).token_ids


@pytest.mark.parametrize("lean", [True, False])
async def test_ended_rows_are_computed_no_further(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, lean: bool
) -> None:
    engine = open_local_engine(str(model_folder), dtype="float32", lean=lean)
    rows: Any = LeanRows if lean else ModuleRows
    step = rows.step
    sizes: list[int] = []

    def counted(self: Any, token_ids: list[int]) -> torch.Tensor:
        logits: torch.Tensor = step(self, token_ids)
        sizes.append(len(logits))
        return logits

    monkeypatch.setattr(rows, "step", counted)
    requests = [GenerateRequest([5, 6], SamplingParams(length, stop_token_ids=())) for length in (2, 9, 4, 5)]
    everyone_is_there = threading.Event()
    held = engine._worker.call(everyone_is_there.wait)
    tasks = [asyncio.create_task(engine.generate(request)) for request in requests]
    await asyncio.sleep(0)
    everyone_is_there.set()
    await asyncio.gather(asyncio.wrap_future(held), *tasks)
    await engine.aclose()
    assert sizes == [4, 3, 3, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_padded_together_is_of_similar_length(seed: int) -> None:
    numbers = random.Random(seed)
    lengths = [numbers.choice((1, 7, 30, 200)) + numbers.randrange(9) for _ in range(numbers.randrange(1, 40))]
    groups = similar(lengths)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    for group in groups:
        longest = lengths[group[0]]
        assert longest == max(lengths[place] for place in group)
        assert len(group) * longest <= PADDING_ALLOWED * sum(lengths[place] for place in group)


async def test_a_step_that_fails_fails_all_and_the_engine_goes_on(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = SamplingParams(400, 1.0, stop_token_ids=())
    tasks = [asyncio.create_task(engine.generate(GenerateRequest([5, place], endless))) for place in range(3, 6)]
    await asyncio.sleep(0.05)

    def run_out(*_: object, **__: object) -> None:
        raise RuntimeError("not enough memory")

    with monkeypatch.context() as patched:
        patched.setattr(LlamaModel, "forward", run_out)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [EngineError] * 3
    assert len((await engine.generate(GenerateRequest([5], SamplingParams(4, stop_token_ids=())))).token_ids) == 4


@pytest.mark.parametrize("seed", range(6))
async def test_random_traffic_computes_what_transformers_computes(model_folder: Path, seed: int) -> None:
    """Prompts with beginnings in common, samples of one prompt, and prompts that go on from an earlier answer."""
    numbers = random.Random(seed)
    engine = open_local_engine(str(model_folder), dtype="float32", prefix_cache_mb=numbers.choice((0, 1, 512)))
    heads = [[numbers.randrange(3, VOCABULARY_SIZE) for _ in range(numbers.choice((20, 100, 250)))] for _ in range(2)]
    done: list[tuple[list[int], Generation]] = []

    async def ask(prompt: list[int], seed: int) -> None:
        params = SamplingParams(numbers.choice((1, 5, 40, 80)), 1.0, seed=seed, stop_token_ids=(2,))
        answer = await engine.generate(GenerateRequest(prompt, params))
        done.append((prompt, answer))
        if len(prompt) < 300 and numbers.random() < 0.4:
            await ask([*prompt, *answer.token_ids, 7, numbers.randrange(3, 300)], seed)

    async def arrive() -> None:
        await asyncio.sleep(numbers.random() * 0.2)
        tail = [numbers.randrange(3, VOCABULARY_SIZE) for _ in range(numbers.choice((3, 20, 60)))]
        prompt = numbers.choice(heads) + tail
        await asyncio.gather(*(ask(prompt, seed) for seed in range(numbers.choice((1, 6)))))

    await asyncio.gather(*(arrive() for _ in range(6)))
    await engine.aclose()
    reference = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    for prompt, answer in done:
        with torch.inference_mode():
            logits = reference(torch.tensor([prompt + answer.token_ids])).logits[0, len(prompt) - 1 : -1]
        logprobs = torch.log_softmax(logits, dim=-1)
        expected = [float(logprobs[index, token]) for index, token in enumerate(answer.token_ids)]
        assert answer.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("lean", [True, False])
async def test_of_those_that_wait_the_lowest_rank_goes_first(model_folder: Path, lean: bool) -> None:
    engine = open_local_engine(str(model_folder), dtype="float32", lean=lean, max_batch=1)
    ranks = [(1, 0), (0, -1), (1, -3), (0, -1), (0, 0), (2, -9), (0, -4)]
    done: list[int] = []

    async def ask(place: int) -> Generation:
        request = GenerateRequest([5, 6], SamplingParams(4, 1.0, seed=place, stop_token_ids=()), rank=ranks[place])
        answer = await engine.generate(request)
        done.append(place)
        return answer

    everyone_is_there = threading.Event()
    held = engine._worker.call(everyone_is_there.wait)
    tasks = [asyncio.create_task(ask(place)) for place in range(len(ranks))]
    await asyncio.sleep(0)
    everyone_is_there.set()
    answers = await asyncio.gather(*tasks)
    await asyncio.wrap_future(held)
    assert done == [6, 1, 3, 4, 2, 0, 5], "of one rank the first that came"
    again = [await ask(place) for place in range(len(ranks))]
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in again]
    await engine.aclose()


async def test_a_request_that_needs_much_room_goes_before_small_ones_of_a_later_rank(model_folder: Path) -> None:
    engine = open_local_engine(str(model_folder), dtype="float32", max_batch=4, max_batch_tokens=150)
    done: list[str] = []

    async def ask(name: str, prompt: list[int], tokens: int, rank: tuple[int, int]) -> None:
        await engine.generate(GenerateRequest(prompt, SamplingParams(tokens, stop_token_ids=()), rank=rank))
        done.append(name)

    everyone_is_there = threading.Event()
    held = engine._worker.call(everyone_is_there.wait)
    running = [asyncio.create_task(ask("first", [place], 20, (0, 0))) for place in (3, 4)]
    small = [asyncio.create_task(ask("small", [place], 10, (2, 0))) for place in range(5, 25)]
    large = asyncio.create_task(ask("large", [5] * 100, 100, (1, 0)))
    await asyncio.sleep(0)
    everyone_is_there.set()
    await asyncio.gather(asyncio.wrap_future(held), *running, large, *small)
    await engine.aclose()
    assert done == ["first"] * 2 + ["large"] + ["small"] * 20
