"""Options of the SGLang engine."""

from __future__ import annotations

from dataclasses import dataclass

from lmgraph.engines.http.checks import positive


@dataclass(frozen=True, slots=True)
class SglangOptions:
    """How servers are used."""

    deadline_seconds: float = 600.0
    """Longest a call may take, waiting and retries included."""
    unreachable_seconds: float = 20.0
    """How long all servers may be out of reach before calls fail."""
    handshake_seconds: float = 60.0
    """Longest a server may take to say what it serves."""
    max_requests: int = 256
    """Most requests under way at one server; fewer while it says that it is overloaded."""
    adapter_folder: str = ""
    """Where adapters are put for the servers to read; empty is `adapters` under lmgraph's own folder."""

    def __post_init__(self) -> None:
        positive("SGLang", self, "deadline_seconds", "unreachable_seconds", "handshake_seconds", "max_requests")
