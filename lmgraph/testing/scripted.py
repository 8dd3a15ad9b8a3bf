"""ScriptedEngine: an engine whose answers a test writes down. No model, no network, no dependencies."""

from __future__ import annotations

import asyncio
import random
import zlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from lmgraph.errors import ContextOverflow, EngineError, EngineRejected
from lmgraph.runtime.engine import FinishReason, GenerateRequest, Generation, TextSink
from lmgraph.testing.held import held_to
from lmgraph.testing.tokenizer import END_OF_TEXT, END_OF_TURN, MARKERS, ByteTokenizer


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer in full, where its text alone does not say enough."""

    text: str
    finish_reason: FinishReason | None = None
    """None: `stop`, or `length` where the text is longer than max_tokens."""
    logprobs: tuple[float, ...] | None = None
    """One a token, the stop token included; None: fixed pseudo-random values."""
    latency: float | None = None
    """Seconds until it comes; None: the engine's."""


Answer: TypeAlias = str | Reply | Exception | Sequence[str]
"""An exception is raised. Of several texts one is chosen by the request's seed, the first at temperature 0."""

Script: TypeAlias = Mapping[str, Answer] | Callable[[str, GenerateRequest], Answer]
"""A table, whose first key that occurs in the last user turn answers (the key "" always does), or a function of the
whole prompt as text, markers included, and the request."""


class ScriptedEngine:
    """An AdapterEngine that answers from a script and remembers what it was asked."""

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        model_id: str = "scripted-model",
        latency: float | Callable[[GenerateRequest], float] = 0.0,
        context_length: int = 16_384,
        token_exact: bool = True,
        constrains: bool = True,
    ) -> None:
        self.name = name
        self.model_id = model_id
        self.tokenizer = ByteTokenizer()
        self.stop_token_ids: tuple[int, ...] = (END_OF_TURN, END_OF_TEXT)
        self.context_length = context_length
        self.token_exact = token_exact
        self.honours_seed = True
        self.constrains = constrains
        self.requests: list[GenerateRequest] = []
        """Every request, in the order of arrival, refused and cancelled ones included."""
        self.adapters: dict[str, Path] = {}
        self.under_way = 0
        self.most_at_once = 0
        """Most requests that were under way at the same time."""
        self.closed = False
        self._script = script
        self._latency = latency

    @property
    def prompts(self) -> list[str]:
        """The prompts of all requests as text, markers included."""
        return [self.tokenizer.transcript(request.prompt_ids) for request in self.requests]

    async def generate(self, request: GenerateRequest) -> Generation:
        self._check(request)
        self.requests.append(request)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            answer = self._answer(request)
            reply = answer if isinstance(answer, Reply) else None
            latency = self._latency(request) if callable(self._latency) else self._latency
            await asyncio.sleep(reply.latency if reply is not None and reply.latency is not None else latency)
            if isinstance(answer, Exception):
                raise answer
            if self.closed:
                raise EngineError("The scripted engine was closed before this request was answered.")
            return self._generation(request, reply or Reply(_chosen(answer, request)))
        finally:
            self.under_way -= 1

    async def stream(self, request: GenerateRequest, tell: TextSink) -> Generation:
        """Four characters at a time."""
        generation = await self.generate(request)
        text = self.tokenizer.decode(generation.token_ids)
        for start in range(0, len(text), 4):
            await tell(text[start : start + 4])
        return generation

    async def load_adapter(self, name: str, folder: Path) -> None:
        if self.adapters.setdefault(name, folder) != folder:
            raise EngineRejected(f"The adapter {name} is loaded from another folder.", hint="give it a new version")

    async def unload_adapter(self, name: str) -> None:
        self.adapters.pop(name, None)

    async def aclose(self) -> None:
        self.closed = True

    def _check(self, request: GenerateRequest) -> None:
        if self.closed:
            raise EngineError("The scripted engine is closed.")
        if request.adapter is not None and request.adapter not in self.adapters:
            raise EngineRejected(f"The adapter {request.adapter} is not loaded.", hint="load it first")
        needed = len(request.prompt_ids) + request.sampling.max_tokens
        if needed > self.context_length:
            raise ContextOverflow(
                f"Prompt and max_tokens take {needed} tokens of a context of {self.context_length}.",
                hint="shorten the inputs",
            )

    def _answer(self, request: GenerateRequest) -> Any:
        prompt = self.tokenizer.transcript(request.prompt_ids)
        if callable(self._script):
            return self._script(prompt, request)
        turn = last_user_turn(prompt)
        for key, answer in self._script.items():
            if key in turn:
                return answer
        return EngineRejected(f"The script has no answer for: {turn}", hint='add a key, or "" for all others')

    def _generation(self, request: GenerateRequest, reply: Reply) -> Generation:
        sampling = request.sampling
        text = reply.text
        if sampling.constraint is not None and self.constrains:
            text = held_to(text, sampling.constraint)
        stops = self.stop_token_ids if sampling.stop_token_ids is None else sampling.stop_token_ids
        ids = self.tokenizer.encode(text)
        finish: FinishReason = "stop"
        stopped = next((index for index, token in enumerate(ids) if token in stops), None)
        if stopped is not None:
            ids = ids[: stopped + 1]
        elif stops:
            ids = [*ids, stops[0]]
        if len(ids) > sampling.max_tokens or not stops:
            ids, finish = ids[: sampling.max_tokens], "length"
        logprobs = list(reply.logprobs) if reply.logprobs is not None else _logprobs(request, ids)
        return Generation(ids, logprobs[: len(ids)], reply.finish_reason or finish)


def last_user_turn(prompt: str) -> str:
    """What the last user turn of a prompt says, without markers."""
    start, end, _ = MARKERS
    return prompt.rpartition(f"{start}user\n")[2].partition(end)[0]


def _chosen(answer: Any, request: GenerateRequest) -> str:
    if isinstance(answer, str):
        return answer
    options = list(answer)
    if request.sampling.temperature == 0:
        return str(options[0])
    key = f"{request.sampling.seed}:{request.adapter}:{request.prompt_ids}"
    return str(random.Random(key).choice(options))


def _logprobs(request: GenerateRequest, ids: Sequence[int]) -> list[float]:
    """Between -2 and 0 nats: the same for the same prompt, adapter, temperature and tokens so far."""
    state = zlib.crc32(f"{request.adapter}:{request.sampling.temperature}".encode())
    state = zlib.crc32(array("i", request.prompt_ids).tobytes(), state)
    logprobs = []
    for token in ids:
        state = zlib.crc32(token.to_bytes(4, "little"), state)
        logprobs.append(-(state % 2000 + 1) / 1000)
    return logprobs
