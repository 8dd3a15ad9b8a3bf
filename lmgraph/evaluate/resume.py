"""Going on where an evaluation was killed: runs are found again by all that decides them and their scores."""

from __future__ import annotations

from dataclasses import dataclass

from lmgraph.evaluate.dataset import Example
from lmgraph.evaluate.metric import Score
from lmgraph.evaluate.task import Task
from lmgraph.program.program import Program
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.places import digest, models, python_contents
from lmgraph.runtime.service import Runtime
from lmgraph.runtime.store import TraceStore
from lmgraph.runtime.trace import Trace


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run of an earlier process. Where that was killed before it scored the run there is no score."""

    trace: Trace
    score: Score | None


async def setting_of(runtime: Runtime, program: Program, task: Task, decoding: Decoding, seed: int) -> str:
    """A hash of program and parameters, the Python it names, the objective, decoding, seed, and the models.

    Raises: EngineUnavailable, ConfigError where a model cannot be opened.
    """
    graph = program.graph
    names = graph.modules_of(task.flow)
    judge = task.objective.judge
    lms = sorted({graph.module(name).lm for name in names} | ({judge} if judge is not None else set()))
    references = [extern.python for extern in graph.externs]
    references += [metric.python for metric in graph.metrics if metric.python is not None]
    return digest(
        program.hash,
        task.objective.name,
        decoding,
        seed,
        await models(runtime.bindings, program, lms),
        list(python_contents(references, program.root)),
    )


def place_of(setting: str, example: Example, index: int) -> str:
    """Where the store finds sample ``index`` of a row: another row of the same id is another place."""
    return digest(setting, example.id, example.values, index)


def find_run(store: TraceStore | None, place: str) -> FoundRun | None:
    """Raises: ConfigError where the store is damaged."""
    trace = None if store is None or not place else store.at_place(place)
    if store is None or trace is None:
        return None
    known = store.score_of(trace.run_id)
    return FoundRun(trace, None if known is None else Score(*known))
