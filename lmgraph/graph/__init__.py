"""Types, nodes and the graph: what a program is, once compiled."""

from lmgraph.graph.expressions import Expr, GetField
from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.nodes import ExprNode, LmCall, MapNode, Node, Ref
from lmgraph.graph.types import EnumType, ListType, LiteralType, OptionalType, RecordType, ScalarType, Type
from lmgraph.graph.walk import walk

__all__ = [
    "EnumType",
    "Expr",
    "ExprNode",
    "GetField",
    "Graph",
    "ListType",
    "LiteralType",
    "LmCall",
    "MapNode",
    "ModuleSpec",
    "Node",
    "OptionalType",
    "RecordType",
    "Ref",
    "ScalarType",
    "Type",
    "walk",
]
