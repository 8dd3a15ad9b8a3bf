"""Exact passes: rewrites of a graph after which every run gives what it gave before, with fewer calls or none more.

They run where a graph is made ready to run, never on the graph that artifacts hold and fingerprints are made of. No
pass changes an id or a seed, and a call that is still made has the key it had. docs/internals/compiler.md says what
each may assume.
"""

from lmgraph.passes.base import Changes, Pass, Step
from lmgraph.passes.counts import with_counts
from lmgraph.passes.ordered import PASSES, check_names, optimized, steps
from lmgraph.passes.prompt_order import LateInput, late_inputs

__all__ = [
    "PASSES",
    "Changes",
    "LateInput",
    "Pass",
    "Step",
    "check_names",
    "late_inputs",
    "optimized",
    "steps",
    "with_counts",
]
