"""What verify refuses: changes of one node of the sample graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lmgraph.errors import GraphInvariantError
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import Node
from lmgraph.graph.verify import verify
from support.graph_parts import changed
from support.graph_samples import every_kind


def refused(graph: Graph, match: str) -> None:
    """verify refuses the graph, for a reason that matches."""
    with pytest.raises(GraphInvariantError, match=match):
        verify(graph)


def edited(id: str, match: str, **changes: Any) -> None:
    """verify refuses the sample where the node of this id has these changes."""
    refused(changed(every_kind(), id, lambda node: replace(node, **changes)), match)


def added(before: str, made: Node) -> Graph:
    """The sample with one more node, which stands before that of the id."""
    return changed(every_kind(), before, lambda node: [made, node])
