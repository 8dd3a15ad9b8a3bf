"""Who waits for whom in a flow: the vertices and edges of its pictures, and of topology.py. Light: no networkx.

Vertices are values, and the moments that are no value: `F/if/(if)`, where a condition is known, `F/hop/(loop)`, where a
loop starts, `F/x/(fallback)`, where a catch goes on after a failure, and `F/(return)`. Edges are drawn where one thing
waits for another and nothing between them says so already.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from lmgraph.graph.effects import acting_nodes
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
    ExitIf,
    Expr,
    IfNode,
    LoopNode,
    MapNode,
    Node,
    NodeId,
    Region,
    Return,
    ValueId,
    references,
)
from lmgraph.graph.walk import inner_regions, leaves, own_expressions, values_of, walk

EdgeKind = Literal["data", "control"]
"""`data` where a value is read, `control` where one thing only comes after another."""


@dataclass(frozen=True, slots=True)
class Waits:
    vertices: dict[str, None]
    """In source order; an edge goes from an earlier one to a later one, apart from guards and exits of loops."""
    edges: dict[tuple[str, str], EdgeKind]


def result_of(name: str) -> str:
    """The vertex that stands for what a flow or metric gives back. No value has such an id."""
    return f"{name}/(return)"


def head_of(node: IfNode | LoopNode | CatchNode) -> str:
    """The vertex where an if knows its condition, a loop starts, or a catch goes on after a failure."""
    match node:
        case CatchNode(message=message) if message is not None:
            return message.id
        case CatchNode():
            return f"{node.id}/(fallback)"
        case _:
            return f"{node.id}/({node.kind})"


def waits_of(body: Region, name: str, acting: frozenset[str]) -> Waits:
    """Who waits for whom in the body of the flow or metric ``name``, given the flows that may act.

    Bodies of loops stand there once, without the way back. The vertex `result_of(name)` is the last.
    """
    builder, frame = _Builder(acting_nodes(body, acting)), _Frame()
    builder.region(body, frame)
    builder.vertex(result_of(name), (result.value for result in body.results), frame)
    return builder.waits


# -- vertices and edges ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Frame:
    """What is known of one region while its nodes are added."""

    barrier: tuple[str, ...] = ()
    """What all further nodes wait for: the head of the region, or the last node through which control may leave."""
    since: set[str] = field(default_factory=set)
    """Vertices of this region that wait for the barrier. What reads one of them needs no edge from the barrier."""
    inside: set[str] = field(default_factory=set)
    """All vertices of this region, those before the barrier included."""
    guards: list[str] = field(default_factory=list)
    """What the next node that may act waits for: the last one that may, and the asserts after it."""


class _Builder:
    def __init__(self, acting: frozenset[NodeId]) -> None:
        self.waits = Waits({}, {})
        self._acting = acting

    def region(self, region: Region, frame: _Frame) -> None:
        self.waits.vertices.update((parameter.id, None) for parameter in region.parameters)
        for node in region.nodes:
            self._node(node, frame)

    def vertex(
        self, vertex: str, reads: Iterable[Expr], frame: _Frame, *known: Container[str], after: Iterable[str] = ()
    ) -> None:
        """Add a vertex to the frame: what it reads leads to it, and what it comes ``after``. What the region waits for
        does so too, unless one of these waits for that already: a vertex of the region, or one of those ``known``."""
        self.waits.vertices[vertex] = None
        waits = False
        for source in after:
            self._control((source,), vertex)
            waits = waits or source in frame.since
        for expression in reads:
            for source in references(expression):
                if source != vertex:
                    self.waits.edges[source, vertex] = "data"
                    waits = waits or source in frame.since or any(source in one for one in known)
        if not waits:
            self._control(frame.barrier, vertex)
        frame.since.add(vertex)
        frame.inside.add(vertex)

    def _control(self, sources: Iterable[str], target: str) -> None:
        for source in sources:
            self.waits.edges.setdefault((source, target), "control")

    def _node(self, node: Node, frame: _Frame) -> None:
        acts = node.id in self._acting
        match node:
            case MapNode():
                self._map(node, acts, frame)
            case IfNode():
                self._if(node, acts, frame)
            case LoopNode():
                self._loop(node, acts, frame)
            case CatchNode():
                self._catch(node, acts, frame)
            case _:
                self._start(node.id, own_expressions(node), acts, frame)
                if acts:
                    frame.guards = [node.id]
                elif isinstance(node, CheckNode) and node.kind == "assert":
                    frame.guards.append(node.id)
                elif isinstance(node, ExitIf | Return):
                    frame.barrier, frame.since = (node.id,), set()

    def _start(self, vertex: str, reads: Iterable[Expr], acts: bool, frame: _Frame) -> None:
        """The first vertex of a node: it waits for the guards where the node may act."""
        self.vertex(vertex, reads, frame, after=frame.guards if acts else ())

    # -- nodes with regions ------------------------------------------------------------------------------------------

    def _map(self, node: MapNode, acts: bool, frame: _Frame) -> None:
        element = node.element.id
        self._start(element, (node.items,), acts, frame)
        inner = _Frame((element,), {element})
        if node.condition is not None:
            self.region(node.condition, inner)
            read = dict.fromkeys(one for result in node.condition.results for one in references(result.value))
            for source in read:
                if source not in inner.since:
                    self.waits.edges[source, element] = "data"
            # A condition has no vertex of its own: the body waits for the last values that it is made of.
            kept = tuple(source for source in read if source in inner.inside)
            inner = _Frame(kept or (element,), set() if kept else {element}, inner.inside, inner.guards)
        self.region(node.body, inner)
        self.vertex(node.id, (result.value for result in node.body.results), inner, inner.inside, {element})
        self._after(node, acts, [inner], frame)

    def _if(self, node: IfNode, acts: bool, frame: _Frame) -> None:
        head = head_of(node)
        self._start(head, (node.condition,), acts, frame)
        branches = [_Frame((head,)), _Frame((head,))]
        for region, branch in zip(inner_regions(node), branches, strict=True):
            self.region(region, branch)
        whole = _Frame((head,))
        for position, result in enumerate(node.results):
            read = [region.results[position].value for region in inner_regions(node)]
            self.vertex(result.id, read, whole, *(branch.inside for branch in branches))
        self._after(node, acts, branches, frame)

    def _loop(self, node: LoopNode, acts: bool, frame: _Frame) -> None:
        head = head_of(node)
        self._start(head, (), acts, frame)
        inner = _Frame((head,))
        if node.index is not None:
            self.vertex(node.index.id, (), inner)
        for one in node.carried:
            self.vertex(one.parameter.id, (one.initial,), inner)
        self.region(node.body, inner)
        exits = [one.id for one in walk(node.body) if isinstance(one, ExitIf) and one.loop == node.id]
        for position, result in enumerate(node.results):
            self.vertex(result.id, (node.body.results[position].value,), inner, inner.inside)
            self._control(exits, result.id)
        self._after(node, acts, [inner], frame)

    def _catch(self, node: CatchNode, acts: bool, frame: _Frame) -> None:
        # The body is started with the nodes around it: it waits for what they wait for.
        before, guards = frame.inside, frame.guards
        frame.inside, frame.guards = set(), guards if acts else []
        self.region(node.body, frame)
        fallback = _Frame((head_of(node),), guards=frame.guards)
        if node.message is not None or node.fallback.nodes:
            read = [one for result in node.body.results for one in references(result.value) if one in frame.inside]
            given = [value for one in node.body.nodes for value in values_of(one)]
            self.waits.vertices[head_of(node)] = None
            self._control(read or given or frame.barrier, head_of(node))
            self.region(node.fallback, fallback)
        results = [result.value for region in inner_regions(node) for result in region.results]
        self.vertex(node.id, results, frame, fallback.inside)
        before.add(node.id)
        frame.inside, frame.guards = before, [node.id] if acts else guards

    def _after(self, node: MapNode | IfNode | LoopNode, acts: bool, inner: list[_Frame], frame: _Frame) -> None:
        """What the nodes after this one have to wait for."""
        values = values_of(node)
        guards: list[str] = [one for each in inner for one in each.guards]
        if acts:
            frame.guards = list(values) or guards
        elif isinstance(node, MapNode):
            frame.guards += [node.id] if guards else []
        else:
            frame.guards += guards
        if not values and not isinstance(node, MapNode):
            values = (ValueId(head_of(node)),)
        frame.since.update(values)
        frame.inside.update(values)
        if leaves(node):
            through = [one for one in _goes_on_after(node, inner) if one not in values]
            frame.barrier, frame.since = (*values, *through), set()


def _goes_on_after(node: Node, inner: list[_Frame]) -> Iterator[str]:
    """The exits of an if after which control may still reach what follows it: those of branches without a return."""
    if isinstance(node, IfNode):
        for region, frame in zip(inner_regions(node), inner, strict=True):
            if frame.barrier != (head_of(node),) and not isinstance(region.nodes[-1], Return):
                yield from frame.barrier
