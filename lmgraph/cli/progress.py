"""Progress on standard error: a live line where it is a terminal, else a plain line now and then. Knows no results."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

PLAIN_SECONDS = 10.0
"""Least time between two plain lines."""


class Progress:
    """One line that says what goes on, how much of it is done, and how long it takes. Use it as a context manager."""

    def __init__(self, title: str, total: int | None = None) -> None:
        self._title = title
        self._total = total
        self._began = time.monotonic()
        self._said = self._began
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            counts = [MofNCompleteColumn()] if self._total is not None else []
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(24),
                *counts,
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def rows(self, done: int, note: str) -> None:
        """``done`` of the rows are done; ``note`` is how it looks so far."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=f"{self._title}  {note}")
        elif time.monotonic() - self._said >= PLAIN_SECONDS:
            elapsed = time.monotonic() - self._began
            left = elapsed / done * ((self._total or done) - done) if done else 0.0
            self._say(f"{self._title}: {done}/{self._total}, {note}, {elapsed:.0f} s, about {left:.0f} s left")

    def status(self, message: str, share: float | None, *, important: bool = False) -> None:
        """What goes on, and how much of it is done (0 to 1)."""
        if self._bar is not None:
            total = None if share is None else 1.0
            self._bar.update(self._task, completed=share or 0.0, total=total, description=message)
        elif important or time.monotonic() - self._said >= PLAIN_SECONDS:
            elapsed = time.monotonic() - self._began
            percent = "" if share is None else f" ({share:.0%})"
            self._say(f"{message}{percent}, {elapsed:.0f} s")

    def line(self, text: str) -> None:
        """A line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._say(text)

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
