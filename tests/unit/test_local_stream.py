"""The local engine tells an answer while it is written, and holds nothing up for a reader."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.errors import EngineError
from lmgraph.runtime import NodeFinished, NodeStarted, RunFinished, Runtime, TextSampled
from lmgraph.runtime.engine import Choices, GenerateRequest, Generation, JsonSchema, SamplingParams, StreamingEngine
from support.scripted import program_from
from support.tiny_model import make_adapter, make_tiny_model

torch = pytest.importorskip("torch")

from lmgraph.engines.local.decode import RunningBatch  # noqa: E402
from lmgraph.engines.local.engine import LocalEngine  # noqa: E402
from lmgraph.engines.local.reader import Reader  # noqa: E402

SCHEMA = '{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}'
LONG = SamplingParams(400, 1.0, seed=3, stop_token_ids=())
PROGRAM = """
edition 1

module Draft(word: str) -> (text: str) {
  max_tokens: 40
  temperature: 1.0
}

flow Write(words: list[str]) -> (texts: list[str]) {
  texts = [Draft(word=word).text for word in words]
  return (texts=texts)
}
"""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=[True, False], ids=["lean", "transformers"])
async def engine(model_folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[LocalEngine]:
    opened = open_local_engine(str(model_folder), dtype="float32", lean=request.param)
    yield opened
    await opened.aclose()


async def streamed(engine: LocalEngine, request: GenerateRequest) -> tuple[list[str], Generation]:
    told: list[str] = []

    async def tell(text: str) -> None:
        told.append(text)

    return told, await engine.stream(request, tell)


async def test_what_is_told_is_the_text_of_the_same_answer(
    engine: LocalEngine, model_folder: Path, tmp_path: Path
) -> None:
    assert isinstance(engine, StreamingEngine)
    await engine.load_adapter("a@v1", make_adapter(model_folder, tmp_path / "a", seed=1))
    samplings = [
        LONG,
        SamplingParams(60, 0.0, stop_token_ids=()),
        SamplingParams(60, 1.0, seed=2, stop_token_ids=tuple(range(60, 80))),  # text of a stop token is text too
        SamplingParams(1, 1.0, seed=5, stop_token_ids=()),
        SamplingParams(30, 1.0, seed=4, constraint=Choices(("yes", "naïve ☕ 日本語"))),
        SamplingParams(40, 1.0, seed=6, constraint=JsonSchema(SCHEMA)),
    ]
    requests = [
        GenerateRequest([5 + place, 6, 7], sampling, adapter)
        for place, sampling in enumerate(samplings)
        for adapter in (None, "a@v1")
    ]
    plain = await asyncio.gather(*(engine.generate(request) for request in requests))
    answers = await asyncio.gather(*(streamed(engine, request) for request in requests))
    for (told, answer), expected in zip(answers, plain, strict=True):
        assert (answer.token_ids, answer.finish_reason) == (expected.token_ids, expected.finish_reason)
        assert answer.allowed == expected.allowed
        assert "".join(told) == engine.tokenizer.decode(answer.token_ids)
        assert "" not in told


async def test_a_reader_that_is_busy_holds_up_nobody(engine: LocalEngine) -> None:
    told: list[str] = []
    go_on = asyncio.Event()
    begun = asyncio.Event()

    async def tell(text: str) -> None:
        told.append(text)
        begun.set()
        await go_on.wait()

    slow = asyncio.create_task(engine.stream(GenerateRequest([5, 6, 7], LONG), tell))
    await begun.wait()
    # Where batches begin together, the next one begins after the slow one's row has left.
    other = await engine.generate(GenerateRequest([9, 9], LONG))
    assert len(other.token_ids) == 400
    assert (len(told), slow.done()) == (1, False)
    go_on.set()
    answer = await slow
    assert len(told) < 400 / 4, "what came meanwhile comes together"
    assert "".join(told) == engine.tokenizer.decode(answer.token_ids)


class Steps:
    """Counts the rows of each step, and holds the worker's thread before the third until ``release`` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.reached, self.release = threading.Event(), threading.Event()
        step = RunningBatch.step

        def counted(batch: RunningBatch) -> None:
            self.sizes.append(len(batch))
            if len(self.sizes) == 3:
                self.reached.set()
                self.release.wait()
            step(batch)

        monkeypatch.setattr(RunningBatch, "step", counted)


async def check_that_the_row_is_gone(engine: LocalEngine, steps: Steps) -> None:
    steps.release.set()
    await engine.generate(GenerateRequest([9, 9], SamplingParams(3, stop_token_ids=())))
    assert steps.sizes[3:] == [1, 1], "the steps of the new request alone"


async def test_a_reader_that_is_cancelled_ends_its_row(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    reading = asyncio.create_task(streamed(engine, GenerateRequest([5, 6, 7], LONG)))
    await asyncio.to_thread(steps.reached.wait)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await check_that_the_row_is_gone(engine, steps)


async def test_a_reader_that_fails_ends_its_row(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(text: str) -> None:
        await asyncio.to_thread(steps.reached.wait)
        raise OSError("the pipe is broken")

    steps = Steps(monkeypatch)
    with pytest.raises(OSError, match="pipe"):
        await engine.stream(GenerateRequest([5, 6, 7], LONG), tell)
    await check_that_the_row_is_gone(engine, steps)


async def test_an_engine_that_closes_fails_the_stream(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    reading = asyncio.create_task(streamed(engine, GenerateRequest([5, 6, 7], LONG)))
    await asyncio.to_thread(steps.reached.wait)
    closing = asyncio.create_task(engine.aclose())
    with pytest.raises(EngineError, match="closed before"):
        await reading
    steps.release.set()
    await closing
    with pytest.raises(EngineError, match="is closed"):
        await streamed(engine, GenerateRequest([5, 6, 7], LONG))


async def test_a_model_that_fails_fails_the_stream(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(self: RunningBatch) -> None:
        raise RuntimeError("not enough memory")

    with monkeypatch.context() as patched:
        patched.setattr(RunningBatch, "step", run_out)
        with pytest.raises(EngineError, match="not enough memory"):
            await streamed(engine, GenerateRequest([5, 6, 7], LONG))
    assert len((await streamed(engine, GenerateRequest([5, 6, 7], LONG)))[1].token_ids) == 400


def test_an_event_loop_that_is_closed_is_not_woken() -> None:
    async def made() -> Reader:
        return Reader()

    asyncio.run(made()).wake()


async def test_a_run_tells_what_its_model_writes(engine: LocalEngine, tmp_path: Path) -> None:
    program = program_from(tmp_path, PROGRAM)
    runtime = Runtime(everything=engine)
    async with runtime, aclosing(runtime.stream(program, {"words": ["a", "b", "c"]})) as events:
        seen = [event async for event in events]
    last = seen[-1]
    assert isinstance(last, RunFinished)
    for call in last.trace.calls:
        mine = [event for event in seen if not isinstance(event, RunFinished) and event.call_key == call.call_key]
        pieces = [event.text for event in mine if isinstance(event, TextSampled)]
        assert "".join(pieces) == call.text
        assert call.text
        assert isinstance(mine[0], NodeStarted)
        assert isinstance(mine[-1], NodeFinished)
