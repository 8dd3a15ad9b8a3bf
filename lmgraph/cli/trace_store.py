"""The trace store that a command of `lmgraph trace` works on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmgraph.errors import ConfigError

if TYPE_CHECKING:  # these would be imported by `lmgraph trace --help`
    from lmgraph.runtime.store import TraceStore


def open_store(path: Path, *, write: bool = False) -> TraceStore:
    """Raises: ConfigError where there is no store: reading never makes one."""
    from lmgraph.runtime.store import TraceStore

    if not path.is_file():
        raise ConfigError(f"There is no trace store {path}.", hint="name one with --trace, or run a program first")
    return TraceStore(path, read_only=not write)
