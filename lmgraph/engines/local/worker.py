"""The thread that owns the model: it gathers jobs into batches and runs them, one batch at a time.

All model work, adapters included, happens on this thread, so nothing in the engine needs a lock but the queue. It
knows no event loop: jobs carry futures that any loop can await.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

from lmgraph.engines.local.adapters import AdapterStore
from lmgraph.engines.local.decode import BatchDecoder, Job
from lmgraph.errors import EngineError, LmgraphError

GATHER_SECONDS = 0.004
LONGEST_GATHER_SECONDS = 0.05
Result = TypeVar("Result")


class Worker:
    """One thread, one queue. ``close`` ends both; a job is always settled, whatever happens."""

    def __init__(self, decoder: BatchDecoder, adapters: AdapterStore, *, max_batch: int, max_batch_tokens: int) -> None:
        self._decoder = decoder
        self._adapters = adapters
        self._max_batch = max_batch
        self._max_batch_tokens = max_batch_tokens
        self._changed = threading.Condition()
        self._jobs: list[Job] = []
        self._tasks: list[Callable[[], None]] = []
        self._running: list[Job] = []
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="lmgraph-local-engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Raises: EngineError if the worker is closed."""
        with self._changed:
            if self._closing:
                raise EngineError("the local engine is closed.")
            self._jobs.append(job)
            self._changed.notify()

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Run ``function`` on the thread, between two batches."""
        future: Future[Result] = Future()

        def run() -> None:
            try:
                result = function()
            except BaseException as error:
                with contextlib.suppress(InvalidStateError):
                    future.set_exception(error)
            else:
                with contextlib.suppress(InvalidStateError):
                    future.set_result(result)

        with self._changed:
            if self._closing:
                raise EngineError("the local engine is closed.")
            self._tasks.append(run)
            self._changed.notify()
        return future

    def close(self, timeout_seconds: float | None = None) -> None:
        """Fail what is queued or running and end the thread."""
        with self._changed:
            self._closing = True
            # A running batch sees that its rows have ended and stops at the next token.
            for job in (*self._jobs, *self._running):
                job.fail(EngineError("the local engine was closed before this request was answered."))
            self._jobs.clear()
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_seconds)

    def _work(self) -> None:
        try:
            self._work_until_closed()
        finally:
            # Whatever ended the thread: nobody may wait for it any more.
            self.close()

    def _work_until_closed(self) -> None:
        while True:
            with self._changed:
                while not (self._jobs or self._tasks or self._closing):
                    self._changed.wait()
                tasks, self._tasks = self._tasks, []
                if self._closing and not tasks:
                    return
            for task in tasks:
                task()
            if not tasks:
                self._run_batch(self._next_batch())

    def _next_batch(self) -> list[Job]:
        """The oldest job and those that can run with it, after a moment for others to arrive."""
        deadline = time.monotonic() + LONGEST_GATHER_SECONDS
        waiting = -1
        while waiting != len(self._jobs) < self._max_batch and time.monotonic() < deadline:
            waiting = len(self._jobs)
            time.sleep(GATHER_SECONDS)
        with self._changed:
            self._jobs = [job for job in self._jobs if not job.ended]
            batch: list[Job] = []
            left: list[Job] = []
            tokens = 0
            for job in self._jobs:
                needed = len(job.prompt_ids) + job.sampling.max_tokens
                fits = not batch or (
                    job.adapter is batch[0].adapter
                    and len(batch) < self._max_batch
                    and tokens + needed <= self._max_batch_tokens
                )
                tokens += needed if fits else 0
                (batch if fits else left).append(job)
            self._jobs = left
            self._running = batch
            return batch

    def _run_batch(self, batch: list[Job]) -> None:
        if not batch:
            return
        try:
            with self._adapters.serving(batch[0].adapter):
                self._decoder.run(batch)
            problem: BaseException = EngineError("the local engine ended a batch without an answer.")
        except LmgraphError as error:
            problem = error
        except Exception as error:
            problem = EngineError(
                f"the local engine failed in a batch of {len(batch)} requests: {type(error).__name__}: {error}",
                hint="If memory ran out, open the engine with a smaller max_batch or max_batch_tokens.",
            )
            problem.__cause__ = error
        finally:
            with self._changed:
                self._running = []
        for job in batch:
            if not job.ended:
                job.fail(problem)
