"""What a pass is, and what one changed: nodes and calls that are gone, nodes that moved or read something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lmgraph.graph.effects import bodies
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import ExternCall, FlowCall, LmCall, Node, Region
from lmgraph.graph.walk import inner_regions, own_expressions, values_of


@dataclass(frozen=True, slots=True)
class Pass:
    """A pure function of graphs; `verify` accepts what it gives back."""

    name: str
    does: str
    """What it does, in a few words."""
    apply: Callable[[Graph], Graph]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a pass did, as ids of nodes in source order."""

    removed: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    """Of what is gone: those that called a model, Python or a flow."""
    moved: tuple[str, ...] = ()
    """To another region."""
    rewritten: tuple[str, ...] = ()
    """Nodes, flows and metrics that read something else now, or give other results."""
    reordered: tuple[str, ...] = ()
    """Flows, metrics, and nodes whose regions hold the same nodes in another order."""

    def __bool__(self) -> bool:
        return any((self.removed, self.moved, self.rewritten, self.reordered))


@dataclass(frozen=True, slots=True)
class Step:
    """One pass of several, one after the other."""

    made_by: Pass
    graph: Graph
    """As the pass left it."""
    changes: Changes


def changes(before: Graph, after: Graph) -> Changes:
    """What is other in ``after``."""
    old, new = dict(_places(before)), dict(_places(after))
    calls = [id for id, place in old.items() if _calls(place) and not (id in new and _calls(new[id]))]
    results = {name: body.results for name, body in bodies(after)}
    kept = [(id, place, new[id]) for id, place in old.items() if id in new]
    return Changes(
        tuple(id for id in old if id not in new),
        tuple(calls),
        tuple(id for id, one, other in kept if one.region != other.region),
        (
            *(id for id, one, other in kept if _own(one.node) != _own(other.node)),
            *(name for name, body in bodies(before) if body.results != results[name]),
        ),
        _reordered(old, new),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    node: Node
    region: str
    """The node, flow or metric that holds the region it stands in."""


def _places(graph: Graph) -> Iterator[tuple[str, _Place]]:
    for name, body in bodies(graph):
        yield from _inside(body, name)


def _inside(region: Region, owner: str) -> Iterator[tuple[str, _Place]]:
    for node in region.nodes:
        yield node.id, _Place(node, owner)
        regions = inner_regions(node)
        for number, inner in enumerate(regions):
            yield from _inside(inner, f"{node.id} {len(regions) - number}")  # a map may get a filter, its first region


def _calls(place: _Place) -> bool:
    return isinstance(place.node, LmCall | ExternCall | FlowCall)


def _own(node: Node) -> object:
    return node.kind, own_expressions(node), values_of(node), [region.results for region in inner_regions(node)]


def _reordered(old: dict[str, _Place], new: dict[str, _Place]) -> tuple[str, ...]:
    both = old.keys() & new.keys()
    before, after = _by_region(old, both), _by_region(new, both)
    return tuple(
        region.partition(" ")[0]
        for region, ids in before.items()
        if region in after and set(ids) == set(after[region]) and ids != after[region]
    )


def _by_region(places: dict[str, _Place], among: set[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for id, place in places.items():
        if id in among:
            found.setdefault(place.region, []).append(id)
    return found
