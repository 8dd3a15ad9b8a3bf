"""Servers that serve the same model: which one gets a call, and which ones are left alone for a while.

A call goes where most of its prompt was sent before, since the key-values of that prefix are likely there; where no
server knows much of it, or that server has far more to do than another, to the one with the least to do.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from lmgraph.engines.http.limiter import Limiter

BLOCK = 32
"""Tokens whose hash stands for them; shorter common beginnings are not worth a choice."""
KEPT_BLOCKS = 1 << 16
"""Blocks remembered for each server: two million tokens."""
ENOUGH_SHARED = 0.3
"""The share of a prompt that must be known somewhere for the choice to go by it."""
MOST_AHEAD = 16
"""Calls that the server with the prefix may have more than the idlest one, and twice its number."""
FIRST_REST_SECONDS = 0.05
LONGEST_REST_SECONDS = 8.0


@dataclass(slots=True, eq=False)
class Server:
    """One server, and what is known of it on this side."""

    url: str
    limiter: Limiter
    verified: bool = False
    """Whether it was asked what it serves since it was last out of reach."""
    failures: int = 0
    """In a row."""
    left: bool = False
    """Whether it is in the pool no more."""
    rests_until: float = 0.0
    blocks: OrderedDict[int, None] = field(default_factory=OrderedDict)

    @property
    def resting(self) -> bool:
        return self.left or time.monotonic() < self.rests_until

    def lost(self) -> None:
        """It could not be reached: leave it alone for a while, and ask it anew what it serves."""
        self.verified = False
        self.blocks.clear()
        if self.resting:  # calls that were under way together fail together: that is one outage
            return
        self.failures += 1
        rest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2 ** (self.failures - 1))
        self.rests_until = time.monotonic() + rest

    def answered(self) -> None:
        self.failures = 0
        self.rests_until = 0.0
        self.limiter.answered()


class Pool:
    """The servers of one engine."""

    def __init__(self, urls: Sequence[str], most_at_once: int) -> None:
        self._most_at_once = most_at_once
        self.servers: list[Server] = []
        self.follow(urls)

    def follow(self, urls: Sequence[str]) -> None:
        """From now on these are the servers; of those that stay, what is known stays. Calls under way go on."""
        known = {server.url: server for server in self.servers}
        for url, server in known.items():
            server.left = url not in urls
        self.servers = [known.get(url) or Server(url, Limiter(self._most_at_once)) for url in urls]

    def reset(self) -> None:
        """Forget what is under way: the event loop it was under way on is gone."""
        for server in self.servers:
            server.limiter = Limiter(server.limiter.most)

    def choose(self, prompt_ids: Sequence[int], salt: str) -> Server:
        """The server for a prompt; ``salt`` keeps apart what shares no key-values, such as adapters."""
        if len(self.servers) == 1:
            return self.servers[0]
        awake = [server for server in self.servers if not server.resting]
        if not awake:
            return min(self.servers, key=lambda server: server.rests_until)
        idlest = min(awake, key=lambda server: server.limiter.load)
        hashes = _block_hashes(prompt_ids, salt)
        chosen = idlest
        if hashes:
            known = {id(server): _known(server, hashes) for server in awake}
            best = max(awake, key=lambda server: (known[id(server)], -server.limiter.load))
            far_ahead = best.limiter.load > max(2 * idlest.limiter.load, idlest.limiter.load + MOST_AHEAD)
            if known[id(best)] >= ENOUGH_SHARED * len(hashes) and not far_ahead:
                chosen = best
        _remember(chosen, hashes)
        return chosen


def _block_hashes(prompt_ids: Sequence[int], salt: str) -> list[int]:
    """One hash for each beginning of the prompt that is whole blocks long."""
    hashes: list[int] = []
    state = hash(salt)
    for start in range(0, len(prompt_ids) - BLOCK + 1, BLOCK):
        state = hash((state, *prompt_ids[start : start + BLOCK]))
        hashes.append(state)
    return hashes


def _known(server: Server, hashes: Sequence[int]) -> int:
    for count, block in enumerate(hashes):
        if block not in server.blocks:
            return count
    return len(hashes)


def _remember(server: Server, hashes: Sequence[int]) -> None:
    for block in hashes:
        server.blocks[block] = None
        server.blocks.move_to_end(block)
    while len(server.blocks) > KEPT_BLOCKS:
        server.blocks.popitem(last=False)
