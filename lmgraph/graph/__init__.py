"""Types, nodes and the graph: what a program is, once compiled."""

from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.nodes import LmCall, MapNode, Ref
from lmgraph.graph.types import EnumType, ListType, LiteralType, OptionalType, RecordType, ScalarType, Type
from lmgraph.graph.walk import walk

__all__ = [
    "EnumType",
    "Graph",
    "ListType",
    "LiteralType",
    "LmCall",
    "MapNode",
    "ModuleSpec",
    "OptionalType",
    "RecordType",
    "Ref",
    "ScalarType",
    "Type",
    "walk",
]
