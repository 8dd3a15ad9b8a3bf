"""Answers that SGLang streams, from a double that streams as a server does, in both forms that servers have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from lmgraph.engines.http.problems import Malformed
from lmgraph.engines.sglang.engine import SglangEngine
from lmgraph.engines.sglang.events import Events
from lmgraph.errors import ContextOverflow, EngineError
from lmgraph.runtime import Runtime, TextSampled
from lmgraph.runtime.engine import Generation, StreamingEngine
from support.http_double import Request, Response
from support.scripted import program_from
from support.sglang_double import SglangDouble
from support.sglang_engine import adapter_folder, connect, request, tiny_folder

TEXT = "blau ☕ 👩‍🚀"
RID = "r" * 32
PROGRAM = """
edition 1

module Say(word: str) -> (text: str) {
  max_tokens: 40
}

flow Main(word: str) -> (text: str) {
  return (text=Say(word=word).text)
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMGRAPH_HOME", str(tmp_path / "home"))


@pytest.fixture
def double(folder: Path) -> Iterator[SglangDouble]:
    with SglangDouble(folder, text=TEXT) as server:
        yield server


@pytest.fixture
def engine(double: SglangDouble) -> SglangEngine:
    return connect(double)


async def streamed(engine: SglangEngine, **sampling: Any) -> tuple[list[str], Generation]:
    told: list[str] = []

    async def tell(text: str) -> None:
        told.append(text)

    return told, await engine.stream(request(**{"max_tokens": 64, **sampling}), tell)


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize("tokens", [1, 3, 100])
async def test_a_streamed_answer_is_the_one_that_would_come_whole(
    engine: SglangEngine, double: SglangDouble, incremental: bool, tokens: int
) -> None:
    double.incremental, double.tokens_an_event = incremental, tokens
    assert isinstance(engine, StreamingEngine)
    whole = await engine.generate(request(max_tokens=64))
    told, generation = await streamed(engine)
    assert generation == replace(whole, queue_seconds=ANY, decode_seconds=ANY)
    assert "".join(told) == TEXT
    assert not any("\ufffd" in text for text in told)
    assert (len(told) > 3) == (tokens < 100)
    assert [body["stream"] for body in double.asked("/generate")] == [False, True]
    # Cut off in the middle of a character, which is told at the end alone.
    cut_at = next(n for n in range(1, 64) if "\ufffd" in engine.tokenizer.decode(whole.token_ids[:n]))
    told, generation = await streamed(engine, max_tokens=cut_at)
    assert "".join(told) == engine.tokenizer.decode(generation.token_ids)
    assert generation.finish_reason == "length"
    await engine.aclose()


async def test_a_server_that_streams_nothing_is_told_at_once(engine: SglangEngine, double: SglangDouble) -> None:
    async def whole(asked: Request, response: Response) -> Response:
        return replace(response, raw=json.dumps(response.body).encode())

    double.change = whole
    assert (await streamed(engine))[0] == [TEXT]
    await engine.aclose()


async def test_a_stream_that_breaks_is_begun_again_as_long_as_nothing_was_told(
    engine: SglangEngine, double: SglangDouble
) -> None:
    double.breaks_after = 0
    asyncio.get_running_loop().call_later(0.3, setattr, double, "breaks_after", None)
    told, generation = await streamed(engine)
    assert "".join(told) == TEXT
    assert generation.attempts > 1
    double.breaks_after = 3
    double.requests.clear()
    with pytest.raises(EngineError, match="broke off in the middle of an answer"):
        await streamed(engine)
    assert len(double.asked("/generate")) == 1
    await engine.aclose()


async def test_a_cancelled_stream_is_ended_at_the_server(engine: SglangEngine, double: SglangDouble) -> None:
    double.hangs_after = 3
    begun = asyncio.Event()

    async def tell(text: str) -> None:
        begun.set()

    task = asyncio.create_task(engine.stream(request(), tell))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(double.wait_for, "/abort_request")
    assert double.aborted == [double.asked("/generate")[0]["rid"]]
    assert asyncio.all_tasks() == {asyncio.current_task()}, "the connection is closed, and nobody reads on"
    await engine.aclose()


async def test_what_is_refused_in_a_stream_is_refused_as_ever(
    engine: SglangEngine, double: SglangDouble, tmp_path: Path
) -> None:
    await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "a"))
    double.registered.clear()
    double.remembered.clear()

    async def tell(text: str) -> None:
        pass

    assert (await engine.stream(request(adapter="shared@v1"), tell)).attempts == 2

    async def too_long(asked: Request, response: Response) -> Response:
        return Response({"error": {"message": "exceeds the model's maximum context length"}}, 400)

    double.change = too_long
    with pytest.raises(ContextOverflow):
        await streamed(engine)
    await engine.aclose()


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ({"type": "abort", "message": "memory is full"}, "aborted the call: memory is full"),
        ({"type": "abort", "message": "busy", "status_code": 503}, "in the middle of an answer.*busy"),
    ],
)
async def test_an_abort_in_the_middle_is_never_a_value(
    engine: SglangEngine, double: SglangDouble, reason: dict[str, Any], said: str
) -> None:
    async def abort(asked: Request, response: Response) -> Response:
        response.body["meta_info"]["finish_reason"] = reason
        return response

    double.change = abort
    with pytest.raises(EngineError, match=said):
        await streamed(engine)
    assert len(double.asked("/generate")) == 1
    await engine.aclose()


async def test_a_program_s_text_comes_piece_by_piece(engine: SglangEngine, tmp_path: Path) -> None:
    async with Runtime(everything=engine) as runtime:
        events = [event async for event in runtime.stream(program_from(tmp_path, PROGRAM), {"word": "a"})]
    pieces = [event.text for event in events if isinstance(event, TextSampled)]
    assert len(pieces) > 1
    assert "".join(pieces) == TEXT


# -- events by themselves ---------------------------------------------------------------------------------------------


def event(ids: Any, total: Any, **changes: Any) -> dict[str, Any]:
    sampled = [[-0.5, token, None] for token in ids] if isinstance(ids, list) else ids
    meta = {"id": RID, "finish_reason": None, "completion_tokens": total, "output_token_logprobs": sampled}
    return {"output_ids": ids, "meta_info": {**meta, **changes}}


def test_ids_so_far_and_new_ids_are_told_apart_by_how_many_there_are() -> None:
    for forms in (([7], [7, 8, 9], [7, 8, 9]), ([7], [8, 9], [])):
        events = Events(RID, 8)
        added = [events.take(event(ids, total)) for ids, total in zip(forms, (1, 3, 3), strict=True)]
        assert added == [[7], [8, 9], []]
        whole = events.whole()
        assert whole["output_ids"] == [7, 8, 9]
        assert [entry[1] for entry in whole["meta_info"]["output_token_logprobs"]] == [7, 8, 9]


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ([], "no meta_info"),
        (event([8], 2, id="other"), "answers other"),
        (event([8], None), "no completion_tokens"),
        (event(None, 2), "no completion_tokens"),
        (event([8], 3), "should add 2 tokens"),
        (event([7, 8], 2, output_token_logprobs=[]), "should add 1 tokens"),
        (event(["8"], 2), "should add 1 tokens"),
        (event([], 0), "0 tokens of 8 at most, after 1"),
        (event([1] * 9, 9), "9 tokens of 8 at most"),
    ],
)
def test_events_that_break_the_protocol_add_nothing(second: Any, problem: str) -> None:
    events = Events(RID, 8)
    assert events.take(event([7], 1)) == [7]
    with pytest.raises(Malformed, match=problem):
        events.take(second)
