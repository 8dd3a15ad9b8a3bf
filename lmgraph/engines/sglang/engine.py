"""SglangEngine: one or several SGLang servers that serve the same model, behind the engine protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmgraph.engines.home import lmgraph_home
from lmgraph.engines.http.caller import Caller, Patience
from lmgraph.engines.http.checks import positive
from lmgraph.engines.http.pool import Pool, Server
from lmgraph.engines.http.problems import Malformed, Refused, Unreachable
from lmgraph.engines.http.transport import Transport
from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.engines.request_checks import check_request
from lmgraph.engines.sglang.adapters import AdapterShelf, PublishedAdapter
from lmgraph.engines.sglang.connect import meet_servers
from lmgraph.engines.sglang.handshake import ServerFacts, ask_facts, compare_tokenizers
from lmgraph.engines.sglang.known import ADMIN_KEY_VARIABLE, API_KEY_VARIABLE, ways_out
from lmgraph.engines.sglang.model import ServedModel
from lmgraph.engines.sglang.refusals import final_error, has_lost_adapter
from lmgraph.engines.sglang.wire import read_answer, request_body
from lmgraph.errors import ConfigError, EngineError, EngineRejected, EngineUnavailable
from lmgraph.runtime.engine import GenerateRequest, Generation

ABORT_SECONDS = 2.0
"""A server notices on its own, within seconds, that nobody waits any more; telling it is a courtesy."""


@dataclass(frozen=True, slots=True)
class SglangOptions:
    """How servers are used."""

    deadline_seconds: float = 600.0
    """Longest a call may take, waiting and retries included."""
    unreachable_seconds: float = 20.0
    """How long all servers may be out of reach before calls fail."""
    handshake_seconds: float = 60.0
    """Longest a server may take to say what it serves."""
    max_requests: int = 256
    """Most requests under way at one server; fewer while it says that it is overloaded."""
    adapter_folder: str = ""
    """Where adapters are put for the servers to read; empty is `adapters` under lmgraph's own folder."""

    def __post_init__(self) -> None:
        positive("SGLang", self, "deadline_seconds", "unreachable_seconds", "handshake_seconds", "max_requests")


class SglangEngine:
    """A TrainableEngine on SGLang servers. Safe to share between tasks, and between event loops in turn."""

    def __init__(
        self, model: ServedModel, facts: ServerFacts, urls: tuple[str, ...], options: SglangOptions | None = None
    ) -> None:
        """For servers that have been asked what they serve; `connect` asks them."""
        options = options or SglangOptions()
        self._model = model
        self._facts = facts
        self._urls = urls
        self._options = options
        self._key = os.environ.get(API_KEY_VARIABLE, "")
        self._admin_key = os.environ.get(ADMIN_KEY_VARIABLE, "")
        self._shelf = AdapterShelf(
            Path(options.adapter_folder).expanduser().resolve()
            if options.adapter_folder
            else lmgraph_home() / "adapters"
        )
        self._transport = Transport(secrets=(self._key, self._admin_key))
        self._pool = Pool(urls, options.max_requests)
        patience = Patience(options.deadline_seconds, options.unreachable_seconds)
        self._caller = Caller("SGLang", self._pool, patience, lambda: ways_out(self.model_id))
        self._loaded: dict[str, set[str]] = {url: set() for url in urls}
        """Adapters that each server has, as it knows them."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    def connect(cls, asked: str, urls: tuple[str, ...], options: SglangOptions | None = None) -> SglangEngine:
        """Ask the servers what they serve; blocks. A router stands for its workers. Servers that do not answer yet
        are asked again at their first call.

        Raises: EngineUnavailable if none answers; ConfigError if one serves another model or tokenizer.
        """
        options = options or SglangOptions()
        met = asyncio.run(meet_servers(asked, urls, options.handshake_seconds))
        engine = cls(met.model, met.facts, met.urls, options)
        engine.trust(met.answered)
        return engine

    @property
    def name(self) -> str:
        return "sglang"

    @property
    def model_id(self) -> str:
        return self._model.model_id

    @property
    def model_folder(self) -> Path:
        return self._model.folder

    @property
    def urls(self) -> tuple[str, ...]:
        return self._urls

    @property
    def tokenizer(self) -> LocalTokenizer:
        return self._model.tokenizer

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        return self._model.stop_token_ids

    @property
    def context_length(self) -> int:
        return self._facts.context_length

    @property
    def token_exact(self) -> bool:
        return True

    @property
    def honours_seed(self) -> bool:
        return self._facts.deterministic

    @property
    def constrains(self) -> bool:
        return True

    @property
    def caches_prefixes(self) -> bool:
        return True

    def trust(self, verified: Collection[str]) -> None:
        """These URLs have just said what they serve, and need not be asked again before their first call."""
        for server in self._pool.servers:
            server.verified = server.url in verified

    async def generate(self, request: GenerateRequest) -> Generation:
        self._enter()
        sampling = request.sampling
        check_request(request, self._model.vocabulary_size, self.context_length, self.model_id)
        adapter = None if request.adapter is None else self._shelf.get(request.adapter)
        stops = self.stop_token_ids if sampling.stop_token_ids is None else sampling.stop_token_ids
        served_as = None if adapter is None else adapter.served_as
        body = request_body(request.prompt_ids, sampling, stops, served_as, seeded=self.honours_seed)

        async def send(server: Server) -> Generation:
            return await self._send(server, body, sampling.max_tokens, adapter)

        began = time.perf_counter()
        try:
            answered = await self._caller.call(request.prompt_ids, served_as or "", send, request.rank)
        except Refused as problem:
            raise final_error(problem, self.model_id) from None
        seconds = time.perf_counter() - began
        return replace(
            answered.value,
            attempts=answered.attempts,
            queue_seconds=answered.waited_seconds,
            decode_seconds=seconds - answered.waited_seconds,
        )

    async def load_adapter(self, name: str, folder: Path) -> None:
        self._enter()
        if not self._facts.serves_adapters:
            raise EngineRejected(
                f"the server at {self._urls[0]} serves no adapters.",
                hint="start it with --enable-lora, as `lmgraph engine up` does",
            )
        adapter = await asyncio.to_thread(self._shelf.publish, name, folder)
        try:
            loads = (self._prepare_server(server, adapter) for server in self._pool.servers)
            done = await asyncio.gather(*loads, return_exceptions=True)
        except asyncio.CancelledError:
            self._shelf.forget(name)
            raise
        problems = [problem for problem in done if isinstance(problem, BaseException)]
        lasting = next((problem for problem in problems if not isinstance(problem, Unreachable)), None)
        if lasting is None and len(problems) < len(done):
            return  # a server out of reach gets it before its next call with it
        self._shelf.forget(name)
        if isinstance(lasting, Refused):
            raise final_error(lasting, self.model_id) from None
        if isinstance(lasting, Malformed):
            raise EngineError(f"SGLang broke the protocol: {lasting}.") from None
        if lasting is not None:
            raise lasting
        raise EngineUnavailable(f"SGLang does not answer: {problems[0]}.", hint=ways_out(self.model_id))

    async def unload_adapter(self, name: str) -> None:
        self._enter()
        adapter = self._shelf.get(name)
        self._shelf.forget(name)
        for server in self._pool.servers:
            if adapter.served_as not in self._loaded[server.url]:
                continue
            self._loaded[server.url].discard(adapter.served_as)
            # A server that is out of reach, or has dropped it already, has it no more either.
            with contextlib.suppress(Unreachable, Refused, Malformed, TimeoutError):
                async with asyncio.timeout(self._options.handshake_seconds):
                    await self._control(server, "/unload_lora_adapter", {"lora_name": adapter.served_as})

    async def health(self) -> dict[str, bool]:
        """By URL, whether the server says that it is warm and generates."""
        self._enter()
        return dict(zip(self._urls, await asyncio.gather(*map(self._is_healthy, self._urls)), strict=True))

    async def aclose(self) -> None:
        """Fail what is under way and close the connections. Closing twice is no error."""
        self._closed = True
        if self._loop is asyncio.get_running_loop() and self._farewells:
            await asyncio.wait(self._farewells, timeout=ABORT_SECONDS)
        await self._transport.aclose()

    async def _send(
        self, server: Server, body: Mapping[str, Any], max_tokens: int, adapter: PublishedAdapter | None
    ) -> Generation:
        await self._prepare_server(server, adapter)
        rid = uuid.uuid4().hex
        try:
            answer = await self._transport.post(f"{server.url}/generate", {**body, "rid": rid}, self._headers())
        except asyncio.CancelledError:
            self._say_farewell(server, rid)
            raise
        except Refused as problem:
            if adapter is not None and has_lost_adapter(problem):
                raise Unreachable(f"it has lost the adapter {adapter.name}") from None
            raise
        except Unreachable:
            self._check_open()
            raise
        return read_answer(answer, rid, max_tokens, self._model.vocabulary_size)

    async def _prepare_server(self, server: Server, adapter: PublishedAdapter | None) -> None:
        """See to it that the server is the one we take it for, and has the adapter."""
        if server.verified and (adapter is None or adapter.served_as in self._loaded[server.url]):
            return
        async with self._locks.setdefault(server.url, asyncio.Lock()):
            self._check_open()
            try:
                async with asyncio.timeout(self._options.handshake_seconds):
                    if not server.verified:
                        await self._verify(server)
                    if adapter is not None and adapter.served_as not in self._loaded[server.url]:
                        await self._load(server, adapter)
            except TimeoutError:
                raise Unreachable(f"no word within {self._options.handshake_seconds:g} s") from None

    async def _verify(self, server: Server) -> None:
        """Raises: Unreachable where it serves something else now, so that calls go to the others."""
        self._loaded[server.url].clear()
        try:
            facts = await ask_facts(self._transport, server.url, self._headers())
            model = self._model
            await compare_tokenizers(
                self._transport, server.url, self._headers(), model.tokenizer, model.tokenizer.vocabulary_size
            )
        except (ConfigError, EngineUnavailable) as error:
            raise Unreachable(error.message) from None
        except Malformed as problem:
            raise Unreachable(str(problem)) from None
        except Refused as problem:
            if problem.status not in (301, 302, 307, 308, 404, 405):
                raise
            raise Unreachable(f"no SGLang server answers there now ({problem})") from None
        if facts.context_length < self.context_length or (self.honours_seed and not facts.deterministic):
            raise Unreachable("it is run with other limits than the servers beside it")
        server.verified = True

    async def _load(self, server: Server, adapter: PublishedAdapter) -> None:
        body = {"lora_name": adapter.served_as, "lora_path": str(adapter.folder)}
        try:
            await self._control(server, "/load_lora_adapter", body)
        except Refused as problem:
            # The name says the content, so an adapter that is there under it is this one.
            if "already" not in problem.detail:
                if problem.status == 400:
                    raise EngineRejected(
                        f"the server at {server.url} does not take the adapter `{adapter.name}`: {problem.detail}.",
                        hint=f"check its rank and base model, and that the server can read {adapter.folder}",
                    ) from None
                raise
        self._loaded[server.url].add(adapter.served_as)

    async def _control(self, server: Server, path: str, body: Mapping[str, Any]) -> Any:
        answer = await self._transport.post(server.url + path, body, self._headers(control=True))
        if isinstance(answer, dict) and answer.get("success") is False:
            raise Refused(400, str(answer.get("error_message") or "no reason given"))
        return answer

    async def _is_healthy(self, url: str) -> bool:
        try:
            async with asyncio.timeout(self._options.unreachable_seconds):
                await self._transport.get(f"{url}/health_generate", self._headers())
        except (Unreachable, Refused, Malformed, TimeoutError):
            return False
        return True

    def _say_farewell(self, server: Server, rid: str) -> None:
        """Tell the server, beside what goes on here, that nobody waits for this request any more."""

        async def abort() -> None:
            with contextlib.suppress(Unreachable, Refused, Malformed, TimeoutError):
                async with asyncio.timeout(ABORT_SECONDS):
                    await self._control(server, "/abort_request", {"rid": rid})

        if not self._closed:
            task = asyncio.get_running_loop().create_task(abort())
            self._farewells.add(task)
            task.add_done_callback(self._farewells.discard)

    def _headers(self, *, control: bool = False) -> dict[str, str]:
        key = (self._admin_key or self._key) if control else self._key
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _enter(self) -> None:
        """Locks and queues live on one event loop; on another one they begin anew."""
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._locks.clear()
            self._farewells.clear()
            self._pool.reset()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("The SGLang engine is closed.")
