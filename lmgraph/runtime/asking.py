"""How an engine is asked: what is known already is no call, equal requests that can share an answer are asked once, and
of calls that begin alike one goes ahead of the others where the engine gains by it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lmgraph.runtime.answers import Answers
from lmgraph.runtime.engine import Engine, GenerateRequest, Generation, StreamingEngine, TextSink
from lmgraph.runtime.limits import Meter
from lmgraph.runtime.trace import CallSource

LEAST_SHARED_TOKENS = 128
"""Of a prompt's beginning, for one call to go ahead of others."""
AHEAD_SECONDS = 1.0
"""Longest that others wait for the one that went ahead: its prompt is read long before its answer is written."""
PREFIXES_KNOWN = 4096


class Shared:
    """What all calls of a Runtime share."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Event] = {}
        self._warm: OrderedDict[tuple[str, ...], asyncio.Event] = OrderedDict()

    async def others(self, name: str) -> bool:
        """Waits until nobody asks for this any more. False: nobody did."""
        event = self._under_way.get(name)
        if event is None:
            return False
        await event.wait()
        return True

    @asynccontextmanager
    async def asking(self, name: str) -> AsyncIterator[None]:
        """Others wait as long as this one asks."""
        event = self._under_way.setdefault(name, asyncio.Event())
        try:
            yield
        finally:
            event.set()
            if self._under_way.get(name) is event:
                del self._under_way[name]

    async def warm_first(
        self, prefix: tuple[str, ...], generate: Callable[[], Coroutine[Any, Any, Generation]]
    ) -> Generation:
        """As ``generate``. The engine has this prefix in its cache once the first of its calls was answered."""
        event = self._warm.get(prefix)
        if event is None:
            event = self._warm[prefix] = asyncio.Event()
            if len(self._warm) > PREFIXES_KNOWN:
                self._warm.popitem(last=False)
            try:
                return await generate()
            finally:
                event.set()
        if not event.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(AHEAD_SECONDS):
                    await event.wait()
        return await generate()


@dataclass(slots=True)
class Question:
    """One request, and how it is put."""

    engine: Engine
    request: GenerateRequest
    prefix: tuple[str, ...] | None
    """Names what its prompt begins with, where others gain if one of them goes ahead."""
    tell: TextSink | None
    """Is told of the answer while it is written, where the engine streams."""

    def generate(self) -> Coroutine[Any, Any, Generation]:
        if self.tell is not None and isinstance(self.engine, StreamingEngine):
            return self.engine.stream(self.request, self.tell)
        return self.engine.generate(self.request)


async def ask(
    question: Question, *, meter: Meter, answers: Answers | None, shared: Shared
) -> tuple[Generation, CallSource]:
    """The answer and where it comes from. Raises: as `Engine.generate`; BudgetExhausted."""
    if answers is None:
        return await _counted(question, meter, shared), "engine"
    engine, request = question.engine, question.request
    known = answers.find(engine, request)
    name = answers.name(engine, request) if known is None else None
    if name is None:
        if known is not None:
            return known.generation, known.source
        return await _counted(question, meter, shared), "engine"
    if await shared.others(name) and (known := answers.find(engine, request)) is not None:
        return known.generation, known.source
    async with shared.asking(name):
        generation = await _counted(question, meter, shared)
        answers.keep(engine, request, generation)
    return generation, "engine"


async def _counted(question: Question, meter: Meter, shared: Shared) -> Generation:
    meter.admit()
    tokens, usd = 0, 0.0
    try:
        if question.prefix is None:
            generation = await question.generate()
        else:
            generation = await shared.warm_first(question.prefix, question.generate)
        used = generation.usage
        sampled = len(question.request.prompt_ids) + len(generation.token_ids)
        tokens = used.prompt_tokens + used.completion_tokens if used else sampled
        usd = (used.cost or 0.0) if used else 0.0
    finally:
        meter.count(tokens, usd)
    return generation
