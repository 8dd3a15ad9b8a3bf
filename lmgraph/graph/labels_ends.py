"""What is known of a body's control while its labels are looked for: how it was left, and what its parts gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmgraph.graph.labels import Shape, Taint


@dataclass(frozen=True, slots=True)
class FlowResult:
    outputs: Shape
    private: Taint | None
    """The first private thing that was read: the flow may take its time because of it."""
    failure: Taint | None
    """The first private thing that it may follow from whether the flow fails."""


@dataclass(frozen=True, slots=True)
class Left:
    """Private conditions under which control may have gone elsewhere before."""

    returned: Taint | None = None
    stopped: Taint | None = None

    @property
    def taint(self) -> Taint | None:
        return self.returned or self.stopped

    def joined(self, other: Left) -> Left:
        return Left(self.returned or other.returned, self.stopped or other.stopped)


@dataclass(frozen=True, slots=True)
class Round:
    """What is known before a round of a loop."""

    carried: Sequence[Shape]
    failure: Taint | None
    stopped: Taint | None


@dataclass(frozen=True, slots=True)
class Ended:
    """What a node or region gives."""

    shapes: Sequence[Shape]
    failure: Taint | None = None
    """What private thing it may follow from whether all of it is there."""


def first_of(*taints: Taint | None) -> Taint | None:
    return next((taint for taint in taints if taint is not None), None)
