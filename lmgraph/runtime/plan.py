"""A flow made ready to execute: closures for expressions, who waits for whom, and how call keys are formed.

Made once a program by runtime/planner.py and shared by all its runs; it holds no values. What the nodes mean is in
docs/decisions/0005 and in the docstrings of graph/nodes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lmgraph.program.expressions import Evaluator


@dataclass(frozen=True, slots=True)
class PlannedOperand:
    name: str
    evaluate: Evaluator
    reads: tuple[str, ...]
    """Values whose failure may be this operand's failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What the executor asks of every node."""

    id: str
    local: str
    """The id below the nearest flow, loop or map: call keys are that one's key, a slash, this."""
    gives: tuple[str, ...] | None
    """Ids of its values; None is one value named as the node."""
    strict: bool
    """Whether its region fails where it fails: an assert, a tool, what holds one, and what control may leave
    through."""
    acts: bool
    """Whether it may act: it does not run once something strict before it has failed."""
    leaves: bool
    """Whether control may leave the region through it: what comes after waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExpr(Planned):
    value: PlannedOperand


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCheck(Planned):
    condition: PlannedOperand
    message: str
    kind: Literal["assert", "check"]
    paths: tuple[PlannedOperand, ...]
    """What the condition reads, named as the author wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExit(Planned):
    """Leaves the loop ``target``, or the flow (None) where there is no condition that says otherwise."""

    condition: PlannedOperand | None
    target: str | None
    results: tuple[PlannedOperand, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall(Planned):
    """One call that the runtime makes: of a module, of Python, or of a stub in place of a flow."""

    kind: Literal["module", "extern", "flow"]
    name: str
    arguments: tuple[PlannedOperand, ...]
    behind: int = 0
    """What waits for this call, one thing after another, as graph/critical.py measures it: the critical path from here
    to the flow's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFlow(Planned):
    flow: FlowPlan
    arguments: tuple[PlannedOperand, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMap(Planned):
    items: PlannedOperand
    element: str
    """Value id of the body's parameter."""
    condition: RegionPlan | None
    body: RegionPlan
    at_once: bool
    """Whether elements wait for something, so that they gain by running beside one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedIf(Planned):
    condition: PlannedOperand
    then: RegionPlan
    otherwise: RegionPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLoop(Planned):
    limit: int
    index: str | None
    carried: tuple[str, ...]
    initial: tuple[PlannedOperand, ...]
    body: RegionPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCatch(Planned):
    body: RegionPlan
    message: str | None
    fallback: RegionPlan


InPlace: TypeAlias = PlannedExpr | PlannedCheck | PlannedExit
"""Nodes that need no event loop."""
PlannedNode: TypeAlias = InPlace | PlannedCall | PlannedFlow | PlannedMap | PlannedIf | PlannedLoop | PlannedCatch


@dataclass(frozen=True, slots=True)
class RegionPlan:
    nodes: tuple[PlannedNode, ...]
    """In source order, which is a topological one."""
    waits_for: tuple[int, ...]
    """For each node, how many nodes of this region it waits for."""
    consumers: tuple[tuple[int, ...], ...]
    """For each node, the nodes of this region that wait for it."""
    results: tuple[PlannedOperand, ...]
    in_order: bool
    """Whether no two nodes could wait for something at the same time: then source order loses nothing."""
    suspends: bool
    """Whether it may wait for something outside: an engine, a thread."""


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """A flow, or the body of a metric."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    """(input, value id)."""
    body: RegionPlan
