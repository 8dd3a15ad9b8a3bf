"""Program = Graph + Params, and the folder both are kept in."""

from lmgraph.program.fingerprints import Fingerprints
from lmgraph.program.params import AdapterRef, Demo, NodeParams, Params
from lmgraph.program.program import Program

__all__ = ["AdapterRef", "Demo", "Fingerprints", "NodeParams", "Params", "Program"]
