"""The thread that owns the model: waiting jobs join the running batch at each step, as far as there is room.

Where there is not room for all, the lowest rank goes first, and of one rank the first that came. All model work,
adapters included, happens on this thread, so nothing in the engine needs a lock but the queue. It knows no event loop:
jobs carry futures that any loop can await.
"""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import insort
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from functools import partial
from operator import attrgetter
from typing import TypeVar

from lmgraph.engines.local.decode import RunningBatch
from lmgraph.engines.local.jobs import Job
from lmgraph.errors import EngineError, LmgraphError

GATHER_SECONDS = 0.004
LONGEST_GATHER_SECONDS = 0.05
Result = TypeVar("Result")


class Worker:
    """One thread, one queue. ``close`` ends both; a job is always settled, whatever happens."""

    def __init__(self, batch: RunningBatch, *, max_batch: int) -> None:
        self._batch = batch
        self._max_batch = max_batch
        self._changed = threading.Condition()
        self._jobs: list[Job] = []
        """By rank, then as they came."""
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
            insort(self._jobs, job, key=attrgetter("rank"))
            self._changed.notify()

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Run ``function`` on the thread, between two steps."""
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
                while not (self._jobs or self._tasks or self._closing or len(self._batch)):
                    self._changed.wait()
                tasks, self._tasks = self._tasks, []
                if self._closing and not tasks:
                    return
            for task in tasks:
                task()
            if not len(self._batch):
                self._gather()
            joining = self._next_jobs()
            if joining:
                self._attempt(partial(self._batch.admit, joining), joining)
            if len(self._batch):
                self._attempt(self._batch.step, [])

    def _gather(self) -> None:
        """Where nothing runs yet, wait a moment for others to arrive."""
        deadline = time.monotonic() + LONGEST_GATHER_SECONDS
        waiting = 0
        while waiting != len(self._jobs) < self._max_batch and time.monotonic() < deadline:
            waiting = len(self._jobs)
            time.sleep(GATHER_SECONDS)

    def _next_jobs(self) -> list[Job]:
        """The jobs that join now."""
        with self._changed:
            self._jobs = [job for job in self._jobs if not job.ended]
            joining = self._batch.choose(self._jobs) if self._jobs else []
            taken = {id(job) for job in joining}
            self._jobs = [job for job in self._jobs if id(job) not in taken]
            self._running = [*(job for job in self._running if not job.ended), *joining]
        return joining

    def _attempt(self, work: Callable[[], None], joining: list[Job]) -> None:
        """Run ``work``; where it fails, fail the jobs that were joining, or if they had joined already, all."""
        before = len(self._batch)
        problem: BaseException = EngineError("the local engine ended a batch without an answer.")
        failed = False
        try:
            work()
        except LmgraphError as error:
            problem, failed = error, True
        except Exception as error:
            problem = EngineError(
                f"the local engine failed in a batch of {before + len(joining)} requests: "
                f"{type(error).__name__}: {error}",
                hint="If memory ran out, open the engine with a smaller max_batch or max_batch_tokens.",
            )
            problem.__cause__ = error
            failed = True
        if failed:
            for job in joining:
                job.fail(problem)
            if not joining or len(self._batch) != before:
                self._batch.fail(problem)
