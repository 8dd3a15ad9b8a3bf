"""Bootstrapping: run training rows until every module has enough demos to choose from (Khattab et al.,
arXiv:2310.03714, section 3.3), by the program itself or by a teacher."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import lmgraph
from lmgraph.errors import ConfigError
from lmgraph.evaluate import Example, Rollout
from lmgraph.optimize import Lab
from lmgraph.program import Program
from lmgraph.runtime import Call
from lmgraph_optimizers.demos.pools import Pools, agrees, as_demo, bootstrapped, is_varied, pick, shown_calls
from lmgraph_optimizers.scoring import mean

CHUNK = 32
"""Rows run at once; after each chunk it may be enough."""
ROUNDING = 1e-9
"""Equal scores may differ from their mean by so much, and none of them is better than the others."""


@dataclass(frozen=True, slots=True)
class BootstrapPlan:
    """What counts as enough, and who runs."""

    max_demos: int
    """Most demos in one prompt; a pool of four times as many is enough."""
    rounds: int = 3
    """Most passes over the rows: the first at the program's own temperatures, the others at 1.0."""
    threshold: float | None = None
    """Score a run needs to give demos; None: the top of the objective's range, and where a module gets too few demos
    from those, what other runs did right."""
    teacher: str | None = None
    """An artifact folder or a model that runs instead of the program on its own models."""

    @property
    def is_default(self) -> bool:
        """Whether nothing says which runs demos are wanted from."""
        return self.threshold is None and self.teacher is None


async def bootstrap(
    program: Program, source: Sequence[Example], stated: Pools, lab: Lab, plan: BootstrapPlan
) -> tuple[Pools, str]:
    """Demos of the modules of ``stated``, from calls of runs that scored well, and a sentence on how many did.

    Where rows state demos of all of them nothing is run: a run without a mistake gives what they state, except where a
    module writes its reasoning too, or a teacher or a threshold of its own was asked for.
    Later passes are sampled with noise, which finds answers that a biased model never gives first. Where too few runs
    are without a mistake, others give calls that may have one, of modules that have no demos in ``stated``: candidates
    are scored before one is chosen.
    Raises: BudgetExhausted; ConfigError where the teacher is no other version of this program.
    """
    threshold = lab.task.objective.high if plan.threshold is None else plan.threshold
    modules = tuple(stated)
    pools: Pools = {module: [] for module in modules}
    graph = program.graph
    if plan.is_default and all(demos and not graph.module(name).reasons for name, demos in stated.items()):
        return pools, "No run was needed to find demos."
    lesser: list[Rollout] = []
    scores: list[float] = []
    runs = passed = 0
    async with taught(program, plan.teacher, lab) as (bench, teacher):
        for attempt in range(plan.rounds):
            for start in range(0, len(source), CHUNK):
                share = (attempt + start / len(source)) / plan.rounds
                lab.status(f"bootstrapping, {passed} of {runs} runs passed", share)
                done = await bench.rollouts(
                    teacher,
                    source[start : start + CHUNK],
                    phase="bootstrap",
                    step=attempt,
                    temperature=None if attempt == 0 else 1.0,
                    decoding="constrained",
                    keep_unscored=True,
                    reuse=True,
                )
                whole = [run for run in done if run.trace.failure is None]
                good = [run for run in whole if run.score.value >= threshold]
                lesser += [run for run in whole if run.score.value < threshold]
                scores += [run.score.value for run in done if math.isfinite(run.score.value)]
                runs, passed = runs + len(done), passed + len(good)
                for module, demos in bootstrapped(good, modules).items():
                    pools[module] += demos
                if all(len(pool) >= 4 * plan.max_demos for pool in pools.values()):
                    break
            if all(_is_enough(program, module, pools, plan.max_demos) for module in modules):
                break
    filled = None
    if plan.threshold is None and scores:
        unstated = {module: pools[module] for module in modules if not stated[module]}
        filled = _fill(unstated, lesser, program, lab, mean(scores), plan.max_demos)
    lab.log(
        "bootstrap", runs=runs, passed=passed, demos={module: len(pool) for module, pool in pools.items()},
        least=filled,
    )  # fmt: skip
    by = "" if plan.teacher is None else f" by the teacher {plan.teacher}"
    note = f"Bootstrapping{by}: {passed} of {runs} runs scored at least {threshold:g}."
    if filled is not None:
        note += f" Modules with too few demos got some of runs down to {filled:.3g}."
    return pools, note


def _fill(pools: Pools, lesser: Sequence[Rollout], program: Program, lab: Lab, above: float, most: int) -> float | None:
    """Give modules with fewer than ``most`` demos those of other runs: calls that gave what their row states, then,
    from runs that scored above ``above``, calls of which it says nothing, the best runs first. A call that gave
    something else shows the form at least, and is taken where a module has nothing better.

    Returns the least score that was taken, None if there was none."""
    poor = [module for module, pool in pools.items() if len(pick(pool, most)) < most]
    found: dict[bool | None, list[tuple[Call, Rollout]]] = {True: [], None: [], False: []}
    for run in sorted(lesser, key=lambda run: -run.score.value):  # stable: of equals the earlier comes first
        for call in shown_calls(run, poor):
            agreed = agrees(program.graph, lab.task, call, run.example)
            if agreed or run.score.value > above + ROUNDING:
                found[agreed].append((call, run))
    taken: list[float] = []
    for agreed, calls in found.items():
        bare = {module for module, pool in pools.items() if not pool}
        for call, run in calls:
            pool = pools[call.module]
            if (agreed is not False or call.module in bare) and len(pick(pool, 2 * most)) < 2 * most:
                pool.append(as_demo(call, run))
                taken.append(run.score.value)
    return min(taken, default=None)


def _is_enough(program: Program, module: str, pools: Pools, count: int) -> bool:
    full = len(pick(pools[module], count)) == count
    return full and is_varied(pools[module], program.graph.module(module), count)


@asynccontextmanager
async def taught(program: Program, teacher: str | None, lab: Lab) -> AsyncIterator[tuple[Lab, Program]]:
    """Who runs for bootstrapping: the program on its own models, a tuned artifact of it on them, or the program on
    another model, without its adapters, which belong to their base. Raises: ConfigError."""
    if teacher is None:
        yield lab, program
    elif (Path(teacher) / "artifact.json").is_file():
        tuned = lmgraph.load(Path(teacher))
        for name, params in program.params.modules.items():
            other = tuned.params.modules.get(name)
            if other is None or other.fingerprints.interface != params.fingerprints.interface:
                raise ConfigError(
                    f"The teacher {teacher} is not a version of this program: its module `{name}` is missing or has"
                    " other inputs or outputs.",
                    hint="name an artifact that was made from this program, or a model",
                )
        yield lab, program.with_params(tuned.params)
    else:
        bare = program.params
        for name in bare.modules:
            bare = bare.with_module(name, adapter=None)
        async with lab.bound_to(teacher) as bench:
            yield bench, program.with_params(replace(bare, adapters={}))
