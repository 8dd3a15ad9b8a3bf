"""What a pull tells its caller while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

LOCAL_EXTRA_HINT = 'Install the local engine: pip install "lmgraph[local]"'


@dataclass(frozen=True, slots=True)
class PullProgress:
    """One step of a pull."""

    stage: str
    """What is being done, in words: `downloading`, `converting`."""
    done: int | None = None
    """Bytes so far, where they are known."""
    total: int | None = None


ProgressCallback: TypeAlias = Callable[[PullProgress], None]
