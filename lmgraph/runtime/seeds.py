"""Seeds from names: every random choice follows from what it is for, never from the clock, the run id or timing."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed, H(parts). Parts are length-prefixed, so no two different lists collide by joining."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return int.from_bytes(digest.digest(), "big") >> 1
