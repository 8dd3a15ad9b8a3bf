"""The SGLang engine against a double that speaks its wire format on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.engines.sglang import engine as engine_module
from lmgraph.engines.sglang import open_sglang_engine
from lmgraph.engines.sglang.engine import SglangEngine
from lmgraph.engines.sglang.router import may_join
from lmgraph.errors import ConfigError, ContextOverflow, EngineError, EngineRejected, EngineUnavailable
from lmgraph.runtime.engine import RemoteEngine, TrainableEngine
from lmgraph.testing import check_engine
from support.http_double import HttpDouble, Request, Response
from support.sglang_double import SglangDouble
from support.sglang_engine import PROMPT, adapter_folder, connect, request, tiny_folder
from support.tiny_model import make_tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMGRAPH_HOME", str(tmp_path / "home"))


@pytest.fixture
def double(folder: Path) -> Iterator[SglangDouble]:
    with SglangDouble(folder) as server:
        yield server


@pytest.fixture
def engine(double: SglangDouble) -> SglangEngine:
    return connect(double)


async def test_it_keeps_the_contract_of_engines(engine: SglangEngine) -> None:
    await check_engine(engine)


def test_it_says_what_it_is(engine: SglangEngine, double: SglangDouble, folder: Path) -> None:
    assert isinstance(engine, TrainableEngine)
    assert isinstance(engine, RemoteEngine)
    assert (engine.name, engine.model_id, engine.model_folder) == ("sglang", "tiny", folder)
    assert engine.urls == (double.url,)
    assert engine.token_exact
    assert not engine.honours_seed
    assert engine.stop_token_ids == (2, 0)
    # 512 of the model, less what the scheduler keeps of them.
    assert engine.context_length == 510


async def test_each_sample_is_one_request_with_a_rid_of_its_own(engine: SglangEngine, double: SglangDouble) -> None:
    generations = await asyncio.gather(*(engine.generate(request()) for _ in range(8)))
    assert {engine.tokenizer.decode(one.token_ids) for one in generations} == {"the label"}
    bodies = double.asked("/generate")
    assert len({body["rid"] for body in bodies}) == 8
    assert {len(body["rid"]) for body in bodies} == {32}
    assert all(body["input_ids"] == PROMPT for body in bodies)
    assert len(double.asked("/tokenize")) == 1
    await engine.aclose()


async def test_seeds_are_sent_where_the_server_honours_them(double: SglangDouble) -> None:
    double.info["enable_deterministic_inference"] = True
    engine = await asyncio.to_thread(connect, double)
    assert engine.honours_seed
    await engine.generate(request(seed=77, temperature=1.0))
    assert double.asked("/generate")[0]["sampling_params"]["sampling_seed"] == 77
    await engine.aclose()


def test_it_lives_on_one_event_loop_after_another(engine: SglangEngine) -> None:
    for _ in range(3):
        assert asyncio.run(engine.generate(request())).finish_reason == "stop"
    asyncio.run(engine.aclose())


async def test_a_closed_engine_refuses(engine: SglangEngine) -> None:
    await engine.aclose()
    await engine.aclose()
    with pytest.raises(EngineError, match="closed"):
        await engine.generate(request())


async def test_a_cancelled_call_is_aborted_at_the_server(engine: SglangEngine, double: SglangDouble) -> None:
    double.seconds = 30.0
    task = asyncio.create_task(engine.generate(request()))
    await asyncio.to_thread(double.wait_for, "/generate")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.aclose()
    assert double.aborted == [double.asked("/generate")[0]["rid"]]


async def test_health(engine: SglangEngine, double: SglangDouble) -> None:
    assert await engine.health() == {double.url: True}
    double.stop()
    assert await engine.health() == {double.url: False}
    await engine.aclose()


# -- adapters ---------------------------------------------------------------------------------------------------------


async def test_adapters_have_names_and_paths_that_say_their_content(
    engine: SglangEngine, double: SglangDouble, tmp_path: Path
) -> None:
    first = adapter_folder(tmp_path / "a", b"one")
    await engine.load_adapter("shared@v1", first)
    await engine.load_adapter("shared@v1", first)
    assert len(double.asked("/load_lora_adapter")) == 1
    (served_as, path), *_ = double.registered.items()
    assert served_as.startswith("shared@v1-")
    # What the caller does to its folder does not reach what the server may reload.
    adapter_folder(tmp_path / "a", b"changed")
    assert (Path(path) / "adapter_model.safetensors").read_bytes() == b"one"
    with pytest.raises(EngineRejected, match="other weights"):
        await engine.load_adapter("shared@v1", first)
    await engine.generate(request(adapter="shared@v1"))
    await engine.generate(request())
    assert [body.get("lora_path") for body in double.asked("/generate")] == [served_as, None]
    await engine.aclose()


async def test_an_unloaded_adapter_is_refused_here_though_the_server_would_reload_it(
    engine: SglangEngine, double: SglangDouble, tmp_path: Path
) -> None:
    await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "a"))
    await engine.unload_adapter("shared@v1")
    assert not double.registered
    with pytest.raises(EngineRejected, match="not loaded"):
        await engine.generate(request(adapter="shared@v1"))
    with pytest.raises(EngineRejected, match="not loaded"):
        await engine.unload_adapter("shared@v1")
    await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "b", b"new"))
    await engine.generate(request(adapter="shared@v1"))
    assert not double.asked("/generate")[-1]["lora_path"].endswith(double.asked("/load_lora_adapter")[0]["lora_name"])
    await engine.aclose()


async def test_an_adapter_that_the_server_refuses_is_not_there(
    engine: SglangEngine, double: SglangDouble, tmp_path: Path
) -> None:
    with pytest.raises(EngineRejected, match="no PEFT adapter folder"):
        await engine.load_adapter("none@v1", tmp_path)

    def refuse(body: dict[str, str]) -> Response:
        return Response({"success": False, "error_message": "rank 64 is above the maximum of 16"}, 400)

    double._load = refuse  # type: ignore[method-assign]
    with pytest.raises(EngineRejected, match="rank 64 is above"):
        await engine.load_adapter("big@v1", adapter_folder(tmp_path / "a"))
    with pytest.raises(EngineRejected, match="not loaded"):
        await engine.generate(request(adapter="big@v1"))
    await engine.aclose()


async def test_a_server_without_lora_says_so(double: SglangDouble, tmp_path: Path) -> None:
    double.info["enable_lora"] = False
    engine = await asyncio.to_thread(connect, double)
    with pytest.raises(EngineRejected, match="serves no adapters"):
        await engine.load_adapter("a@v1", adapter_folder(tmp_path / "a"))
    await engine.aclose()


async def test_a_server_that_was_restarted_gets_its_adapters_again(
    engine: SglangEngine, double: SglangDouble, tmp_path: Path
) -> None:
    await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "a"))
    await engine.generate(request(adapter="shared@v1"))
    double.restart()
    generation = await engine.generate(request(adapter="shared@v1"))
    assert generation.finish_reason == "stop"
    # Even where the connection did not tell: it forgets in silence.
    double.registered.clear()
    double.remembered.clear()
    assert (await engine.generate(request(adapter="shared@v1"))).attempts == 2
    await engine.aclose()


# -- what is served ---------------------------------------------------------------------------------------------------


def test_another_tokenizer_is_refused_before_any_call(folder: Path, tmp_path: Path) -> None:
    class Reversed(LocalTokenizer):
        def encode_template(self, text: str) -> list[int]:
            return super().encode_template(text)[::-1]

    with SglangDouble(folder, tokenizer=Reversed(folder)) as double:
        with pytest.raises(ConfigError, match="another tokenizer"):
            connect(double)
        assert not double.asked("/generate")


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_tiny_tokenizer(other)
    (other / "config.json").write_text('{"model_type": "llama"}')
    (other / "model.safetensors").write_bytes(b"")
    with SglangDouble(folder) as double:
        with pytest.raises(ConfigError, match="serves tiny, and other was asked for"):
            open_sglang_engine(str(other), urls=(double.url,))
        double.served_name = "other"
        assert open_sglang_engine(str(other), urls=(double.url,)).model_id == "other"


def test_an_old_server_is_refused(double: SglangDouble) -> None:
    double.info["version"] = "0.5.21"
    with pytest.raises(ConfigError, match=r"0\.5\.21; 0\.5\.22 or newer"):
        connect(double)
    double.info["version"] = "0.5.22.post1"
    connect(double)


def test_what_is_no_sglang_server_is_named(folder: Path) -> None:
    async def not_found(request: Request) -> Response:
        return Response(status=404, raw=b"<html>no such page</html>")

    with HttpDouble(not_found) as other, pytest.raises(EngineUnavailable, match="HTTP 404") as refused:
        connect(other)
    assert "html" not in refused.value.message
    assert refused.value.hint is not None
    assert "lmgraph engine up" in refused.value.hint


def test_no_server_is_an_error_with_three_ways_out() -> None:
    with pytest.raises(EngineUnavailable) as refused:
        open_sglang_engine("smollm2-135m")
    assert "No SGLang server is known for smollm2-135m" in refused.value.message
    for way in ("lmgraph engine up --model smollm2-135m", "sglang:http://", "--engine local"):
        assert way in (refused.value.hint or "")
    with pytest.raises(EngineUnavailable, match=r"Connection refused|Connect call failed") as refused:
        open_sglang_engine("", urls=("http://127.0.0.1:9",))
    assert "--engine local" in (refused.value.hint or "")


def test_keys_are_sent_and_never_shown(double: SglangDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    double.key = "secret-of-ours"
    with pytest.raises(EngineUnavailable, match="refused the key") as refused:
        connect(double)
    assert "LMGRAPH_SGLANG_API_KEY" in (refused.value.hint or "")
    monkeypatch.setenv("LMGRAPH_SGLANG_API_KEY", "secret-of-ours")
    engine = connect(double)

    async def echo(request: Request, response: Response) -> Response:
        return Response({"error": {"message": f"bad header {request.headers['authorization']}"}}, 400)

    double.change = echo
    with pytest.raises(EngineRejected) as rejected:
        asyncio.run(engine.generate(request()))
    assert "secret" not in str(rejected.value)
    assert "secret" not in repr(engine) + repr(vars(engine))


def test_a_wrong_option_names_the_right_ones(double: SglangDouble) -> None:
    with pytest.raises(ConfigError) as refused:
        connect(double, deadline=5)
    assert "deadline_seconds" in (refused.value.hint or "")
    with pytest.raises(ConfigError, match="above 0"):
        connect(double, deadline_seconds=0)


async def test_a_prompt_that_is_too_long_is_refused_here(engine: SglangEngine, double: SglangDouble) -> None:
    with pytest.raises(ContextOverflow, match="510"):
        await engine.generate(request([5] * 500))
    with pytest.raises(EngineRejected, match="vocabulary"):
        await engine.generate(request([5, 9999]))
    assert not double.asked("/generate")
    await engine.aclose()


# -- sglang-router ----------------------------------------------------------------------------------------------------


class Router(HttpDouble):
    """Answers as sglang-router 0.3.2 does, which was looked at: it lists its workers, and knows no adapters."""

    def __init__(self, *workers: Any) -> None:
        super().__init__(self._list)
        self.workers = workers

    async def _list(self, request: Request) -> Response:
        if request.path == "/workers":
            listed = [
                {"url": one.url, "worker_type": "regular"} if isinstance(one, SglangDouble) else one
                for one in self.workers
            ]
            return Response({"workers": listed, "total": len(listed)})
        return Response(None, 404, raw=b"")


async def test_control_calls_reach_every_worker_of_a_router(folder: Path, tmp_path: Path) -> None:
    with SglangDouble(folder) as first, SglangDouble(folder) as second, Router(first, second) as front:
        engine = await asyncio.to_thread(connect, front)
        assert engine.urls == (first.url, second.url)
        await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "adapter"))
        assert first.registered
        assert first.registered == second.registered
        done = await asyncio.gather(*(engine.generate(request([5 + n] * 40, "shared@v1")) for n in range(8)))
        assert len(done) == 8
        assert first.asked("/generate")
        assert second.asked("/generate")
        await engine.unload_adapter("shared@v1")
        assert first.registered == second.registered == {}
        call = asyncio.create_task(hold(first, engine))
        await asyncio.to_thread(first.wait_for, "/abort_request")
        await call
        assert {one.path for one in front.requests} == {"/workers"}
        await engine.aclose()


async def hold(double: SglangDouble, engine: SglangEngine) -> None:
    """A call that ``double`` holds, cancelled."""

    async def hang(asked: Request, response: Response) -> None:
        return None

    double.change = hang
    double.requests.clear()
    calls = [asyncio.create_task(engine.generate(request([60 + n] * 40))) for n in range(4)]
    await asyncio.to_thread(double.wait_for, "/generate")
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize(
    ("workers", "error", "said"),
    [
        ([], EngineUnavailable, "has no worker"),
        ([{"url": "grpc://127.0.0.1:1", "worker_type": "regular"}], ConfigError, "grpc://127.0.0.1:1"),
        ([{"url": "http://127.0.0.1:1", "worker_type": "prefill"}], ConfigError, "prefill"),
        (["text"], ConfigError, "no plain SGLang server"),
    ],
)
def test_workers_that_cannot_be_used_are_named(workers: list[Any], error: type[Exception], said: str) -> None:
    with Router(*workers) as front, pytest.raises(error, match=said):
        connect(front)


async def at_all(engine: SglangEngine, double: SglangDouble, adapter: str | None = None) -> None:
    """Calls until one of them goes to ``double``."""
    async with asyncio.timeout(60):
        while not double.asked("/generate"):
            await asyncio.gather(*(engine.generate(request([5 + n] * 40, adapter)) for n in range(8)))
            await asyncio.sleep(0.01)


async def test_a_worker_that_joins_gets_the_adapters_that_it_lacks(folder: Path, tmp_path: Path) -> None:
    with SglangDouble(folder) as first, SglangDouble(folder) as second, Router(first) as front:
        engine = await asyncio.to_thread(connect, front)
        await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "a", b"one"))
        front.workers = (first, second)
        await engine.generate(request(adapter="shared@v1"))
        assert engine.urls == (first.url,), "the list is not so old yet"
        await engine.load_adapter("shared@v2", adapter_folder(tmp_path / "b", b"two"))
        assert engine.urls == (first.url, second.url)
        assert {name.partition("-")[0] for name in second.registered} == {"shared@v2"}
        await at_all(engine, second, "shared@v1")
        assert second.registered == first.registered
        assert len(second.asked("/tokenize")) == 1, "it was asked what it serves, as any server is"
        front.workers = (second,)
        await engine.unload_adapter("shared@v1")
        assert engine.urls == (second.url,)
        assert {name.partition("-")[0] for name in second.registered} == {"shared@v2"}
        first.requests.clear()
        await asyncio.gather(*(engine.generate(request([5 + n] * 40, "shared@v2")) for n in range(8)))
        assert not first.requests
        await engine.aclose()


async def test_a_worker_that_joins_is_seen_after_a_while(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SglangDouble(folder) as first, SglangDouble(folder) as second, Router(first) as front:
        engine = await asyncio.to_thread(connect, front)
        front.workers = (first, second)
        monkeypatch.setattr(engine_module, "FOLLOW_SECONDS", 0.0)
        await at_all(engine, second)
        assert engine.urls == (first.url, second.url)
        await engine.aclose()


async def test_calls_go_to_the_worker_that_took_another_s_place(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "FOLLOW_LOST_SECONDS", 0.0)
    with SglangDouble(folder) as first, SglangDouble(folder) as second, Router(first) as front:
        engine = await asyncio.to_thread(connect, front)
        await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "a"))
        front.workers = (second,)
        first.stop()
        assert (await engine.generate(request(adapter="shared@v1"))).attempts > 1
        assert engine.urls == (second.url,)
        await engine.aclose()


async def test_a_router_that_names_no_worker_changes_nothing(double: SglangDouble, tmp_path: Path) -> None:
    with Router(double) as front:
        engine = await asyncio.to_thread(connect, front)
        for number, workers in enumerate(((), ({"url": "grpc://127.0.0.1:1"},))):
            front.workers = workers
            await engine.load_adapter(f"shared@v{number}", adapter_folder(tmp_path / f"{number}"))
        front.stop()
        await engine.load_adapter("shared@v9", adapter_folder(tmp_path / "9"))
        assert engine.urls == (double.url,)
        await engine.aclose()


async def test_none_joins_that_a_private_lm_must_not_be_bound_to(
    double: SglangDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Router(double) as front:
        engine = await asyncio.to_thread(connect, front)
        front.workers = (double, {"url": "http://192.0.2.1:30000", "worker_type": "regular"})
        await engine.load_adapter("shared@v1", adapter_folder(tmp_path / "a"))
        await engine.unload_adapter("shared@v1")
        assert engine.urls == (double.url,)
        assert [record.args for record in caplog.records] == [("http://192.0.2.1:30000", "LMGRAPH_PRIVATE_HOSTS")]
        await engine.aclose()
    here, there, other = "http://127.0.0.1:1", "http://192.0.2.1:1", "http://192.0.2.2:1"
    assert may_join(other, (here, there)), "no private LM can be bound to these"
    monkeypatch.setenv("LMGRAPH_PRIVATE_HOSTS", "192.0.2.1")
    assert may_join(there, (here,))
    assert not may_join(other, (here, there))
