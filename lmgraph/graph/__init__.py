"""Types, nodes and the graph: what a program is, once compiled."""

from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.nodes import LmCall, MapNode, Ref, walk
from lmgraph.graph.types import EnumType

__all__ = ["EnumType", "Graph", "LmCall", "MapNode", "ModuleSpec", "Ref", "walk"]
