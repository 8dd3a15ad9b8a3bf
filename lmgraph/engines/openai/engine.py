"""OpenAIEngine: a provider's model behind the engine protocol, as far as text alone can be."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from lmgraph.engines.http.caller import Caller, Patience
from lmgraph.engines.http.pool import Pool, Server
from lmgraph.engines.http.problems import Refused, Unreachable
from lmgraph.engines.http.transport import Transport
from lmgraph.engines.openai.events import Events
from lmgraph.engines.openai.options import OpenAIOptions
from lmgraph.engines.openai.text import END, VOCABULARY, TextTokenizer, messages_of
from lmgraph.engines.openai.wire import final_error, is_wrapped, never_passes, read_answer, request_body
from lmgraph.engines.request_checks import check_request
from lmgraph.errors import ConfigError, EngineError, EngineRejected
from lmgraph.runtime.addresses import is_loopback
from lmgraph.runtime.engine import Constraint, FinishReason, GenerateRequest, Generation, TextSink, Usage

OPENAI_HOST = "api.openai.com"


@dataclass(slots=True)
class Totals:
    """What an engine's calls took, so far."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """In the price table's currency, of the calls to models that it names."""


class OpenAIEngine:
    """A text engine: ids are characters, logprobs are none, and its calls cannot train. Safe to share between tasks,
    and between event loops in turn."""

    def __init__(self, model: str, urls: tuple[str, ...], options: OpenAIOptions | None = None) -> None:
        """Raises: ConfigError for a key that would go out unencrypted."""
        options = options or OpenAIOptions()
        key = os.environ.get(options.key_variable, "")
        for url in urls:
            if key and url.startswith("http:") and not is_loopback(url):
                raise ConfigError(
                    f"The key in {options.key_variable} would go to {url} unencrypted.",
                    hint="use https, or unset the variable where the server wants no key",
                )
        self.totals = Totals()
        self._model = model
        self._urls = urls
        self._options = options
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._tokenizer = TextTokenizer()
        self._transport = Transport(secrets=(key,), through_proxies=not all(is_loopback(url) for url in urls))
        self._pool = Pool(urls, options.max_requests)
        patience = Patience(options.deadline_seconds, options.unreachable_seconds)
        self._caller = Caller(model, self._pool, patience, lambda: "check the URL, or --engine local")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def name(self) -> str:
        return "openai"

    @property
    def model_id(self) -> str:
        return self._model

    @property
    def priced(self) -> bool:
        """Whether the price table names the model, so that a budget in money can be kept."""
        return self._model in self._options.prices

    @property
    def urls(self) -> tuple[str, ...]:
        return self._urls

    @property
    def tokenizer(self) -> TextTokenizer:
        return self._tokenizer

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        return (END,)

    @property
    def context_length(self) -> int:
        return self._options.context_length

    @property
    def token_exact(self) -> bool:
        return False

    @property
    def honours_seed(self) -> bool:
        return False

    @property
    def constrains(self) -> bool:
        return self._options.structured

    async def generate(self, request: GenerateRequest) -> Generation:
        return await self._answer(request, None)

    async def stream(self, request: GenerateRequest, tell: TextSink) -> Generation:
        """An answer that is held to its type inside an object is told at once, when it is whole."""
        return await self._answer(request, tell)

    async def _answer(self, request: GenerateRequest, tell: TextSink | None) -> Generation:
        self._enter()
        if request.adapter is not None:
            raise EngineRejected(
                f"the adapter `{request.adapter}` is not loaded: this engine serves none.",
                hint="bind the LM to the local engine or to SGLang",
            )
        options, sampling = self._options, request.sampling
        # Characters are no tokens, and whether a prompt fits is for the provider to say.
        first = GenerateRequest(request.prompt_ids[:1], sampling)
        check_request(first, VOCABULARY, options.context_length, self._model)
        messages = messages_of(request.prompt_ids)
        held = sampling.constraint if options.structured else None

        async def send(server: Server) -> tuple[str, FinishReason, Usage | None]:
            body = request_body(
                self._model,
                messages,
                sampling,
                token_limit_field=options.token_limit_field or _token_limit_field(server.url),
                structured=options.structured,
                omit=options.omit,
            )
            try:
                if tell is not None:
                    return await self._streamed(server, body, held, tell)
                answer = await self._transport.post(f"{server.url}/chat/completions", body, self._headers)
            except Refused as problem:
                if never_passes(problem):
                    raise final_error(problem, server.url, self._model, options.key_variable) from None
                raise
            except Unreachable:
                if self._closed:
                    raise EngineError("The OpenAI-compatible engine is closed.") from None
                raise
            return read_answer(answer, held)

        began = time.perf_counter()
        try:
            answered = await self._caller.call(request.prompt_ids, "", send, request.rank)
        except Refused as problem:
            raise final_error(problem, self._urls[0], self._model, options.key_variable) from None
        text, finish, told = answered.value
        usage = self._count(told)
        ids = self._tokenizer.encode(text)
        return Generation(
            [*ids, END] if finish == "stop" else ids,
            [],
            finish,
            cached_tokens=0 if usage is None else usage.cached_tokens,
            queue_seconds=answered.waited_seconds,
            decode_seconds=time.perf_counter() - began - answered.waited_seconds,
            attempts=answered.attempts,
            usage=usage,
        )

    async def _streamed(
        self, server: Server, body: Mapping[str, Any], held: Constraint | None, tell: TextSink
    ) -> tuple[str, FinishReason, Usage | None]:
        """As `read_answer`. What was told cannot be taken back: a stream that breaks after that is not begun again."""
        told = held is None or not is_wrapped(held)
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        asked = {name: value for name, value in asked.items() if name not in self._options.omit}
        events = Events()
        try:
            url = f"{server.url}/chat/completions"
            # Closed here: left alone, the request would go on until the garbage collector finds it.
            async with aclosing(self._transport.events(url, asked, self._headers)) as coming:
                async for event in coming:
                    text = events.take(event)
                    if text and told:
                        await tell(text)
        except (Unreachable, Refused) as problem:
            if not (events.begun and told):
                raise
            raise EngineError(f"{server.url} broke off in the middle of an answer: {problem}.") from None
        answer = read_answer(events.whole(), held)
        if not told:
            await tell(answer[0])
        return answer

    async def aclose(self) -> None:
        """Fail what is under way and close the connections. Closing twice is no error."""
        self._closed = True
        await self._transport.aclose()

    def _count(self, usage: Usage | None) -> Usage | None:
        totals = self.totals
        totals.calls += 1
        if usage is None:
            return None
        price = self._options.prices.get(self._model)
        cost = None if price is None else price.cost(usage)
        totals.prompt_tokens += usage.prompt_tokens
        totals.cached_tokens += usage.cached_tokens
        totals.completion_tokens += usage.completion_tokens
        totals.cost += cost or 0.0
        return replace(usage, cost=cost)

    def _enter(self) -> None:
        """Queues live on one event loop; on another one they begin anew."""
        if self._closed:
            raise EngineError("The OpenAI-compatible engine is closed.")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._pool.reset()


def _token_limit_field(url: str) -> str:
    return "max_completion_tokens" if urlsplit(url).hostname == OPENAI_HOST else "max_tokens"
