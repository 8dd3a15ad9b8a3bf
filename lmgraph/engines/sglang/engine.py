"""SglangEngine: one or several SGLang servers that serve the same model, behind the engine protocol."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from lmgraph.engines.home import lmgraph_home
from lmgraph.engines.http.caller import Caller, Patience
from lmgraph.engines.http.pool import Server
from lmgraph.engines.http.problems import Refused, Unreachable
from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.engines.request_checks import check_request
from lmgraph.engines.sglang.adapters import AdapterShelf, PublishedAdapter
from lmgraph.engines.sglang.connect import Met, meet_servers
from lmgraph.engines.sglang.events import Events
from lmgraph.engines.sglang.fleet import FOLLOW_LOST_SECONDS, FOLLOW_SECONDS, Fleet
from lmgraph.engines.sglang.known import ways_out
from lmgraph.engines.sglang.options import SglangOptions
from lmgraph.engines.sglang.refusals import final_error, has_lost_adapter
from lmgraph.engines.sglang.wire import read_answer, request_body
from lmgraph.engines.text_pieces import TextPieces
from lmgraph.errors import EngineError, EngineRejected
from lmgraph.runtime.engine import GenerateRequest, Generation, TextSink


class SglangEngine:
    """A TrainableEngine and StreamingEngine on SGLang servers. Safe to share between tasks, and between event loops in
    turn."""

    def __init__(self, met: Met, options: SglangOptions | None = None) -> None:
        """For servers that have been asked what they serve; `connect` asks them."""
        options = options or SglangOptions()
        self._model = met.model
        self._facts = met.facts
        self._shelf = AdapterShelf(
            Path(options.adapter_folder).expanduser().resolve()
            if options.adapter_folder
            else lmgraph_home() / "adapters"
        )
        self._fleet = Fleet(met, options)
        patience = Patience(options.deadline_seconds, options.unreachable_seconds)
        self._caller = Caller("SGLang", self._fleet.pool, patience, lambda: ways_out(self.model_id))

    @classmethod
    def connect(cls, asked: str, urls: tuple[str, ...], options: SglangOptions | None = None) -> SglangEngine:
        """Ask the servers what they serve; blocks. A router stands for its workers. Servers that do not answer yet
        are asked again at their first call.

        Raises: EngineUnavailable if none answers; ConfigError if one serves another model or tokenizer.
        """
        options = options or SglangOptions()
        return cls(asyncio.run(meet_servers(asked, urls, options.handshake_seconds)), options)

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
        """Of the servers themselves. A router's workers come and go; none joins that an LM with `clearance: private`
        must not be bound to, where it could be bound to those before."""
        return self._fleet.urls

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

    async def generate(self, request: GenerateRequest) -> Generation:
        return await self._answer(request, None)

    async def stream(self, request: GenerateRequest, tell: TextSink) -> Generation:
        return await self._answer(request, tell)

    async def _answer(self, request: GenerateRequest, tell: TextSink | None) -> Generation:
        self._fleet.enter()
        self._fleet.follow_beside(FOLLOW_SECONDS)
        sampling = request.sampling
        check_request(request, self._model.vocabulary_size, self.context_length, self.model_id)
        adapter = None if request.adapter is None else self._shelf.get(request.adapter)
        stops = self.stop_token_ids if sampling.stop_token_ids is None else sampling.stop_token_ids
        served_as = None if adapter is None else adapter.served_as
        body = request_body(request.prompt_ids, sampling, stops, served_as, seeded=self.honours_seed)

        async def send(server: Server) -> Generation:
            return await self._send(server, body, sampling.max_tokens, adapter, tell)

        began = time.perf_counter()
        try:
            answered = await self._caller.call(request.prompt_ids, served_as or "", send, request.rank)
        except Refused as problem:
            raise final_error(problem, self.model_id) from None
        generation = answered.value
        generation.attempts = answered.attempts
        generation.queue_seconds = answered.waited_seconds
        generation.decode_seconds = time.perf_counter() - began - answered.waited_seconds
        return generation

    async def load_adapter(self, name: str, folder: Path) -> None:
        self._fleet.enter()
        if not self._facts.serves_adapters:
            raise EngineRejected(
                f"the server at {self.urls[0]} serves no adapters.",
                hint="start it with --enable-lora, as `lmgraph engine up` does",
            )
        adapter = await asyncio.to_thread(self._shelf.publish, name, folder)
        try:
            await self._fleet.load(adapter)
        except BaseException:
            self._shelf.forget(name)
            raise

    async def unload_adapter(self, name: str) -> None:
        self._fleet.enter()
        adapter = self._shelf.get(name)
        self._shelf.forget(name)
        await self._fleet.unload(adapter)

    async def health(self) -> dict[str, bool]:
        """By URL, whether the server says that it is warm and generates."""
        self._fleet.enter()
        urls = self.urls
        return dict(zip(urls, await asyncio.gather(*map(self._fleet.is_healthy, urls)), strict=True))

    async def aclose(self) -> None:
        """Fail what is under way and close the connections. Closing twice is no error."""
        await self._fleet.aclose()

    async def _send(
        self,
        server: Server,
        body: Mapping[str, Any],
        max_tokens: int,
        adapter: PublishedAdapter | None,
        tell: TextSink | None,
    ) -> Generation:
        fleet = self._fleet
        rid = os.urandom(16).hex()
        asked = {**body, "rid": rid}
        try:
            await fleet.prepare(server, adapter)
            if tell is not None:
                return await self._streamed(server, asked, max_tokens, tell)
            answer = await fleet.transport.post(f"{server.url}/generate", asked, fleet.headers())
        except asyncio.CancelledError:
            fleet.say_farewell(server, rid)
            raise
        except Refused as problem:
            if adapter is not None and has_lost_adapter(problem):
                fleet.follow_beside(FOLLOW_LOST_SECONDS)
                raise Unreachable(f"it has lost the adapter {adapter.name}") from None
            raise
        except Unreachable:
            fleet.check_open()
            fleet.follow_beside(FOLLOW_LOST_SECONDS)
            raise
        return read_answer(answer, rid, max_tokens, self._model.vocabulary_size)

    async def _streamed(self, server: Server, body: Mapping[str, Any], max_tokens: int, tell: TextSink) -> Generation:
        """What was told cannot be taken back: a stream that breaks after that is not begun again."""
        rid, told = body["rid"], False
        events, pieces = Events(rid, max_tokens), TextPieces(self.tokenizer, self.tokenizer.open_ids)
        asked, headers = {**body, "stream": True}, self._fleet.headers()
        try:
            async with aclosing(self._fleet.transport.events(f"{server.url}/generate", asked, headers)) as coming:
                async for event in coming:
                    if text := pieces.add(events.take(event)):
                        told = True
                        await tell(text)
            generation = read_answer(events.whole(), rid, max_tokens, self._model.vocabulary_size)
        except (Unreachable, Refused) as problem:
            if not told:
                raise
            raise EngineError(f"{server.url} broke off in the middle of an answer: {problem}.") from None
        if text := pieces.rest():
            await tell(text)
        return generation
