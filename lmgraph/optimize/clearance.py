"""Private values in optimizing: models that a stage's options name, and adapters that stages give to modules.

The compiler holds the models of a program to their clearances. What `--prompt.proposer` or `--demos.teacher` name is
known only when a run starts: it is held to the same, before the first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError, OptimizeError
from lmgraph.evaluate.task import Task
from lmgraph.graph.expression_text import short_name
from lmgraph.graph.graph import DEFAULT_LM, Graph
from lmgraph.graph.labels import Taint
from lmgraph.graph.labels_found import Leak
from lmgraph.graph.labels_program import information_flow
from lmgraph.graph.nodes import ValueId
from lmgraph.optimize.optimizer import Optimizer
from lmgraph.program import artifact
from lmgraph.program.clearance import mixed_adapters
from lmgraph.program.program import Program
from lmgraph.runtime.addresses import PRIVATE_HOSTS_VARIABLE, check_clearance
from lmgraph.runtime.bind import DEFAULT_ENGINE, Binding, Bindings
from lmgraph.runtime.engine import RemoteEngine


async def refuse_uncleared(program: Program, task: Task, stages: Sequence[tuple[str, Optimizer, Any]]) -> None:
    """Refuses a model on another machine that a stage (name, optimizer, options) would run the program on, where the
    program's private values are for this machine only.

    Raises: ConfigError with the way of such a value; as `Bindings.engine`.
    """
    for stage, optimizer, config in stages:
        for option in getattr(optimizer, "asks", ()):
            place = getattr(config, option)
            if place is None or not _is_place(program.graph, place):
                continue
            for leak in _given(program.graph, task):
                await _hold(program.graph, leak, f"--{stage}.{option} {place}", place)


def _is_place(graph: Graph, text: str) -> bool:
    """Whether the option names a model by its place: not an artifact, whose program runs on the program's own models,
    nor one of the program's LMs, which optimizers show private values only where it is cleared for them."""
    return text != "none" and not artifact.is_artifact(Path(text)) and text not in {lm.name for lm in graph.lms}


def _given(graph: Graph, task: Task) -> list[Leak]:
    """Where private values would leak if no model of the program were cleared for any, one a cleared LM."""
    cleared = {lm.name for lm in graph.lms if lm.clearance == "private"}
    reached = {*graph.modules_of(task.flow), *(one for name in task.objective.metrics for one in graph.judges_of(name))}
    public = replace(graph, lms=tuple(replace(lm, clearance="public") for lm in graph.lms))
    found: dict[str | None, Leak] = {}
    for leak in information_flow(public).leaks:
        if leak.lm in cleared and leak.kind in ("lm", "judge") and leak.target in reached:
            found.setdefault(leak.lm, leak)
    return list(found.values())


async def _hold(graph: Graph, leak: Leak, option: str, place: str) -> None:
    """The place in place of the LM that is given the value. Raises: ConfigError."""
    assert leak.lm is not None
    binding = Binding.parse(place)
    bindings = Bindings(everything=binding)
    if bindings.resolve(graph, leak.lm)[0] == DEFAULT_ENGINE:
        return  # it runs in this process: nothing leaves it, and opening it would load its weights
    urls = binding.urls
    if not urls:
        engine = await bindings.engine(Graph(graph.name), DEFAULT_LM)
        urls = tuple(engine.urls) if isinstance(engine, RemoteEngine) else ()
        await bindings.aclose()
    try:
        check_clearance(leak.lm, urls)
    except ConfigError:
        raise ConfigError(
            f"{option} is on another machine, and would be asked with private values: {way(leak)}.",
            hint=f"name a model on this machine, or list its host in {PRIVATE_HOSTS_VARIABLE}",
        ) from None


def way(leak: Leak) -> str:
    """ "`text` of `Row` is private, goes into `note`, and is given to `Ask` as `text`": how the value came there."""
    steps = leak.taint.way()
    through = [name for step in steps[1:] if (name := _step(step))]
    told = [f"{_origin(steps[0])} is private"]
    if through:
        told.append(f"goes into {', '.join(f'`{name}`' for name in dict.fromkeys(through))}")
    end = (
        f"is given to `{leak.target}` as `{leak.field}`" if leak.field else f"decides whether `{leak.target}` is asked"
    )
    return f"{', '.join(told)} and {end}"


def _step(step: Taint) -> str:
    return "" if step.place.endswith(")") else short_name(ValueId(step.place.removesuffix("?")))


def _origin(step: Taint) -> str:
    origin = step.origin
    owner = short_name(ValueId(origin.owner.removesuffix(".private")))
    return f"`{origin.name}` of `{owner}`" if origin.name else f"`{owner}`"


def refuse_mixed_adapters(program: Program, stage: str) -> None:
    """Refuses what a stage found where an adapter of modules whose LM sees private values serves one whose LM must not.

    Raises: OptimizeError.
    """
    mixed = mixed_adapters(program.graph, program.params)
    if mixed:
        raise OptimizeError(
            f"What the stage {stage} found is refused: {'; '.join(mixed)}.",
            hint="adapters of LMs with and without `clearance: private` must be trained apart",
        )
