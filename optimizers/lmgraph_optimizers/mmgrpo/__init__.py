"""mmGRPO: group-relative policy gradients over the calls of a whole program (Ziems et al., arXiv:2508.04660)."""

from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.optimizer import MultiModuleGRPO

__all__ = ["MmgrpoConfig", "MultiModuleGRPO"]
