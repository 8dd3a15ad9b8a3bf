"""Work on any number of items, some at once, in constant memory: what `Runtime.map` is made of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Generic, TypeVar

from lmgraph.errors import BudgetExhausted, RunError

AHEAD = 4
"""Items under way or waiting to be taken, in multiples of those at once: one slow item holds back no others until then,
and a caller who takes no more results stops the work."""

Item = TypeVar("Item")
Result = TypeVar("Result")


async def map_bounded(
    items: Iterable[Item] | AsyncIterable[Item],
    work: Callable[[int, Item], Awaitable[Result]],
    *,
    at_once: int,
    ordered: bool,
) -> AsyncGenerator[Result, None]:
    """``work(position, item)`` of every item: in the order of the items, or as they are done.

    What ``items`` or ``work`` raises ends it, after the results that are there; where it is BudgetExhausted, what is
    under way is finished first. Closing the generator, or cancelling
    its reader, cancels what is under way and waits until it has ended.
    """
    mapping = _Mapping(items, work, at_once=at_once, ordered=ordered)
    try:
        mapping.begin()
        while True:
            while mapping.ready():
                yield mapping.take()
            if mapping.error is not None and not mapping.finishing():
                raise mapping.error
            if mapping.over():
                return
            await mapping.change()
    finally:
        await mapping.stop()


class _Mapping(Generic[Item, Result]):
    """Workers take items from one source. More are begun as long as there are items for them."""

    def __init__(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        work: Callable[[int, Item], Awaitable[Result]],
        *,
        at_once: int,
        ordered: bool,
    ) -> None:
        self.error: Exception | None = None
        self._next = _source(items)
        self._work = work
        self._at_once = at_once
        self._ordered = ordered
        self._workers: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(at_once * AHEAD)
        self._source = asyncio.Lock()
        self._changed = asyncio.Event()
        self._begun = 0
        self._taken = 0
        self._exhausted = False
        self._stopping = False
        self._by_position: dict[int, Result] = {}
        self._as_done: deque[Result] = deque()

    def begin(self) -> None:
        worker = asyncio.create_task(self._run())
        self._workers.add(worker)
        worker.add_done_callback(self._ended)

    def ready(self) -> bool:
        return self._taken in self._by_position if self._ordered else bool(self._as_done)

    def take(self) -> Result:
        result = self._by_position.pop(self._taken) if self._ordered else self._as_done.popleft()
        self._taken += 1
        self._room.release()
        return result

    def over(self) -> bool:
        return self._exhausted and self._taken == self._begun

    def finishing(self) -> bool:
        """Whether there is work left that was paid for: calls that a budget admitted are finished and counted."""
        return isinstance(self.error, BudgetExhausted) and bool(self._workers)

    async def change(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def stop(self) -> None:
        self._stopping = True
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._changed.set()

    async def _run(self) -> None:
        try:
            while self.error is None:
                await self._room.acquire()
                async with self._source:
                    if self._exhausted:
                        return
                    try:
                        item = await self._next()
                    except StopAsyncIteration:
                        self._exhausted = True
                        return
                    position = self._begun
                    self._begun += 1
                if len(self._workers) < self._at_once:
                    self.begin()
                result = await self._work(position, item)
                if self._ordered:
                    self._by_position[position] = result
                else:
                    self._as_done.append(result)
                self._changed.set()
        except Exception as error:
            self.error = self.error or error
        except asyncio.CancelledError:
            if not self._stopping:  # what it awaited was cancelled by others: the reader must not wait for it forever
                self.error = self.error or RunError("The work on an item was cancelled from outside.")
            raise


class Once(Generic[Result]):
    """What ``make`` gives, made when it is first asked for, by whoever asks first."""

    def __init__(self, make: Callable[[], Awaitable[Result]]) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._made: list[Result] = []

    async def value(self) -> Result:
        async with self._lock:
            if not self._made:
                self._made.append(await self._make())
            return self._made[0]


def _source(items: Iterable[Item] | AsyncIterable[Item]) -> Callable[[], Awaitable[Item]]:
    """The next item, or StopAsyncIteration."""
    if isinstance(items, AsyncIterable):
        found: AsyncIterator[Item] = aiter(items)
        return found.__anext__
    plain: Iterator[Item] = iter(items)

    async def following() -> Item:
        for item in plain:
            return item
        raise StopAsyncIteration

    return following
