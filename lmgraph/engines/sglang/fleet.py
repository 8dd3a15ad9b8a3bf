"""The servers of one engine, as this side knows them: which there are, what each serves, and the adapters it has."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from itertools import chain
from typing import Any

from lmgraph.engines.http.pool import Pool, Server
from lmgraph.engines.http.problems import Malformed, Refused, Unreachable
from lmgraph.engines.http.transport import Transport
from lmgraph.engines.sglang.adapters import PublishedAdapter
from lmgraph.engines.sglang.connect import Met
from lmgraph.engines.sglang.handshake import ask_facts, compare_tokenizers
from lmgraph.engines.sglang.known import ADMIN_KEY_VARIABLE, API_KEY_VARIABLE, ways_out
from lmgraph.engines.sglang.options import SglangOptions
from lmgraph.engines.sglang.refusals import final_error
from lmgraph.engines.sglang.router import may_join, workers_behind
from lmgraph.errors import ConfigError, EngineError, EngineRejected, EngineUnavailable
from lmgraph.runtime.addresses import PRIVATE_HOSTS_VARIABLE

ABORT_SECONDS = 2.0
"""A server notices on its own, within seconds, that nobody waits any more; telling it is a courtesy."""
FOLLOW_SECONDS = 30.0
"""How old the list of a router's workers may become while calls go to them."""
FOLLOW_LOST_SECONDS = 1.0
"""The same where a call has not reached its worker, or the worker does not know the call's adapter."""
logger = logging.getLogger(__name__)


class Fleet:
    """Servers of one model. Used on one event loop at a time."""

    def __init__(self, met: Met, options: SglangOptions) -> None:
        self._model = met.model
        self._facts = met.facts
        self._places = dict(met.places)
        self._options = options
        self._key = os.environ.get(API_KEY_VARIABLE, "")
        self._admin_key = os.environ.get(ADMIN_KEY_VARIABLE, "")
        self.transport = Transport(secrets=(self._key, self._admin_key))
        self.pool = Pool(met.urls, options.max_requests)
        for server in self.pool.servers:
            server.verified = server.url in met.answered
        self._loaded: defaultdict[str, set[str]] = defaultdict(set)
        """Adapters that each server has, as it knows them."""
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beside: set[asyncio.Task[None]] = set()
        self._listed = time.monotonic()
        self._closed = False

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(server.url for server in self.pool.servers)

    def enter(self) -> None:
        """Locks and queues live on one event loop; on another one they begin anew. Raises: EngineError if closed."""
        self.check_open()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._locks.clear()
            self._beside.clear()
            self.pool.reset()

    def check_open(self) -> None:
        if self._closed:
            raise EngineError("The SGLang engine is closed.")

    def headers(self, *, control: bool = False) -> dict[str, str]:
        key = (self._admin_key or self._key) if control else self._key
        return {"Authorization": f"Bearer {key}"} if key else {}

    async def aclose(self) -> None:
        """Fail what is under way and close the connections. Closing twice is no error."""
        self._closed = True
        if self._loop is asyncio.get_running_loop() and self._beside:
            _, late = await asyncio.wait(self._beside, timeout=ABORT_SECONDS)
            for task in late:
                task.cancel()
        await self.transport.aclose()

    # -- which servers there are --------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Ask routers which workers they have. Those that left get no more calls; those that joined are asked what they
        serve before their first. A router that does not say changes nothing."""
        self._listed = time.monotonic()
        present = self.urls
        routers = self._routers()
        for router, workers in zip(routers, await asyncio.gather(*map(self._workers, routers)), strict=True):
            for url in set(workers) - set(self._places[router]):
                if not may_join(url, present):
                    logger.warning("The worker %s is left out: list its host in %s.", url, PRIVATE_HOSTS_VARIABLE)
            self._places[router] = workers
        listed = dict.fromkeys(chain.from_iterable(self._places.values()))
        self.pool.follow([url for url in listed if url in present or may_join(url, present)] or present)

    def follow_beside(self, seconds: float) -> None:
        """As `follow`, while the caller goes on, unless they were asked less than ``seconds`` ago."""
        if time.monotonic() - self._listed > seconds and self._routers():
            self._listed = time.monotonic()
            self._do_beside(self.follow())

    def _routers(self) -> list[str]:
        return [url for url, behind in self._places.items() if behind != (url,)]

    async def _workers(self, router: str) -> tuple[str, ...]:
        """Those that the router has now; those that were known, where it names none that can be used."""
        try:
            async with asyncio.timeout(self._options.handshake_seconds):
                listed = await workers_behind(self.transport, router, self.headers())
        except (TimeoutError, ConfigError, EngineUnavailable):
            listed = None
        return listed or self._places[router]

    # -- what each of them is and has ---------------------------------------------------------------------------------

    async def prepare(self, server: Server, adapter: PublishedAdapter | None) -> None:
        """See to it that the server is the one we take it for, and has the adapter."""
        if server.verified and (adapter is None or adapter.served_as in self._loaded[server.url]):
            return
        async with self._locks[server.url]:
            self.check_open()
            try:
                async with asyncio.timeout(self._options.handshake_seconds):
                    if not server.verified:
                        await self._verify(server)
                    if adapter is not None and adapter.served_as not in self._loaded[server.url]:
                        await self._load(server, adapter)
            except TimeoutError:
                raise Unreachable(f"no word within {self._options.handshake_seconds:g} s") from None

    async def load(self, adapter: PublishedAdapter) -> None:
        """Load it on all servers; one out of reach gets it before its next call with it.

        Raises: EngineError, where a server does not take it or none can be reached.
        """
        await self.follow()
        loads = (self.prepare(server, adapter) for server in self.pool.servers)
        done = await asyncio.gather(*loads, return_exceptions=True)
        problems = [problem for problem in done if isinstance(problem, BaseException)]
        lasting = next((problem for problem in problems if not isinstance(problem, Unreachable)), None)
        if lasting is None and len(problems) < len(done):
            return
        if isinstance(lasting, Refused):
            raise final_error(lasting, self._model.model_id) from None
        if isinstance(lasting, Malformed):
            raise EngineError(f"SGLang broke the protocol: {lasting}.") from None
        if lasting is not None:
            raise lasting
        raise EngineUnavailable(f"SGLang does not answer: {problems[0]}.", hint=ways_out(self._model.model_id))

    async def unload(self, adapter: PublishedAdapter) -> None:
        """Take it from every server that has it."""
        await self.follow()
        for server in self.pool.servers:
            if adapter.served_as not in self._loaded[server.url]:
                continue
            self._loaded[server.url].discard(adapter.served_as)
            # A server that is out of reach, or has dropped it already, has it no more either.
            with contextlib.suppress(Unreachable, Refused, Malformed, TimeoutError):
                async with asyncio.timeout(self._options.handshake_seconds):
                    await self._control(server, "/unload_lora_adapter", {"lora_name": adapter.served_as})

    async def is_healthy(self, url: str) -> bool:
        try:
            async with asyncio.timeout(self._options.unreachable_seconds):
                await self.transport.get(f"{url}/health_generate", self.headers())
        except (Unreachable, Refused, Malformed, TimeoutError):
            return False
        return True

    def say_farewell(self, server: Server, rid: str) -> None:
        """Tell the server, while the caller goes on, that nobody waits for this request any more."""

        async def abort() -> None:
            with contextlib.suppress(Unreachable, Refused, Malformed, TimeoutError):
                async with asyncio.timeout(ABORT_SECONDS):
                    await self._control(server, "/abort_request", {"rid": rid})

        if not self._closed:
            self._do_beside(abort())

    async def _verify(self, server: Server) -> None:
        """Raises: Unreachable where it serves something else now, so that calls go to the others."""
        self._loaded[server.url].clear()
        try:
            facts = await ask_facts(self.transport, server.url, self.headers())
            tokenizer = self._model.tokenizer
            await compare_tokenizers(self.transport, server.url, self.headers(), tokenizer, tokenizer.vocabulary_size)
        except (ConfigError, EngineUnavailable) as error:
            raise Unreachable(error.message) from None
        except Malformed as problem:
            raise Unreachable(str(problem)) from None
        except Refused as problem:
            if problem.status not in (301, 302, 307, 308, 404, 405):
                raise
            raise Unreachable(f"no SGLang server answers there now ({problem})") from None
        if not facts.can_stand_in_for(self._facts):
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
        answer = await self.transport.post(server.url + path, body, self.headers(control=True))
        if isinstance(answer, dict) and answer.get("success") is False:
            raise Refused(400, str(answer.get("error_message") or "no reason given"))
        return answer

    def _do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
