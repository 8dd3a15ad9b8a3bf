"""Constraints on a tiny random model: whatever it would have said, what it says fits."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.errors import EngineRejected
from lmgraph.runtime.engine import Choices, Constraint, GenerateRequest, Generation, JsonSchema, Regex, SamplingParams
from support.tiny_model import make_tiny_model

pytest.importorskip("torch")
pytest.importorskip("llguidance")

from lmgraph.engines.local.decode import RunningBatch
from lmgraph.engines.local.engine import LocalEngine

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": ["a", "b c"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
    },
    "required": ["label", "count", "tags"],
    "additionalProperties": False,
}
OPTIONS = ("yes", "yes, but", 'quote " \\ and\nline', "日本", "[x] (y) {z} /w/ $")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=[True, False], ids=["lean", "transformers"])
async def engine(model_folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[LocalEngine]:
    opened = open_local_engine(str(model_folder), dtype="float32", lean=request.param)
    yield opened
    await opened.aclose()


async def sample(
    engine: LocalEngine, constraint: Constraint | None, count: int, stops: tuple[int, ...] | None = None
) -> list[Generation]:
    def request(seed: int) -> GenerateRequest:
        params = SamplingParams(
            max_tokens=120, temperature=float(seed > 0), seed=seed, stop_token_ids=stops, constraint=constraint
        )
        return GenerateRequest([1, 5 + seed, 7], params)

    return list(await asyncio.gather(*(engine.generate(request(seed)) for seed in range(count))))


async def test_choices_are_one_of_the_options(engine: LocalEngine) -> None:
    answers = await sample(engine, Choices(OPTIONS), 30)
    texts = [engine.tokenizer.decode(answer.token_ids) for answer in answers]
    assert set(texts) <= set(OPTIONS)
    assert len(set(texts)) > 1
    assert {answer.finish_reason for answer in answers} == {"stop"}
    assert all(answer.token_ids[-1] in engine.stop_token_ids for answer in answers)


async def test_an_option_may_be_empty_or_the_beginning_of_another(engine: LocalEngine) -> None:
    answers = await sample(engine, Choices(("", "y", "ye", "yes")), 30)
    assert {engine.tokenizer.decode(answer.token_ids) for answer in answers} <= {"", "y", "ye", "yes"}


async def test_json_is_valid_under_the_schema(engine: LocalEngine) -> None:
    for answer in await sample(engine, JsonSchema(json.dumps(SCHEMA)), 12):
        value = json.loads(engine.tokenizer.decode(answer.token_ids))
        assert answer.finish_reason == "stop"
        assert value["label"] in ("a", "b c")
        assert 0 <= value["count"] <= 99
        assert all(isinstance(tag, str) for tag in value["tags"])


async def test_a_regular_expression_matches_as_a_whole(engine: LocalEngine) -> None:
    for answer in await sample(engine, Regex(r"[A-C]{2}-\d{1,3}(;|!)"), 12):
        assert re.fullmatch(r"[A-C]{2}-\d{1,3}(;|!)", engine.tokenizer.decode(answer.token_ids))


async def test_logprobs_are_taken_under_the_mask(engine: LocalEngine) -> None:
    for answer in await sample(engine, Choices(("x",)), 3, stops=(2,)):
        assert answer.logprobs == [0.0] * len(answer.token_ids)


async def test_a_requests_own_stop_token_ends_the_text(engine: LocalEngine) -> None:
    stop = engine.tokenizer.encode("\n")
    assert len(stop) == 1
    for answer in await sample(engine, Choices(("yes", "no")), 6, stops=(stop[0],)):
        assert engine.tokenizer.decode(answer.token_ids) in ("yes\n", "no\n")


async def test_without_a_stop_token_the_text_ends_by_itself(engine: LocalEngine) -> None:
    for answer in await sample(engine, Choices(("yes", "no")), 4, stops=()):
        assert engine.tokenizer.decode(answer.token_ids) in ("yes", "no")
        assert answer.finish_reason == "stop"


async def test_constrained_and_free_rows_share_a_batch(engine: LocalEngine) -> None:
    free = await sample(engine, None, 4)
    mixed = await asyncio.gather(sample(engine, Choices(OPTIONS), 4), sample(engine, None, 4))
    assert [answer.token_ids for answer in mixed[1]] == [answer.token_ids for answer in free]
    assert {engine.tokenizer.decode(answer.token_ids) for answer in mixed[0]} <= set(OPTIONS)


async def test_an_end_that_must_follow_is_certain(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    step = RunningBatch.step

    def counted(self: RunningBatch) -> None:
        steps.append(len(self))
        step(self)

    monkeypatch.setattr(RunningBatch, "step", counted)
    for answer in await sample(engine, Choices(("x", "z")), 4):
        assert engine.tokenizer.decode(answer.token_ids) in ("x", "z")
        assert answer.token_ids[1:] == [engine.stop_token_ids[0]]
        assert answer.logprobs[1] == 0.0
        assert answer.finish_reason == "stop"
        if answer.allowed is not None:
            first, last = (zlib.decompress(packed) for packed in answer.allowed)
            assert [bits.bit_count() for bits in last].count(1) == sum(map(int.bit_count, last)) == 1
            assert sum(map(int.bit_count, first)) == 2
    assert steps == [], "the model is asked for the first token only"


async def test_where_a_text_may_end_or_go_on_every_stop_token_may_end_it(engine: LocalEngine) -> None:
    for answer in await sample(engine, Regex("x?"), 12):
        if answer.allowed is not None:
            allowed = zlib.decompress(answer.allowed[0])
            assert sum(map(int.bit_count, allowed)) == 1 + len(engine.stop_token_ids)


@pytest.mark.parametrize(
    "constraint",
    [
        Choices(()),
        Choices(("\ud800",)),
        Regex("("),
        Regex("a(?=b)"),
        JsonSchema("no json"),
        JsonSchema('{"type": "nothing"}'),
        JsonSchema("[1]"),
    ],
)
async def test_impossible_constraints_are_refused(engine: LocalEngine, constraint: Constraint) -> None:
    fine, refused = await asyncio.gather(
        sample(engine, Choices(("yes",)), 1), sample(engine, constraint, 1), return_exceptions=True
    )
    assert isinstance(refused, EngineRejected)
    assert not isinstance(fine, BaseException)
