"""One call over a pool of servers: sent again where that can help, until its deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lmgraph.engines.http.pool import Pool, Server
from lmgraph.engines.http.problems import MAY_PASS, OVERLOADED, PASSES, Malformed, Refused, Unreachable
from lmgraph.errors import EngineError, EngineTimeout, EngineUnavailable

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 10.0
TRIES_OF_WHAT_MAY_PASS = 4
PAUSE_SECONDS = 5.0
"""How long the number of requests at once does not grow after a server's own error."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take."""

    deadline_seconds: float
    """From the call to its answer, waiting and retries included."""
    unreachable_seconds: float
    """How long no server need answer before calls give up on all of them."""


@dataclass(frozen=True, slots=True)
class Answered(Generic[Answer]):
    value: Answer
    attempts: int
    waited_seconds: float
    """Until the attempt that came through was sent."""


class Caller:
    """Sends calls to the servers of a pool."""

    def __init__(self, who: str, pool: Pool, patience: Patience, ways_out: Callable[[], str]) -> None:
        """``who`` names the engine in errors; ``ways_out`` is the next step where no server answers."""
        self._who = who
        self._pool = pool
        self._patience = patience
        self._ways_out = ways_out
        self._random = random.Random()

    async def call(
        self,
        prompt_ids: Sequence[int],
        salt: str,
        send: Callable[[Server], Awaitable[Answer]],
        rank: tuple[int, int] = (0, 0),
    ) -> Answered[Answer]:
        """The answer of ``send``, which raises Unreachable, Refused or Malformed, or an error that is final.

        Where a server is busy, calls take turns by ``rank`` (`GenerateRequest.rank`).
        Raises: EngineTimeout at the deadline; EngineUnavailable where no server can be reached for long; Refused with
        a status that does not pass; EngineError for an answer that breaks the protocol.
        """
        progress = _Progress(asyncio.get_running_loop().time())
        limit = asyncio.timeout(self._patience.deadline_seconds)
        try:
            async with limit:
                return await self._until_answered(prompt_ids, salt, send, rank, progress)
        except TimeoutError:
            if not limit.expired():
                raise
            last = f"; before that: {progress.problem}" if progress.problem else ""
            raise EngineTimeout(
                f"{self._who} gave no answer within {self._patience.deadline_seconds:g} s, "
                f"in {progress.attempts} attempt(s){last}.",
                hint="raise the engine's deadline_seconds, or lower the load",
            ) from None

    async def _until_answered(
        self,
        prompt_ids: Sequence[int],
        salt: str,
        send: Callable[[Server], Awaitable[Answer]],
        rank: tuple[int, int],
        progress: _Progress,
    ) -> Answered[Answer]:
        loop = asyncio.get_running_loop()
        while True:
            server = self._pool.choose(prompt_ids, salt)
            limiter = server.limiter
            try:
                await limiter.enter(rank)
                try:
                    if server.resting and any(not other.resting for other in self._pool.servers):
                        continue  # it went out of reach while this call waited for its turn
                    progress.attempts += 1
                    sent = loop.time()
                    value = await send(server)
                finally:
                    limiter.leave()
                server.answered()
                return Answered(value, progress.attempts, sent - progress.began)
            except Unreachable as problem:
                server.lost()
                progress.problem = f"{server.url}: {problem}"
                self._give_up_on_all(progress, loop.time())
                if any(not other.resting for other in self._pool.servers):
                    continue
                await self._wait(progress)
            except Malformed as problem:
                raise EngineError(
                    f"{self._who} at {server.url} broke the protocol: {problem}.",
                    hint="check what answers at this URL, and its version",
                ) from None
            except Refused as problem:
                self._note_refusal(server, problem, progress)
                await self._wait(progress, problem.retry_after)

    def _note_refusal(self, server: Server, problem: Refused, progress: _Progress) -> None:
        """Raises: the refusal itself where sending the call again cannot help."""
        progress.unreachable_since = None
        progress.problem = f"{server.url}: {problem}"
        if problem.status in MAY_PASS:
            progress.server_errors += 1
        if problem.status not in PASSES and (
            problem.status not in MAY_PASS or progress.server_errors >= TRIES_OF_WHAT_MAY_PASS
        ):
            raise problem
        if problem.status in OVERLOADED:
            server.limiter.overloaded()
        if problem.status >= 500:
            server.limiter.troubled(PAUSE_SECONDS)

    def _give_up_on_all(self, progress: _Progress, now: float) -> None:
        """Raises: EngineUnavailable where no server was reached for too long."""
        if progress.unreachable_since is None:
            progress.unreachable_since = now
        if any(server.failures == 0 for server in self._pool.servers):
            return
        if now - progress.unreachable_since >= self._patience.unreachable_seconds:
            urls = ", ".join(server.url for server in self._pool.servers)
            raise EngineUnavailable(
                f"{self._who} does not answer at {urls} ({progress.problem}).", hint=self._ways_out()
            )

    async def _wait(self, progress: _Progress, asked: float | None = None) -> None:
        """Between half and all of a span that doubles; at least what the server asked for."""
        span = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(progress.waits, 10))
        progress.waits += 1
        await asyncio.sleep(max(asked or 0.0, span * (0.5 + self._random.random() / 2)))


@dataclass(slots=True)
class _Progress:
    began: float
    attempts: int = 0
    waits: int = 0
    server_errors: int = 0
    unreachable_since: float | None = None
    problem: str = ""
