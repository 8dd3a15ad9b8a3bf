"""Prefixes kept across calls: the tree itself, and what an engine makes of it."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.runtime.engine import GenerateRequest, Generation, SamplingParams
from support.tiny_model import VOCABULARY_SIZE, make_adapter, make_tiny_model

torch = pytest.importorskip("torch")

from lmgraph.engines.local.engine import LocalEngine  # noqa: E402
from lmgraph.engines.local.prefix_tree import PrefixTree, Span, TokenIds, _below, common_length  # noqa: E402

TOKEN_BYTES = 2 * 2 * 2 * 16 * 4
"""Of the tiny model: layers, keys and values, key-value heads, head size, fp32."""


def span_of(ids: TokenIds) -> Span:
    """A span whose key-values are its tokens, one layer and head of size 1."""
    values = torch.tensor(ids, dtype=torch.float32).reshape(1, 1, 1, -1, 1)
    return Span(values.repeat(1, 2, 1, 1, 1))


def tokens_of(spans: list[Span]) -> TokenIds:
    return tuple(int(token) for span in spans for token in span.keys_values_L2HTD[0, 0, 0, :, 0])


def put(tree: PrefixTree, ids: TokenIds, owner: str | None = None) -> None:
    """Add what the tree lacks of ``ids``."""
    known = tokens_of(tree.find(owner, ids))
    tree.add(owner, ids, len(known), span_of(ids[len(known) :]))


def test_a_tree_finds_the_longest_known_beginning() -> None:
    numbers = random.Random(0)
    tree = PrefixTree()
    known: list[TokenIds] = []
    for _ in range(300):
        ids = tuple(numbers.randrange(3) for _ in range(numbers.randrange(1, 12)))
        longest = max((common_length(other, ids) for other in known), default=0)
        found = tree.find(None, ids)
        assert tokens_of(found) == ids[:longest]
        put(tree, ids)
        known.append(ids)
        assert tokens_of(tree.find(None, ids)) == ids
    different = {ids[:end] for ids in known for end in range(1, len(ids) + 1)}
    assert tree.bytes == 8 * len(different)


def test_equal_beginnings_are_equal_spans() -> None:
    tree = PrefixTree()
    put(tree, (1, 2, 3, 4, 5))
    tree.cut(None, (1, 2, 3))
    put(tree, (1, 2, 3, 9))
    left, right = tree.find(None, (1, 2, 3, 4, 5)), tree.find(None, (1, 2, 3, 9))
    assert left[0] is right[0]
    assert tokens_of(left) == (1, 2, 3, 4, 5)
    assert tokens_of(tree.find(None, (1, 2))) == (1, 2)


def test_spans_in_use_outlive_their_place() -> None:
    tree = PrefixTree()
    put(tree, (1, 2, 3, 4))
    found = tree.find(None, (1, 2, 3, 4))
    put(tree, (1, 2, 7))
    tree.trim(0)
    assert tokens_of(found) == (1, 2, 3, 4)
    assert tree.bytes == 0
    assert tree.find(None, (1, 2)) == []


def test_what_was_not_used_for_longest_goes_first() -> None:
    tree = PrefixTree()
    beginning = tuple(range(10))
    for last in (20, 21, 22):
        put(tree, (*beginning, last))
    tree.find(None, (*beginning, 20))
    tree.trim(8 * 12)
    assert [len(tokens_of(tree.find(None, (*beginning, last)))) for last in (20, 21, 22)] == [11, 10, 11]
    tree.trim(8 * 11)
    tree.trim(8 * 10)
    assert tokens_of(tree.find(None, (*beginning, 22))) == beginning


@pytest.mark.parametrize("seed", range(10))
def test_the_tree_holds_no_more_memory_than_it_says(seed: int) -> None:
    """However prompts branch and are cut: no span keeps the larger one alive that it was a part of."""
    numbers = random.Random(seed)
    tree = PrefixTree()
    for _ in range(200):
        owner = numbers.choice((None, "a"))
        ids = tuple(numbers.randrange(2) for _ in range(numbers.randrange(1, 30)))
        put(tree, ids, owner)
        if numbers.random() < 0.3:
            tree.cut(owner, ids[: numbers.randrange(1, 30)])
        if numbers.random() < 0.2:
            tree.trim(8 * 60)
            assert tree.bytes <= 8 * 60
        held = {
            node.span.keys_values_L2HTD.untyped_storage().data_ptr(): node.span.keys_values_L2HTD.untyped_storage()
            for root in tree._roots.values()
            for node in _below(root)
            if node.span is not None
        }
        assert sum(storage.nbytes() for storage in held.values()) == tree.bytes


def test_owners_share_nothing() -> None:
    tree = PrefixTree()
    put(tree, (1, 2, 3))
    put(tree, (1, 2, 4), owner="a")
    assert tokens_of(tree.find("a", (1, 2, 3))) == (1, 2)
    tree.forget("a")
    assert tree.find("a", (1, 2)) == []
    assert tree.bytes == 8 * 3
    tree.add("a", (1, 2, 3), 1, span_of((2, 3)))  # its beginning is gone
    assert tree.bytes == 8 * 3


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def engine(model_folder: Path) -> AsyncIterator[LocalEngine]:
    opened = open_local_engine(str(model_folder), dtype="float32", prefix_cache_mb=1)
    assert opened.lean
    yield opened
    await opened.aclose()


def make_prompts(count: int, *, shared: int, seed: int = 0, longest: int = 40) -> list[list[int]]:
    numbers = random.Random(f"tails of {seed}")
    beginning = [random.Random(place).randrange(3, VOCABULARY_SIZE) for place in range(shared)]
    return [
        beginning + [numbers.randrange(3, VOCABULARY_SIZE) for _ in range(numbers.randrange(1, longest))]
        for _ in range(count)
    ]


async def sample(
    engine: LocalEngine, prompts: list[list[int]], adapter: str | None = None, tokens: int = 6
) -> list[Generation]:
    requests = [
        GenerateRequest(prompt, SamplingParams(tokens, 1.0, seed=seed, stop_token_ids=()), adapter)
        for seed, prompt in enumerate(prompts)
    ]
    return list(await asyncio.gather(*(engine.generate(request) for request in requests)))


async def test_later_calls_reuse_prefixes_and_say_so(engine: LocalEngine) -> None:
    first, second = make_prompts(1, shared=100)[0], make_prompts(1, shared=100, seed=1)[0]
    (cold,) = await sample(engine, [first])
    assert cold.cached_tokens == 0
    (again,) = await sample(engine, [first])
    assert again.cached_tokens == len(first) - 1, "the last token is computed for its logits"
    assert again.token_ids == cold.token_ids
    assert again.logprobs == pytest.approx(cold.logprobs, abs=1e-4)
    (other,) = await sample(engine, [second])
    assert 100 <= other.cached_tokens < len(second)
    assert engine.prefix_cache_bytes == TOKEN_BYTES * (len(first) + len(second) - other.cached_tokens)


async def test_cached_and_computed_prefixes_give_equal_answers(model_folder: Path, engine: LocalEngine) -> None:
    forgetful = open_local_engine(str(model_folder), dtype="float32", prefix_cache_mb=0)
    for seed in range(4):
        prompts = [*make_prompts(5, shared=60, seed=seed), *make_prompts(2, shared=20, seed=seed)] * 2
        ours, theirs = await sample(engine, prompts), await sample(forgetful, prompts)
        assert [answer.token_ids for answer in ours] == [answer.token_ids for answer in theirs]
        for answer, other in zip(ours, theirs, strict=True):
            assert answer.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert forgetful.prefix_cache_bytes == 0
    await forgetful.aclose()


async def test_the_bound_holds_and_the_shared_prefix_stays(engine: LocalEngine) -> None:
    for seed in range(30):  # 2,048 tokens fit
        answers = await sample(engine, make_prompts(8, shared=200, seed=seed, longest=60), tokens=2)
        assert engine.prefix_cache_bytes <= 1 << 20
        assert seed == 0 or all(answer.cached_tokens >= 200 for answer in answers)
    assert engine.prefix_cache_bytes > 1 << 19


async def test_adapters_share_no_prefixes_and_leave_none(
    engine: LocalEngine, model_folder: Path, tmp_path: Path
) -> None:
    prompts = make_prompts(3, shared=80)
    await sample(engine, prompts)
    base_bytes = engine.prefix_cache_bytes
    for step in range(3):
        name = f"shared@v{step}"
        await engine.load_adapter(name, make_adapter(model_folder, tmp_path / name, seed=step))
        answers = await sample(engine, prompts, name)
        assert min(answer.cached_tokens for answer in answers) == 0
        assert min(answer.cached_tokens for answer in await sample(engine, prompts, name)) >= 80
        assert engine.prefix_cache_bytes == 2 * base_bytes
        await engine.unload_adapter(name)
        assert engine.prefix_cache_bytes == base_bytes


async def test_a_version_is_never_served_what_another_left(
    engine: LocalEngine, model_folder: Path, tmp_path: Path
) -> None:
    """One name, new weights each step, and the prompts of all versions still in memory: logprobs are PEFT's."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    prompts = make_prompts(2, shared=80)
    for step in range(3):
        folder = make_adapter(model_folder, tmp_path / f"step {step}", seed=step)
        await engine.load_adapter("policy@v1", folder)
        await engine.load_adapter(f"kept@v{step}", folder)  # so that this step's key-values stay
        base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, folder).eval()
        for _ in range(2):  # the second time from the cache
            for prompt, answer in zip(prompts, await sample(engine, prompts, "policy@v1"), strict=True):
                with torch.inference_mode():
                    logits = model(torch.tensor([prompt + answer.token_ids])).logits[0, len(prompt) - 1 : -1]
                logprobs = torch.log_softmax(logits, dim=-1)
                expected = [float(logprobs[index, token]) for index, token in enumerate(answer.token_ids)]
                assert answer.logprobs == pytest.approx(expected, abs=1e-4)
        assert answer.cached_tokens == len(prompt) - 1
        await engine.unload_adapter("policy@v1")


async def test_one_adapter_of_two_names_keeps_its_prefixes(
    engine: LocalEngine, model_folder: Path, tmp_path: Path
) -> None:
    folder = make_adapter(model_folder, tmp_path / "adapter")
    await engine.load_adapter("a@v1", folder)
    await engine.load_adapter("b@v1", folder)
    (prompt,) = make_prompts(1, shared=50)
    await sample(engine, [prompt], "a@v1")
    await engine.unload_adapter("a@v1")
    (answer,) = await sample(engine, [prompt], "b@v1")
    assert answer.cached_tokens == len(prompt) - 1


async def test_cancelled_requests_leave_prefixes_that_are_right(engine: LocalEngine) -> None:
    prompts = make_prompts(6, shared=120)
    expected = await sample(engine, prompts)
    for delay in (0.0, 0.002, 0.01, 0.03):
        tasks = [asyncio.create_task(sample(engine, [prompt], tokens=300)) for prompt in prompts]
        await asyncio.sleep(delay)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    answers = await sample(engine, prompts)
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in expected]


async def test_a_hundred_batches_need_no_more_memory(engine: LocalEngine) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(
            found.numel() for found in gc.get_objects() if type(found) is torch.Tensor and found.device.type == "cpu"
        )

    sizes: list[int] = []
    for batch in range(100):
        await sample(engine, make_prompts(6, shared=60, seed=batch, longest=80), tokens=3)
        if batch in (40, 99):
            sizes.append(tensors())
    assert sizes[1] <= 1.1 * sizes[0]
