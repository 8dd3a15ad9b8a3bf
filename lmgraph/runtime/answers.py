"""Answers that are known before an engine is asked: from the response cache, or from a recorded run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lmgraph.runtime.engine import Engine, GenerateRequest, Generation
from lmgraph.runtime.trace import CallSource


@dataclass(frozen=True, slots=True)
class Known:
    """An answer that is the reader's own: no other call holds its lists."""

    generation: Generation
    source: CallSource


class Answers(Protocol):
    """Where a call looks before it asks its engine."""

    def find(self, engine: Engine, request: GenerateRequest) -> Known | None:
        """What the engine would answer, or answered, to the very same request; None where that is not known."""
        ...

    def name(self, engine: Engine, request: GenerateRequest) -> str | None:
        """What the answer will be kept under, so that equal requests under way share it; None where it is not kept."""
        ...

    def keep(self, engine: Engine, request: GenerateRequest, generation: Generation) -> None:
        """The engine was asked and said this."""
        ...


class FirstOf:
    """Several places, asked in order."""

    def __init__(self, places: Sequence[Answers]) -> None:
        self._places = places

    def find(self, engine: Engine, request: GenerateRequest) -> Known | None:
        for place in self._places:
            known = place.find(engine, request)
            if known is not None:
                return known
        return None

    def name(self, engine: Engine, request: GenerateRequest) -> str | None:
        names = (place.name(engine, request) for place in self._places)
        return next((name for name in names if name is not None), None)

    def keep(self, engine: Engine, request: GenerateRequest, generation: Generation) -> None:
        for place in self._places:
            place.keep(engine, request, generation)
