"""Seeds from names: every random choice follows from what it is for, never from the clock, the run id or timing."""

from __future__ import annotations

import hashlib


class Seeds:
    """Seeds that share the beginning of their names."""

    def __init__(self, *parts: str | int) -> None:
        self._digest = hashlib.blake2b(digest_size=8)
        _update(self._digest, parts)

    def derive(self, *parts: str | int) -> int:
        """As `derive_seed` of all parts."""
        digest = self._digest.copy()
        _update(digest, parts)
        return int.from_bytes(digest.digest(), "big") >> 1


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed, H(parts). Parts are length-prefixed, so no two different lists collide by joining."""
    return Seeds(*parts).derive()


def _update(digest: hashlib.blake2b, parts: tuple[str | int, ...]) -> None:
    joined = ""
    for part in parts:
        text = str(part)
        joined += f"{len(text)}:{text}"
    if joined.isascii():  # then characters are bytes
        digest.update(joined.encode())
        return
    encoded = [str(part).encode("utf-8", "surrogatepass") for part in parts]
    digest.update(b"".join([b"%d:%b" % (len(data), data) for data in encoded]))
