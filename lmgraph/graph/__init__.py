"""Types, nodes and the graph: what a program is, once compiled."""

from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.nodes import LmCall, MapNode, Ref, walk

__all__ = ["Graph", "LmCall", "MapNode", "ModuleSpec", "Ref", "walk"]
