"""Large memory pages under the weights, where Linux has them: looking up small ones takes a part of every decode step.

A step reads every weight once, which with pages of 4 KiB is a hundred thousand look-ups. Gathering large pages takes
as long as some hundred steps win by it, so it begins when a model has been used for a while, a little at each step. It
is a request to the kernel only: where that refuses, and on every other system, all goes on as before.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path

PATIENCE = 100
"""Steps before it begins."""
SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
COLLAPSE = 25
"""MADV_COLLAPSE, since Linux 6.1: gather what lies there in large pages now."""
GAP = 8192
"""Bytes that may lie between neighbours: those with which allocations are administered."""


class HugePages:
    """What is still to be gathered of some stretches of memory, each its address and bytes."""

    def __init__(self, stretches: Iterable[tuple[int, int]]) -> None:
        size = page_size()
        self._left = [] if size is None else merge(stretches, size)
        self._steps = 0

    def after_step(self) -> None:
        """Gather one stretch, if it is time to and one is left."""
        if self._left:
            self._steps += 1
            if self._steps > PATIENCE:
                start, end = self._left.pop()
                if not gather(start, end):
                    self._left.clear()


def gather(start: int, end: int) -> bool:
    """Put these bytes, whole large pages, into large pages; False where the kernel does not."""
    try:
        advise = ctypes.CDLL(None).madvise
    except (AttributeError, OSError):
        return False
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    advise.restype = ctypes.c_int
    refused: int = advise(start, end - start, COLLAPSE)
    return refused == 0


def page_size() -> int | None:
    """Bytes of a large page; None where there are none, or whoever runs the machine has turned them off."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        if "[never]" in (SETTINGS / "enabled").read_text(encoding="ascii"):
            return None
        return int((SETTINGS / "hpage_pmd_size").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def merge(stretches: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Starts and ends of the large pages that lie wholly in ``stretches``, neighbours taken together."""
    joined: list[list[int]] = []
    for start, end in sorted((address, address + length) for address, length in stretches):
        if joined and start - joined[-1][1] <= GAP:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    pages = [(-(-start // size) * size, end // size * size) for start, end in joined]
    return [(start, end) for start, end in pages if start < end]
