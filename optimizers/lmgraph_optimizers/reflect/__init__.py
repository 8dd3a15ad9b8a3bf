"""Reflection: a language model reads what went wrong and rewrites one instruction at a time, each from a text on the
Pareto front over rows (GEPA, Agrawal et al., arXiv:2507.19457, by the library gepa)."""

from lmgraph_optimizers.reflect.config import ReflectConfig
from lmgraph_optimizers.reflect.optimizer import Reflect

__all__ = ["Reflect", "ReflectConfig"]
