"""Instruction and demo search: TPE over the instructions and demo sets of all modules jointly, with proposals from
rewrites and from a language model (after MIPROv2, Opsahl-Ong et al., arXiv:2406.11695)."""

from lmgraph_optimizers.prompt.config import PromptConfig
from lmgraph_optimizers.prompt.optimizer import Prompt

__all__ = ["Prompt", "PromptConfig"]
