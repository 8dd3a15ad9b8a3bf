"""What the catalogue says about one diagnostic code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """What a code means to somebody who meets it for the first time."""

    code: str
    title: str
    """The problem in a few words, as in the headline of a diagnostic."""
    explanation: str
    """Why it is a problem and how to mend it, in one paragraph."""
    example: str
    """A short program that earns this code."""
    files: tuple[tuple[str, str], ...] = ()
    """Name and text of each file that lies beside the example."""
    name: str = ""
    """Of a lint: what lmgraph.toml calls it."""
    learned: str | None = None
    """The program that the parameters were learned on which are put onto the example, where that earns the code."""
