"""Datasets, metrics, rollouts, and scores with intervals."""

from lmgraph.evaluate.dataset import Example
from lmgraph.evaluate.evaluate import Evaluation, evaluate
from lmgraph.evaluate.program_tests import TestResult, run_tests
from lmgraph.evaluate.rollout import Rollout, RolloutPlan, rollouts
from lmgraph.evaluate.statistics import Interval
from lmgraph.evaluate.task import Task, make_task

__all__ = [
    "Evaluation",
    "Example",
    "Interval",
    "Rollout",
    "RolloutPlan",
    "Task",
    "TestResult",
    "evaluate",
    "make_task",
    "rollouts",
    "run_tests",
]
