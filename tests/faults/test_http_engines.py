"""Faults outside of us, on real sockets: engines over HTTP lose no call, give no wrong value, and never hang."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lmgraph.engines.sglang import open_sglang_engine
from lmgraph.engines.sglang.engine import SglangEngine
from lmgraph.errors import ContextOverflow, EngineError, EngineTimeout, EngineUnavailable
from lmgraph.runtime.engine import Generation
from support.http_double import Request, Response
from support.sglang_double import SglangDouble
from support.sglang_engine import adapter_folder, connect, request, tiny_folder

TESTS = Path(__file__).parents[1]
COUNTER = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMGRAPH_HOME", str(tmp_path / "home"))


@pytest.fixture
def doubles(folder: Path) -> Iterator[tuple[SglangDouble, SglangDouble]]:
    with ExitStack() as stack:
        first = stack.enter_context(SglangDouble(folder))
        yield first, stack.enter_context(SglangDouble(folder))


@pytest.fixture
def double(doubles: tuple[SglangDouble, SglangDouble]) -> SglangDouble:
    return doubles[0]


async def opened(*doubles: SglangDouble, **options: float) -> SglangEngine:
    return await asyncio.to_thread(connect, *doubles, **options)


def start(command: list[str]) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": str(TESTS), "PATH": ""}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


async def whole(engine: SglangEngine, count: int, adapter: str | None = None) -> list[Generation]:
    """Calls whose prompts share no beginning with any other, so that every server gets some."""
    numbers = [next(COUNTER) for _ in range(count)]
    prompts = [[3 + number % 300, 3 + number // 300 % 300] * 32 for number in numbers]
    return await asyncio.gather(*(engine.generate(request(prompt, adapter)) for prompt in prompts))


def tasks_left() -> int:
    return len(asyncio.all_tasks()) - 1


# -- servers that go away ---------------------------------------------------------------------------------------------


async def test_connection_refused_is_unavailable_within_its_patience(double: SglangDouble) -> None:
    engine = await opened(double, unreachable_seconds=0.5)
    double.stop()
    began = time.monotonic()
    done = await asyncio.gather(*(engine.generate(request()) for _ in range(20)), return_exceptions=True)
    assert time.monotonic() - began < 4.0
    assert all(isinstance(error, EngineUnavailable) for error in done)
    assert "lmgraph engine up" in str(done[0])
    assert double.url in str(done[0])
    await engine.aclose()
    assert tasks_left() == 0


async def test_a_server_that_dies_amid_50_calls_loses_none(doubles: tuple[SglangDouble, SglangDouble]) -> None:
    first, second = doubles

    async def hang(request: Request, response: Response) -> None:
        return None

    first.change = hang
    engine = await opened(first, second)
    calls = asyncio.create_task(whole(engine, 50))
    await asyncio.to_thread(first.wait_for, "/generate")
    await asyncio.to_thread(second.wait_for, "/generate")
    assert not calls.done()
    first.stop()
    done = await calls
    assert len(done) == 50
    assert {engine.tokenizer.decode(one.token_ids) for one in done} == {"the label"}
    assert max(one.attempts for one in done) > 1
    await engine.aclose()


async def test_sigkill_of_one_of_two_processes_amid_200_calls_loses_none(folder: Path) -> None:
    script = [sys.executable, str(TESTS / "support" / "sglang_double.py"), str(folder), "0.3"]
    with ExitStack() as stack:
        servers = []
        for _ in range(2):
            servers.append(await asyncio.to_thread(start, [*script]))
            stack.callback(servers[-1].wait)
            stack.callback(servers[-1].kill)
        urls = [f"http://127.0.0.1:{server.stdout.readline().strip()}" for server in servers if server.stdout]
        engine = await asyncio.to_thread(open_sglang_engine, "", urls=tuple(urls), max_requests=25)
        calls = asyncio.create_task(whole(engine, 200))
        await asyncio.sleep(0.4)
        servers[0].kill()
        assert not calls.done()
        done = await calls
        assert len(done) == 200
        assert all(one.finish_reason == "stop" for one in done)
        await engine.aclose()
        for server in servers:
            if server.stdout:
                server.stdout.close()


async def test_a_server_that_comes_back_is_asked_again(doubles: tuple[SglangDouble, SglangDouble]) -> None:
    first, second = doubles
    engine = await opened(first, second)
    first.stop()
    await whole(engine, 10)
    first.start()
    before = len(first.asked("/generate"))
    async with asyncio.timeout(60):
        while len(first.asked("/generate")) == before:
            await whole(engine, 10)
            await asyncio.sleep(0.02)
    assert len(first.asked("/tokenize")) >= 2, "it was asked what it serves before it got a call"
    await engine.aclose()


async def test_a_server_that_comes_back_with_another_model_gets_no_call(
    doubles: tuple[SglangDouble, SglangDouble],
) -> None:
    first, second = doubles
    engine = await opened(first, second)
    first.stop()
    await whole(engine, 10)
    first.tokenizer.encode_template, sane = (lambda text: [1, 2, 3]), first.tokenizer.encode_template
    first.start()
    before = len(first.asked("/generate"))
    async with asyncio.timeout(60):
        while len(first.asked("/tokenize")) == 1:
            await whole(engine, 5)
            await asyncio.sleep(0.02)
    await whole(engine, 20)
    assert len(first.asked("/generate")) == before
    first.tokenizer.encode_template = sane
    await engine.aclose()


async def test_adapters_survive_the_death_of_a_server(
    doubles: tuple[SglangDouble, SglangDouble], tmp_path: Path
) -> None:
    first, second = doubles
    first.seconds = second.seconds = 0.1
    engine = await opened(first, second)
    await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "a"))
    calls = asyncio.create_task(whole(engine, 30, "shared@v1"))
    await asyncio.sleep(0.05)
    first.restart()
    assert len(await calls) == 30
    served_as = set(second.registered)
    for body in first.asked("/generate") + second.asked("/generate"):
        assert {body["lora_path"]} == served_as
    await engine.aclose()


async def test_a_server_that_is_not_up_at_the_start_joins_later(doubles: tuple[SglangDouble, SglangDouble]) -> None:
    first, second = doubles
    first.stop()
    engine = await opened(first, second, handshake_seconds=5)
    await whole(engine, 4)
    first.start()
    for _ in range(200):
        await whole(engine, 10)
        if first.asked("/generate"):
            break
        await asyncio.sleep(0.02)
    assert first.asked("/generate")
    await engine.aclose()


# -- servers that do not answer ---------------------------------------------------------------------------------------


async def test_a_hung_socket_ends_at_the_deadline(double: SglangDouble) -> None:
    engine = await opened(double, deadline_seconds=1.0)

    async def hang(request: Request, response: Response) -> None:
        return None

    double.change = hang
    began = time.monotonic()
    with pytest.raises(EngineTimeout, match="within 1 s"):
        await engine.generate(request())
    assert time.monotonic() - began < 4.0
    await engine.aclose()
    assert tasks_left() == 0


async def test_a_socket_that_never_accepts_ends_at_the_deadline(double: SglangDouble) -> None:
    engine = await opened(double, deadline_seconds=1.0)
    double.stop()
    with socket.socket() as full:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", double.port))
        full.listen(0)
        began = time.monotonic()
        with pytest.raises((EngineTimeout, EngineUnavailable)):
            await engine.generate(request())
        assert time.monotonic() - began < 4.0
        await engine.aclose()
        assert tasks_left() == 0


async def test_a_dripping_socket_ends_at_the_deadline(double: SglangDouble) -> None:
    engine = await opened(double, deadline_seconds=1.0)

    async def drip(request: Request, response: Response) -> Response:
        response.drip_seconds = 0.2
        return response

    double.change = drip
    began = time.monotonic()
    with pytest.raises(EngineTimeout):
        await engine.generate(request())
    assert time.monotonic() - began < 4.0
    await engine.aclose()
    assert tasks_left() == 0


async def test_a_hung_handshake_is_an_error_and_no_wait(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EngineUnavailable, match=r"no word within 0\.5 s"):
            await asyncio.to_thread(open_sglang_engine, "", urls=(url,), handshake_seconds=0.5)


@pytest.mark.parametrize("status", [429, 503, 502, 408])
async def test_a_storm_of_refusals_is_weathered(double: SglangDouble, status: int) -> None:
    engine = await opened(double)
    refused = 0

    async def storm(request: Request, response: Response) -> Response:
        nonlocal refused
        if refused < 60:
            refused += 1
            return Response({"error": "later"}, status)
        return response

    double.change = storm
    done = await whole(engine, 40)
    assert len(done) == 40
    assert refused == 60
    assert sum(one.attempts for one in done) == 100
    await engine.aclose()


async def test_a_wait_that_the_server_asks_for_is_kept(double: SglangDouble) -> None:
    engine = await opened(double)

    async def later(request: Request, response: Response) -> Response:
        first = len(double.asked("/generate")) == 1
        return Response({}, 429, {"Retry-After": "0.7"}) if first else response

    double.change = later
    began = time.monotonic()
    await engine.generate(request())
    assert 0.7 <= time.monotonic() - began < 4.0
    await engine.aclose()


async def test_a_storm_without_end_is_a_timeout_that_says_why(double: SglangDouble) -> None:
    engine = await opened(double, deadline_seconds=1.0)

    async def storm(request: Request, response: Response) -> Response:
        return Response({"error": {"message": "queue is full"}}, 503)

    double.change = storm
    with pytest.raises(EngineTimeout, match="HTTP 503: queue is full"):
        await engine.generate(request())
    await engine.aclose()


async def test_what_fails_each_time_is_tried_a_few_times_only(double: SglangDouble) -> None:
    engine = await opened(double)

    async def crash(request: Request, response: Response) -> Response:
        return Response({"detail": "an index is out of range"}, 500)

    double.change = crash
    with pytest.raises(EngineError, match="an index is out of range"):
        await engine.generate(request())
    assert len(double.asked("/generate")) == 4
    await engine.aclose()


async def test_over_length_is_never_sent_again(double: SglangDouble) -> None:
    engine = await opened(double)

    async def too_long(request: Request, response: Response) -> Response:
        message = "The input (600 tokens) is longer than the model's context length (512 tokens)."
        return Response({"error": {"message": message}}, 400)

    double.change = too_long
    with pytest.raises(ContextOverflow, match="600 tokens"):
        await engine.generate(request())
    assert len(double.asked("/generate")) == 1
    await engine.aclose()


async def changed(double: SglangDouble, response: Response) -> tuple[BaseException, int]:
    """What a call fails with where every answer is ``response``, and how often it was sent."""
    engine = await opened(double, unreachable_seconds=0.3)

    async def change(request: Request, _: Response) -> Response:
        return response

    double.change = change
    with pytest.raises(EngineError) as failed:
        await engine.generate(request())
    await engine.aclose()
    return failed.value, len(double.asked("/generate"))


async def test_an_abort_with_status_200_is_never_a_value(double: SglangDouble) -> None:
    engine = await opened(double)

    async def abort(request: Request, response: Response) -> Response:
        response.body["meta_info"]["finish_reason"] = {"type": "abort", "message": "abort in waiting queue"}
        return response

    double.change = abort
    done = await asyncio.gather(*(engine.generate(request()) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(error, EngineError) and "abort in waiting queue" in str(error) for error in done)
    assert len(double.asked("/generate")) == 10
    await engine.aclose()


async def test_ids_that_do_not_match_are_never_a_value(double: SglangDouble) -> None:
    engine = await opened(double)

    async def another(request: Request, response: Response) -> Response:
        response.body["output_ids"] = response.body["output_ids"][:-1]
        return response

    async def swapped(request: Request, response: Response) -> Response:
        response.body["meta_info"]["id"] = "somebody else's"
        return response

    for change, said in ((another, "differ"), (swapped, "somebody else's")):
        double.change = change
        with pytest.raises(EngineError, match=said):
            await engine.generate(request())
    assert len(double.asked("/generate")) == 2
    await engine.aclose()


@pytest.mark.parametrize("raw", [b"", b"{", b"null", b"[]", b"\xff\xfe", b"<html>", b"[" * 100_000], ids=repr)
async def test_malformed_json_is_never_a_value(double: SglangDouble, raw: bytes) -> None:
    error, sent = await changed(double, Response(raw=raw))
    assert "broke the protocol" in str(error)
    assert sent == 1


async def test_an_answer_without_end_is_cut_off(double: SglangDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmgraph.engines.http.transport.LARGEST_ANSWER", 1 << 16)
    error, _ = await changed(double, Response(raw=b" " * (1 << 20)))
    assert "longer than" in str(error)


async def test_an_answer_that_breaks_off_is_sent_again(double: SglangDouble) -> None:
    engine = await opened(double)

    async def broken(request: Request, response: Response) -> Response:
        if len(double.asked("/generate")) == 1:
            return Response(raw=b'{"text": ', headers={"Content-Length": "5000"}, then_reset=True)
        return response

    double.change = broken
    assert (await engine.generate(request())).attempts == 2
    await engine.aclose()
