"""Source text and places in it. Knows nothing of the language."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters, ``start <= end``, in the file named ``file``."""

    file: str
    start: int
    end: int

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of ``other`` (same file)."""
        return Span(self.file, self.start, other.end)


@dataclass(frozen=True, slots=True)
class Source:
    """One file's text. ``name`` is what a message shows; ``path`` is where it was read, if from disk."""

    name: str
    text: str
    path: Path | None = None
    _line_starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = [0]
        while found := self.text.find("\n", starts[-1]) + 1:
            starts.append(found)
        object.__setattr__(self, "_line_starts", tuple(starts))

    def line_column(self, offset: int) -> tuple[int, int]:
        """One-based line and column (in characters) of ``offset``."""
        line = bisect_right(self._line_starts, offset) - 1
        return line + 1, offset - self._line_starts[line] + 1

    def line(self, number: int) -> str:
        """The text of one-based line ``number`` without its line break."""
        start = self._line_starts[number - 1]
        end = self._line_starts[number] - 1 if number < len(self._line_starts) else len(self.text)
        return self.text[start:end].rstrip("\r")

    @property
    def line_count(self) -> int:
        return len(self._line_starts)
