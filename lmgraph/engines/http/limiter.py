"""How many requests a server gets at once: fewer when it says it is overloaded, slowly more while it answers."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import NamedTuple

CUT = 0.8
LEAST_SECONDS_BETWEEN_CUTS = 0.5
"""Requests that went out together come back refused together: they are one sign, not many."""


class Limiter:
    """A limit on requests under way. Of those that wait the lowest rank goes first, of one rank the first that came.
    Used on one event loop at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(most)
        self._waiting: list[_Turn] = []
        """A heap."""
        self._came = itertools.count()
        self._cut_at = float("-inf")
        self._growth_paused_until = float("-inf")
        self.under_way = 0

    @property
    def limit(self) -> int:
        return max(1, int(self._limit))

    @property
    def load(self) -> int:
        """Requests under way and waiting."""
        return self.under_way + len(self._waiting)

    async def enter(self, rank: tuple[int, int] = (0, 0)) -> None:
        """Wait for a turn, which lasts until `leave`; ``rank`` is `GenerateRequest.rank`."""
        if self.under_way < self.limit and not self._waiting:
            self.under_way += 1
        else:
            await self._wait(rank)

    def leave(self) -> None:
        self.under_way -= 1
        self._wake()

    def overloaded(self) -> None:
        """The server refused a request because it has too many."""
        now = asyncio.get_running_loop().time()
        if now - self._cut_at >= LEAST_SECONDS_BETWEEN_CUTS:
            self._cut_at = now
            self._limit = max(1.0, min(self._limit, self.under_way + 1) * CUT)

    def troubled(self, seconds: float) -> None:
        """The server failed: no growth for a while."""
        self._growth_paused_until = asyncio.get_running_loop().time() + seconds

    def answered(self) -> None:
        """A whole answer came: one more at once for every limit of them."""
        if self._limit < self.most and asyncio.get_running_loop().time() >= self._growth_paused_until:
            self._limit = min(float(self.most), self._limit + 1 / self._limit)
            self._wake()

    async def _wait(self, rank: tuple[int, int]) -> None:
        turn = _Turn(rank, next(self._came), asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, turn)
        try:
            await turn.future
        except asyncio.CancelledError:
            if turn.future.done() and not turn.future.cancelled():  # the slot was given in the same moment
                self.under_way -= 1
            elif turn in self._waiting:
                self._waiting.remove(turn)
                heapq.heapify(self._waiting)
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self.under_way < self.limit:
            future = heapq.heappop(self._waiting).future
            if not future.done() and not future.get_loop().is_closed():
                self.under_way += 1
                future.set_result(None)


class _Turn(NamedTuple):
    rank: tuple[int, int]
    came: int
    """No two are the same: futures are never compared."""
    future: asyncio.Future[None]
