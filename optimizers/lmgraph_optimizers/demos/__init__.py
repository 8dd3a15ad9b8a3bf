"""Demo bootstrapping: worked examples for every module's prompt, found by running the program and searched over."""

from lmgraph_optimizers.demos.optimizer import Demos, DemosConfig

__all__ = ["Demos", "DemosConfig"]
