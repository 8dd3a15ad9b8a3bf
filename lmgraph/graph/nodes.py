"""Nodes of the dataflow graph, in SSA form with nested regions. Nothing here runs anything.

A node gives one value, named by its id, or several named results `id:name` (if and loop). Operands are expressions over
values in scope: parameters of the enclosing regions, and nodes before this one. docs/decisions/0005 tells what regions,
exits and failures mean; graph/walk.py answers questions about nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, NewType, TypeAlias

from lmgraph.graph.expressions import IT as IT
from lmgraph.graph.expressions import Apply as Apply
from lmgraph.graph.expressions import ByKind
from lmgraph.graph.expressions import Choose as Choose
from lmgraph.graph.expressions import Const as Const
from lmgraph.graph.expressions import Ensure as Ensure
from lmgraph.graph.expressions import Expr as Expr
from lmgraph.graph.expressions import FieldValue as FieldValue
from lmgraph.graph.expressions import GetField as GetField
from lmgraph.graph.expressions import GetItem as GetItem
from lmgraph.graph.expressions import MakeList as MakeList
from lmgraph.graph.expressions import MakeRecord as MakeRecord
from lmgraph.graph.expressions import Operator as Operator
from lmgraph.graph.expressions import Ref as Ref
from lmgraph.graph.expressions import ValueId as ValueId
from lmgraph.graph.expressions import references as references
from lmgraph.graph.types import LATER, Field, ListType, PrivacyLabel, RecordType, Type

NodeId = NewType("NodeId", str)
"""A path `flow/region/binding`, fixed at lowering: `Triage/routed/Route`. Identity is a path, never a content hash."""


@dataclass(frozen=True, slots=True)
class Operand:
    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a region is given, or that an if or loop gives."""

    id: ValueId
    field: Field


@dataclass(frozen=True, slots=True)
class Region:
    """Nodes in a topological order, the order of the source. ``results`` are what the region yields: a flow's named
    outputs, the variables an if or loop changes, or one unnamed (name "") value. Bodies of flows, metrics and loops
    have ``parameters``: a loop's are its index, if it has one, and what it carries. A map's element and the message of
    a catch stand on their nodes."""

    parameters: tuple[Parameter, ...]
    nodes: tuple[Node, ...]
    results: tuple[Operand, ...]


# -- calls -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LmCall:
    """One call of a module's LM. Its value is the record of the module's outputs."""

    id: NodeId
    module: str
    arguments: tuple[Operand, ...]
    type: RecordType
    kind: Literal["lm.call"] = "lm.call"


@dataclass(frozen=True, slots=True)
class ExternCall:
    """One call of Python: an `fn` is pure, a `retriever` reads, a `tool` may act."""

    id: NodeId
    extern: str
    arguments: tuple[Operand, ...]
    type: Type
    kind: Literal["fn.call", "retrieve", "tool.call"]


@dataclass(frozen=True, slots=True)
class FlowCall:
    """Another flow's body run in place; its call keys start with this node's key. Flows do not call themselves."""

    id: NodeId
    flow: str
    arguments: tuple[Operand, ...]
    type: RecordType
    kind: Literal["flow.call"] = "flow.call"


# -- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExprNode:
    """A named pure value."""

    id: NodeId
    expression: Expr
    type: Type
    label: PrivacyLabel = field(default="public", metadata=LATER)
    """What the binding's annotation says."""
    kind: Literal["expr"] = "expr"


@dataclass(frozen=True, slots=True)
class ReleaseNode:
    """A private value that the author declares fit for public eyes."""

    id: NodeId
    expression: Expr
    reason: str
    type: Type
    kind: Literal["release"] = "release"


@dataclass(frozen=True, slots=True)
class CheckNode:
    """`assert` fails the run where its condition is false; `check` is recorded only. Its value is the condition's."""

    id: NodeId
    condition: Expr
    message: str
    kind: Literal["assert", "check"]


# -- regions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MapNode:
    """The parallel map: ``body``, with one unnamed result, for each element of ``items`` for which ``condition`` (one
    unnamed bool) is true. Indices in call keys count the elements of ``items``, those left out included."""

    id: NodeId
    items: Expr
    element: Parameter
    condition: Region | None
    body: Region
    type: ListType
    kind: Literal["map"] = "map"


@dataclass(frozen=True, slots=True)
class IfNode:
    """One of two regions. Both yield ``results`` in this order; a conditional expression has one, named as the node."""

    id: NodeId
    condition: Expr
    then: Region
    otherwise: Region
    results: tuple[Parameter, ...]
    kind: Literal["if"] = "if"


@dataclass(frozen=True, slots=True)
class Carried:
    """A variable that a loop changes."""

    parameter: Parameter
    """Its value at the start of an iteration, as the body sees it."""
    initial: Expr


@dataclass(frozen=True, slots=True)
class LoopNode:
    """``body`` again and again, ``limit`` times at most. The body yields the next value of each carried variable, in
    this order; ``results`` are their values when the loop ends."""

    id: NodeId
    limit: int
    index: Parameter | None
    """Counts iterations from 0."""
    carried: tuple[Carried, ...]
    body: Region
    results: tuple[Parameter, ...]
    kind: Literal["loop"] = "loop"


@dataclass(frozen=True, slots=True)
class ExitIf:
    """Where ``condition`` is true the loop ``loop`` ends here with ``results`` as the values of its carried variables.
    It stands in the loop's body, or in ifs inside it; nodes after it wait for it."""

    id: NodeId
    condition: Expr
    loop: NodeId
    results: tuple[Operand, ...]
    kind: Literal["exit_if"] = "exit_if"


@dataclass(frozen=True, slots=True)
class Return:
    """The flow ends here with these outputs. It is the last node of a branch of an if, or of the body of a loop; the
    return at the end of a flow is the results of its body."""

    id: NodeId
    results: tuple[Operand, ...]
    kind: Literal["return"] = "return"


@dataclass(frozen=True, slots=True)
class CatchNode:
    """The unnamed result of ``body``, or of ``fallback`` where the body fails. ``message`` is the failure's text."""

    id: NodeId
    body: Region
    message: Parameter | None
    fallback: Region
    type: Type
    kind: Literal["catch"] = "catch"


Node: TypeAlias = Annotated[
    LmCall
    | ExternCall
    | FlowCall
    | ExprNode
    | ReleaseNode
    | CheckNode
    | MapNode
    | IfNode
    | LoopNode
    | ExitIf
    | Return
    | CatchNode,
    ByKind(),
]
