"""What is wrong, and where: data only. Rendering is render.py's; the catalogue of codes is codes.py's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmgraph.source.text import Span

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Label:
    """A place and the words beside it."""

    span: Span
    message: str


@dataclass(frozen=True, slots=True)
class Fix:
    """An edit that would mend the problem: replace ``span`` by ``replacement``."""

    span: Span
    replacement: str
    title: str
    safe: bool = False
    """Whether what the program means stays the same, so that `lmgraph check --fix` may do it unasked."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem. The primary label must be readable alone, without the title."""

    code: str
    """As in codes.py: `E0201`."""
    title: str
    primary: Label
    secondary: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None
    fix: Fix | None = None
    severity: Severity = "error"
