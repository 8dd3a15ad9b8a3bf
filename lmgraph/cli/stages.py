"""The stages that `--with` names: `demos,mmgrpo`, and groups that are repeated: `demos,(prompt,mmgrpo)x3`."""

from __future__ import annotations

import re

from lmgraph.errors import ConfigError

MOST = 64
"""Stages of one run."""
_EXAMPLE = 'for example --with demos,mmgrpo or --with "(prompt,mmgrpo)x3"'
_TOKEN = re.compile(r"\s*(?:(?P<name>[^\s,()]+)|(?P<sign>[,()]))")


def parse_stages(text: str) -> list[str]:
    """Names in the order in which they run, groups written out.

    A group is names or groups in parentheses with commas between them; `x` and a number from 1 after it repeat it.
    Raises: ConfigError that says what is wrong and where.
    """
    reader = _Reader(text)
    names = reader.sequence(0)
    if reader.sign is not None:
        raise reader.error("a `)` without a `(`")
    return names


class _Reader:
    """The text, token by token. ``sign`` or ``name`` is the token that comes next; neither at the end."""

    def __init__(self, text: str) -> None:
        self._text = text.rstrip()
        self._next = 0
        self.sign: str | None = None
        self.name: str | None = None
        self._start = 0
        self._advance()

    def error(self, what: str) -> ConfigError:
        place = "at the end" if self.sign is None and self.name is None else f"at character {self._start + 1}"
        return ConfigError(f"--with {self._text!r} has {what} {place}.", hint=_EXAMPLE)

    def sequence(self, depth: int) -> list[str]:
        """Names up to the end or to a `)` that is left to read."""
        names = self._item(depth)
        while self.sign == ",":
            self._advance()
            names += self._item(depth)
            self._check_size(names)
        if self.name is not None or self.sign == "(":
            raise self.error("no comma before the next name")
        return names

    def _item(self, depth: int) -> list[str]:
        if self.name is not None:
            names = [self.name]
            self._advance()
            return names
        if self.sign != "(":
            raise self.error("no name where one is expected")
        if depth == 8:
            raise self.error("groups inside one another too deep")
        self._advance()
        names = self.sequence(depth + 1)
        if self.sign != ")":
            raise self.error("a `(` that is never closed")
        self._advance()
        return self._check_size(names * self._count())

    def _count(self) -> int:
        """How often the group before is repeated."""
        if self.name is None:
            return 1
        found = re.fullmatch(r"[x×*]([1-9][0-9]{0,3})", self.name)
        if found is None:
            raise self.error(f"`{self.name}` after a group, where x and a number from 1 are expected,")
        self._advance()
        return int(found[1])

    def _check_size(self, names: list[str]) -> list[str]:
        if len(names) > MOST:
            raise ConfigError(f"--with {self._text!r} is {len(names)} stages; at most {MOST} can run.", hint=_EXAMPLE)
        return names

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._next)
        self.sign = self.name = None
        self._start = self._next
        if found is not None:
            self._next = found.end()
            self.sign, self.name = found["sign"], found["name"]
            self._start = found.start("sign") if self.sign else found.start("name")
