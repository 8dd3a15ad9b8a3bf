"""Inputs that cost prefixes: one that differs from call to call of a map or loop, declared before one that does not.

No pass reorders inputs: the order is part of the prompt, and what a model answers follows from it. The author can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lmgraph.graph.effects import bodies
from lmgraph.graph.expressions import ValueId, references
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import LmCall, LoopNode, MapNode, Region
from lmgraph.graph.walk import inner_regions, values_of, walk


@dataclass(frozen=True, slots=True)
class LateInput:
    """What a call's prompt could share with the next call's, were it declared earlier."""

    call: str
    differs: str
    """The first input that differs."""
    same: tuple[str, ...]
    """Inputs behind it that do not."""


def late_inputs(graph: Graph) -> Iterator[LateInput]:
    """Of the calls inside maps and loops, in source order."""
    for _, body in bodies(graph):
        yield from _of_region(body, frozenset())


def _of_region(region: Region, differing: frozenset[ValueId]) -> Iterator[LateInput]:
    """``differing`` are the values that change from round to round of the innermost map or loop."""
    for node in region.nodes:
        if isinstance(node, LmCall) and differing:
            differs = [one.name for one in node.arguments if not differing.isdisjoint(references(one.value))]
            names = [one.name for one in node.arguments]
            if differs:
                behind = names[names.index(differs[0]) :]
                same = tuple(name for name in behind if name not in differs)
                if same:
                    yield LateInput(node.id, differs[0], same)
        for inner in inner_regions(node):
            if isinstance(node, MapNode | LoopNode):
                own = [node.element.id] if isinstance(node, MapNode) else [one.id for one in node.body.parameters]
                made = [value for one in walk(inner) for value in values_of(one)]
                yield from _of_region(inner, frozenset([*own, *made]))
            else:
                yield from _of_region(inner, differing)
