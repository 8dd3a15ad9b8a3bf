"""Types, nodes and the graph: what a program is, once compiled."""

from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.nodes import LmCall, MapNode, Ref
from lmgraph.graph.types import EnumType
from lmgraph.graph.walk import walk

__all__ = ["EnumType", "Graph", "LmCall", "MapNode", "ModuleSpec", "Ref", "walk"]
