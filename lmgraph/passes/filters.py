"""Filter pushdown: an element that the next map leaves out is not made.

    found = [Note(text=(Read(page).text catch ""), page) for page in pages]
    long = [note.page for note in found if len(note.page) > 40]

Here `Read` is asked for long pages only. It is exact where no element can fail, which a `catch` sees to: one failed
element fails the whole map, whether it is left out later or not. The second map must call nothing, for its indices,
which call keys hold, count elements that are gone now.

A filter decides which calls are made. In a program with private values nothing is pushed: calls of a public model must
not begin to follow from a private one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import replace

from lmgraph.graph.effects import holding
from lmgraph.graph.expressions import Apply, Expr, Ref, references, substituted
from lmgraph.graph.graph import Graph
from lmgraph.graph.labels_program import is_labelled
from lmgraph.graph.nodes import ExprNode, MapNode, Node, NodeId, Operand, Region, ValueId
from lmgraph.graph.walk import inner_regions, leaves, own_expressions, values_of, walk
from lmgraph.passes.facts import Facts, is_call, is_felt
from lmgraph.passes.fold import simplified
from lmgraph.passes.rewrite import each_body, with_nodes, with_regions


def push_filters(graph: Graph) -> Graph:
    """Makes the filter of a map that of the map it reads, which nothing else may read."""
    if is_labelled(graph, graph.flows):
        return graph
    facts = Facts(graph)
    felt = holding(graph, is_felt)
    return each_body(
        graph, lambda name, body: body if name in facts.watched else _Filters(facts, felt, body).region(body)
    )


class _Filters:
    def __init__(self, facts: Facts, felt: Set[NodeId], body: Region) -> None:
        self._facts = facts
        self._felt = felt
        self._reads = Counter(_reads(body))

    def region(self, region: Region) -> Region:
        nodes: list[Node] = []
        places: dict[ValueId, int] = {}
        for node in region.nodes:
            inner = with_regions(node, self.region)
            if isinstance(inner, MapNode):
                inner = self._pushed(inner, nodes, places)
            if leaves(inner):
                places.clear()  # a filter that is asked behind an exit is not asked before it
            places.update((value, len(nodes)) for value in values_of(inner))
            nodes.append(inner)
        return with_nodes(region, nodes)

    def _pushed(self, reader: MapNode, nodes: list[Node], places: dict[ValueId, int]) -> MapNode:
        """The map without its filter, where the one that it reads has it now; else as it is."""
        read = reader.items.value if isinstance(reader.items, Ref) else None
        if read is None or read not in places or self._reads[read] != 1 or reader.condition is None:
            return reader
        made = nodes[places[read]]
        if not isinstance(made, MapNode) or not self._may_lose_elements(made):
            return reader
        # Its indices change: nothing in it may have a key, and nothing may fail under one.
        keyed = any(is_call(node) or node.id in self._felt for node in walk(reader.body))
        if keyed or reader.condition.nodes or not self._facts.sure_region(reader.body):
            return reader
        keeps = self._keeps(made, reader, reader.condition.results[0].value)
        if keeps is None or any(places.get(value, -1) >= places[read] for value in references(keeps)):
            return reader
        nodes[places[read]] = replace(made, condition=Region((), (), (Operand("", keeps),)))
        return replace(reader, condition=None)

    def _may_lose_elements(self, made: MapNode) -> bool:
        plain = made.condition is None or not made.condition.nodes
        calls = any(map(is_call, walk(made.body)))
        return plain and calls and made.id not in self._felt and ValueId(made.id) in self._facts.sure

    def _keeps(self, made: MapNode, reader: MapNode, condition: Expr) -> Expr | None:
        """What the filter asks, of what the first map is given; None where only its calls can tell."""
        inside = {ValueId(node.id): node.expression for node in made.body.nodes if isinstance(node, ExprNode)}
        element = substituted(made.body.results[0].value, inside)
        asked = simplified(substituted(condition, {reader.element.id: element}), self._facts)
        computed = {value for node in walk(made.body) for value in values_of(node)}
        if not self._facts.is_sure(asked) or not computed.isdisjoint(references(asked)):
            return None
        return asked if made.condition is None else Apply("and", (made.condition.results[0].value, asked))


def _reads(region: Region) -> Iterator[ValueId]:
    """Every value that is read in the region and in those inside it, repeats included."""
    for node in region.nodes:
        for expression in own_expressions(node):
            yield from references(expression)
        for inner in inner_regions(node):
            yield from _reads(inner)
    for result in region.results:
        yield from references(result.value)
