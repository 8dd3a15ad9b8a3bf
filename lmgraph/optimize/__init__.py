"""The optimizer contract, the Lab, the registry and composition. No algorithm lives here."""

from lmgraph.optimize.calls import CallGroup, GroupedCall, Grouping, group_calls, masked_calls, set_aside
from lmgraph.optimize.compose import OptimizeRun, StageSpec, optimize
from lmgraph.optimize.lab import Lab
from lmgraph.optimize.optimizer import Optimizer, OptimizerConfig, OptimizeResult
from lmgraph.optimize.records import StageRecord

__all__ = [
    "CallGroup",
    "GroupedCall",
    "Grouping",
    "Lab",
    "OptimizeResult",
    "OptimizeRun",
    "Optimizer",
    "OptimizerConfig",
    "StageRecord",
    "StageSpec",
    "group_calls",
    "masked_calls",
    "optimize",
    "set_aside",
]
