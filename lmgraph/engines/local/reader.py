"""An answer while it is written: the worker's thread says that there are tokens, an event loop reads and tells them.

The thread waits for no reader. Tokens that come while one is busy are read together.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from lmgraph.engines.local.jobs import Job
from lmgraph.engines.text_pieces import TextPieces
from lmgraph.runtime.engine import Generation, TextSink


class Reader:
    """Reads one job, on the event loop it was made on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._waking = False

    def wake(self) -> None:
        """There are tokens, or the job has ended. Any thread may call this, and it never waits."""
        # One call is enough until the reader looks: it reads all there is.
        if not self._waking:
            self._waking = True
            with suppress(RuntimeError):  # the loop is closed: nobody reads any more
                self._loop.call_soon_threadsafe(self._news.set)

    async def read(self, job: Job, pieces: TextPieces, tell: TextSink) -> Generation:
        """Tell the text of ``job``, which calls ``wake``, until its end. Where this ends before, the job is cancelled.

        Raises: what the job failed with; what ``tell`` raises.
        """
        job.future.add_done_callback(lambda _: self.wake())
        read = 0
        try:
            while not job.ended:
                await self._next_news()
                tokens = job.token_ids[read:]
                read += len(tokens)
                if piece := pieces.add(tokens):
                    await tell(piece)
            generation = job.future.result()
            if piece := pieces.add(generation.token_ids[read:]) + pieces.rest():
                await tell(piece)
            return generation
        finally:
            job.future.cancel()

    async def _next_news(self) -> None:
        await self._news.wait()
        self._news.clear()
        # Before anything is read: what comes from now on wakes again.
        self._waking = False
