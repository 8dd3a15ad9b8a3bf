"""Forks children that work in a folder, kills them again and again, and starts them anew until they have finished.

For processes of their own, because a test process has threads that must not be forked.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Point = tuple[Any, str]
"""An attribute that is called: of a module or a class."""


def kill_and_resume(
    work: Callable[[Path], None], folder: Path, kills: int, points: Sequence[Point], latest: int
) -> dict[str, int]:
    """``work`` in FOLDER/whole, unbroken; then in FOLDER/cut-0 and so on, with at least ``kills`` kills in all.

    Each is at a random moment, or at one of the first ``latest`` times that a point is passed. Returns how often each
    folder's run was killed.
    """
    rng = random.Random(20)
    began = time.monotonic()
    assert wait(start(work, folder / "whole", points, None)) == 0
    whole = time.monotonic() - began
    finished: dict[str, int] = {}
    run = made = here = 0
    while made < kills or here:
        name = f"cut-{run}"
        at_point = rng.random() < 0.5 and made < kills
        child = start(work, folder / name, points, rng.randint(1, latest) if at_point else None)
        if not at_point and made < kills:
            time.sleep(rng.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
        if wait(child) == 0:
            finished[name] = here
            run, here = run + 1, 0
        else:
            made += 1
            here += 1
    return finished


def start(work: Callable[[Path], None], folder: Path, points: Sequence[Point], kill_at: int | None) -> int:
    """Fork a child that works in ``folder``; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        if kill_at is not None:
            die_at(kill_at, points)
        work(folder)
    except BaseException as error:  # the child must not go on as the parent
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def die_at(count: int, points: Sequence[Point]) -> None:
    """Kill this process when ``count`` of the points, before or after each, have been passed."""
    passed = 0

    def pass_point() -> None:
        nonlocal passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            pass_point()
            result = function(*arguments, **options)
            pass_point()
            return result

        return wrapped

    for owner, name in points:
        setattr(owner, name, around(getattr(owner, name)))


def wait(child: int) -> int:
    """0 where it finished, the signal's negative number where it was killed. Raises: AssertionError where it failed."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"the child ended with {code}"
    return code
