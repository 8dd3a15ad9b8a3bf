"""Ctrl-C: async work ends in order where it can, and within seconds where it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

import typer

from lmgraph.cli.app import INTERRUPTED, say

GRACE_SECONDS = 3.0
"""A model computes a batch to its next token before it stops, and on a busy machine that takes long. What is on disk is
whole at any time, so after this the process may end as it stands."""

Result = TypeVar("Result")


def run_async(work: Coroutine[Any, Any, Result], message: str = "Interrupted.") -> Result:
    """The result of ``work``. Ctrl-C cancels it, prints ``message`` and exits with 130. Raises: typer.Exit."""
    leaving = _Leaving(message)
    try:
        return asyncio.run(_watched(work, leaving))
    except KeyboardInterrupt:
        leaving.say()
        raise typer.Exit(INTERRUPTED) from None


class _Leaving:
    """Ends the process some time after the first Ctrl-C, should it still be there."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._said = threading.Lock()
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(GRACE_SECONDS, self._leave)
            self._timer.daemon = True
            self._timer.start()

    def say(self) -> None:
        if self._said.acquire(blocking=False):
            say(self._message)

    def _leave(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.say()
            sys.stdout.flush()
        os._exit(INTERRUPTED)


async def _watched(work: Coroutine[Any, Any, Result], leaving: _Leaving) -> Result:
    if threading.current_thread() is not threading.main_thread():
        return await work
    cancel = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        leaving.begin()
        if callable(cancel):
            cancel(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        return await work
    finally:
        signal.signal(signal.SIGINT, cancel)
