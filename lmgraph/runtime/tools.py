"""Calls of typed Python: `fn`, `retriever` and `tool`. What it gives back is checked; what it raises is a Failure.

A plain function of an `fn` is called in place; one of a `retriever` or `tool`, or one with a timeout, in a thread,
since it may wait; coroutine functions are awaited. This module knows no graphs and no plans.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import SchemaValidator, ValidationError

from lmgraph.graph.graph import ExternSpec
from lmgraph.program.expressions import Evaluator, NoValue, compile_expression
from lmgraph.program.values import as_record, misfit, plain_copy, validator
from lmgraph.runtime.python import load_callable, place_of

THREADS = 32
"""Plain functions of retrievers and tools that run at once."""
KEY_PARAMETER = "idempotency_key"
"""A tool's function that has this parameter, and no input of the name, is given a key that repeats with the call."""


@dataclass(frozen=True, slots=True)
class Extern:
    """One declared Python reference, loaded."""

    spec: ExternSpec
    root: Path
    function: Callable[..., Any]
    is_async: bool
    takes_key: bool
    result: SchemaValidator
    at_most: Evaluator | None

    @property
    def waits(self) -> bool:
        """Whether a call may wait for something, so that others gain by running beside it."""
        return self.is_async or self.spec.kind != "fn" or self.spec.timeout is not None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a call gave nothing: one of the calls that share it makes its own Failure of it."""

    message: str


def load_extern(spec: ExternSpec, root: Path) -> Extern:
    """Raises: ConfigError where the reference leads nowhere."""
    function = load_callable(spec.python, root)
    at_most = None if spec.returns_at_most is None else compile_expression(spec.returns_at_most)
    return Extern(
        spec, root, function, _is_async(function), _takes_key(function, spec), validator(spec.result), at_most
    )


def _is_async(function: Callable[..., Any]) -> bool:
    of_object = getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(of_object)


def _takes_key(function: Callable[..., Any], spec: ExternSpec) -> bool:
    if spec.kind != "tool" or any(field.name == KEY_PARAMETER for field in spec.inputs):
        return False
    try:
        return KEY_PARAMETER in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in callables have none
        return False


class _Shared:
    """A remembered call that is under way, and how many wait for it."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.waiting = 0


class PythonCalls:
    """Calls externs for one Runtime: it has the threads, and the answers that are remembered."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._free: asyncio.Semaphore | None = None
        self._answers: dict[str, Any] = {}
        self._under_way: dict[str, _Shared] = {}

    async def call(self, extern: Extern, arguments: Mapping[str, Any], key: Callable[[], str]) -> Any | Problem:
        """What the extern gives back, checked and copied, or why there is nothing. ``key`` makes the idempotency key.

        Equal calls of a cached extern share one answer, those under way at the same time too; failures are not kept.
        """
        if not extern.spec.cache:
            return await self._fresh(extern, arguments, key)
        name = json.dumps([str(extern.root), extern.spec.python, extern.spec.name, arguments], sort_keys=True)
        if name not in self._answers:
            ask = self._share(name, extern, arguments, key) if extern.waits else self._fresh(extern, arguments, key)
            answer = await ask
            if isinstance(answer, Problem):
                return answer
            self._answers[name] = answer
        return plain_copy(self._answers[name])

    def close(self) -> None:
        """Waits for no thread: one that hangs is left behind."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = self._free = None

    async def _share(self, name: str, extern: Extern, arguments: Mapping[str, Any], key: Callable[[], str]) -> Any:
        shared = self._under_way.get(name)
        if shared is None or shared.task.done():
            shared = _Shared(asyncio.create_task(self._fresh(extern, arguments, key)))
            self._under_way[name] = shared
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if shared.waiting == 0:
                self._under_way.pop(name, None)
                if not shared.task.done():  # nobody wants it any more
                    shared.task.cancel()
                    await asyncio.gather(shared.task, return_exceptions=True)

    async def _fresh(self, extern: Extern, arguments: Mapping[str, Any], key: Callable[[], str]) -> Any | Problem:
        spec = extern.spec
        given = {name: as_record(value) for name, value in arguments.items()}
        if extern.takes_key:
            given[KEY_PARAMETER] = key()
        try:
            if extern.waits:
                value = await self._waited(extern, given)
            else:
                value = extern.function(**given)
            if inspect.isawaitable(value):
                value = await value
        except _Late:
            return Problem(f"`{spec.name}` took longer than {spec.timeout:g} s")
        except Exception as error:
            text = str(error)[:300]
            what = f"{type(error).__name__}: {text}" if text else type(error).__name__
            return Problem(f"`{spec.name}` raised {what} (at {place_of(error, extern.root)})")
        return _checked(extern, value, arguments)

    async def _waited(self, extern: Extern, given: Mapping[str, Any]) -> Any:
        """Of a coroutine function, or of a plain one in a thread. Raises: _Late where the timeout passes first."""
        if extern.is_async:
            work = extern.function(**given)
        else:
            work = await self._in_thread(partial(extern.function, **given))
        timeout = asyncio.timeout(extern.spec.timeout)
        try:
            async with timeout:
                return await work
        except TimeoutError:
            if timeout.expired():
                raise _Late from None
            raise

    async def _in_thread(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Starts once a thread is free: waiting for one is no part of a call's time."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "lmgraph-python")
            self._free = asyncio.Semaphore(THREADS)
        assert self._free is not None
        free = self._free
        await free.acquire()
        context = contextvars.copy_context()
        future = asyncio.get_running_loop().run_in_executor(self._threads, context.run, function)
        future.add_done_callback(lambda done: free.release())
        return future


class _Late(Exception):
    """The extern's timeout has passed."""


def _checked(extern: Extern, value: Any, arguments: Mapping[str, Any]) -> Any | Problem:
    name = extern.spec.name
    try:
        checked = extern.result.validate_python(value)
    except ValidationError as error:
        return Problem(f"`{name}` gave back what does not fit {extern.spec.result}: {misfit(error).message}")
    if extern.at_most is not None:
        try:
            most = extern.at_most(arguments)
        except NoValue as problem:
            return Problem(f"`{name}`: returns_at_most has no value: {problem}")
        if len(checked) > most:
            return Problem(f"`{name}` gave back {len(checked)} elements, and at most {most} are allowed")
    return checked
