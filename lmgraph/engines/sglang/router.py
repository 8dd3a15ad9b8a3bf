"""What stands behind a URL: a server itself, or the workers of sglang-router.

A router passes completions on. Adapters, aborts and tokenizers are each worker's own affair, and it has no paths for
them. So it is asked for its workers, and all calls go to those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lmgraph.engines.http.problems import Malformed, Refused, Unreachable
from lmgraph.engines.http.transport import Transport
from lmgraph.errors import ConfigError, EngineUnavailable
from lmgraph.runtime.addresses import may_be_private


async def workers_behind(transport: Transport, url: str, headers: Mapping[str, str]) -> tuple[str, ...] | None:
    """The workers of the router at ``url``, or None where no router answers there.

    Raises: EngineUnavailable if the router has no worker; ConfigError for one that is no plain SGLang server on HTTP.
    """
    try:
        answer = await transport.get(f"{url}/workers", headers)
    except (Refused, Unreachable, Malformed):
        return None
    workers = answer.get("workers") if isinstance(answer, dict) else None
    if not isinstance(workers, list):
        return None
    found: list[str] = []
    for worker in workers:
        place = worker.get("url") if isinstance(worker, dict) else None
        kind = worker.get("worker_type", "regular") if isinstance(worker, dict) else None
        if not isinstance(place, str) or not place.startswith(("http://", "https://")) or kind != "regular":
            raise ConfigError(
                f"The router at {url} has the worker {place} ({kind}), which is no plain SGLang server on HTTP.",
                hint="give the URLs of SGLang servers themselves",
            )
        found.append(place.rstrip("/"))
    if not found:
        raise EngineUnavailable(f"The router at {url} has no worker.", hint="register one with the router")
    return tuple(found)


def may_join(worker: str, present: Collection[str]) -> bool:
    """Whether a worker may serve beside ``present``: where an LM with `clearance: private` may be bound to all of
    those, it must be one that such an LM may be bound to."""
    return may_be_private(worker) or not all(map(may_be_private, present))
