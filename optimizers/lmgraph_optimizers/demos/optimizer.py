"""The demos optimizer: bootstrap, form candidate sets, and keep the one that scores best.

Bootstrapping as in Khattab et al., DSPy (arXiv:2310.03714, section 3.3), concurrently; candidates are thinned by
successive halving (Jamieson and Talwalkar, arXiv:1502.07943) on the same rows for all, so that they are compared in
pairs. The rows that choose are training rows that no demo comes from: the dev rows stay unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from lmgraph.errors import BudgetExhausted
from lmgraph.evaluate import Example, Task
from lmgraph.optimize import Lab, OptimizerConfig, OptimizeResult
from lmgraph.program import Demo, Program
from lmgraph_optimizers.demos.bootstrap import BootstrapPlan, bootstrap
from lmgraph_optimizers.demos.labels import STATED_ROWS, labelled, labelled_note
from lmgraph_optimizers.demos.pools import Pools, one_sided, pick, pools_data, read_pools, rounded_off
from lmgraph_optimizers.scoring import divide, mean, score_rows, unscored_note

PHASE = "candidates"
"""Names the random numbers that all candidates share."""


class DemosConfig(OptimizerConfig):
    """Options of `demos`."""

    max_demos: int = Field(default=8, ge=1, description="most demos in one module's prompt")
    candidates: int = Field(default=8, ge=0, description="shuffled demo sets tried beside the fixed ones")
    bootstrap_rows: int = Field(default=96, ge=1, description="most training rows run to find demos")
    score_rows: int = Field(default=64, ge=1, description="training rows that the last candidates are scored on")
    rounds: int = Field(default=3, ge=1, description="most passes over those rows; all but the first with noise")
    threshold: float | None = Field(
        default=None,
        description="score a run needs to give demos; default: the top of the objective's range, and where too few"
        " reach it, what the others did right",
    )
    teacher: str | None = Field(
        default=None,
        description="who finds demos: a model (`local:NAME`, `openai:MODEL@URL`) or an artifact of this program;"
        " default: the program itself",
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    demos: dict[str, tuple[Demo, ...]]
    """By module."""

    def applied(self, program: Program) -> Program:
        params = program.params
        for module, demos in self.demos.items():
            params = params.with_module(module, demos=demos)
        return program.with_params(params)


class Demos:
    """Registered as `demos`."""

    name: ClassVar[str] = "demos"
    asks: ClassVar[tuple[str, ...]] = ("teacher",)
    Config: ClassVar[type[OptimizerConfig]] = DemosConfig

    def __init__(self, config: DemosConfig) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        modules = tuple(name for name in program.graph.modules_of(task.flow) if task.allows(program, name, "demos"))
        if not modules:
            return OptimizeResult(program, ("No module of the flow lets its demos be changed.",))
        rows = list(task.train)
        lab.rng("rows").shuffle(rows)
        source, scoring = divide(rows, self.config.score_rows, self.config.bootstrap_rows)
        state: dict[str, Any] = {"scores": {}, "unscored": {}, **(lab.restore() or {})}
        notes: list[str] = []
        try:
            lab.status("looking at what rows state", None)
            stated = await labelled(program, task, divide(rows, len(scoring), STATED_ROWS)[0], modules)
            notes += labelled_note(stated)
            if "pools" not in state:
                config = self.config
                plan = BootstrapPlan(config.max_demos, config.rounds, config.threshold, config.teacher)
                pools, note = await bootstrap(program, source, stated, lab, plan)
                state |= {"pools": pools_data(pools), "note": note}
                lab.checkpoint(state)
            notes.append(state["note"])
            found = rounded_off(read_pools(state["pools"]), stated, program.graph, self.config.max_demos)
            candidates = self._candidates(found, stated, lab)
            best, table, stopped = await _halve(candidates, program, scoring, lab, state)
        except BudgetExhausted as stop:
            return OptimizeResult(program, (*notes, f"Stopped before a set was chosen: {stop.message}"), stop.message)
        notes.append(f"Chosen: {best.name}, from {len(candidates)} candidates.")
        tuned = best.applied(program)
        notes += one_sided(tuned, modules)
        if stopped is not None:
            notes.append(f"Stopped while they were being compared, on the rows that several had by then: {stopped}")
        if unscored := unscored_note(state["unscored"]):
            notes.append(unscored)
        if len(rows) == 1:
            notes.append("There is one training row only: demos come from the row that chooses between them.")
        return OptimizeResult(tuned, tuple(notes), stopped, {"candidates": table})

    def _candidates(self, found: Pools, stated: Pools, lab: Lab) -> list[Candidate]:
        """None; labelled rows; bootstrapped in order; then shuffled sets of both kinds, of full and of half size. A
        module without demos of the one kind has those of the other."""
        size, kinds = self.config.max_demos, []
        candidates = [Candidate("no demos", dict.fromkeys(found, ()))]
        for kind, first, second in (("labelled", stated, found), ("bootstrapped", found, stated)):
            if any(first.values()):
                pools = {module: first[module] or second[module] for module in found}
                kinds.append((kind, pools))
                candidates.append(Candidate(kind, {module: pick(pools[module], size) for module in found}))
        for index in range(self.config.candidates if kinds else 0):
            kind, pools = kinds[(index + 1) % len(kinds)]
            rng = lab.rng("candidate", index)
            count = max(1, size if index % 4 < 2 else size // 2)
            demos = {module: pick(pools[module], count, rng) for module in found}
            candidates.append(Candidate(f"{kind}, shuffle {index + 1}, {count} demos", demos))
        return candidates


async def _halve(
    candidates: list[Candidate], program: Program, rows: Sequence[Example], lab: Lab, state: dict[str, Any]
) -> tuple[Candidate, list[dict[str, Any]], str | None]:
    """Successive halving: all candidates on a quarter of the rows, the better half on half of them, the rest on all.

    Scores are over all rows a candidate has seen. Ties keep the earlier, simpler candidate. Returns the best, the table
    for the report, and why it stopped early, if it did: then the best is of those that saw the most rows together.
    Raises: BudgetExhausted before two candidates can be compared.
    """
    scores: dict[str, list[float]] = state["scores"]
    alive = list(range(len(candidates)))
    sizes = sorted({max(1, len(rows) // 4), max(1, len(rows) // 2), len(rows)})
    stopped = None
    for rung, size in enumerate(sizes):
        try:
            for position, index in enumerate(alive):
                seen = scores.setdefault(str(index), [])
                if len(seen) < size:
                    share = (rung + position / len(alive)) / len(sizes)
                    lab.status(f"candidate {position + 1} of {len(alive)} on {size} rows", share)
                    todo = rows[len(seen) : size]
                    done = await score_rows(lab, candidates[index].applied(program), todo, phase=PHASE)
                    seen += done.scores
                    state["unscored"].update(done.unscored)
                    lab.checkpoint(state)
        except BudgetExhausted as stop:
            reached = [index for index in alive if len(scores.get(str(index), ())) >= size]
            if len(reached) > 1:
                alive = reached
            elif rung == 0:
                raise
            else:
                size = sizes[rung - 1]
            stopped = stop.message
        # Of these rows only: a run that was interrupted has scores of later rungs already.
        alive.sort(key=lambda index: (-mean(scores[str(index)][:size]), index))
        if stopped is not None:
            break
        if size != sizes[-1]:
            alive = sorted(alive[: max(1, (len(alive) + 1) // 2)])
    table = [
        {"name": candidate.name, "score": mean(scores[str(index)]), "rows": len(scores[str(index)])}
        for index, candidate in enumerate(candidates)
        if scores.get(str(index))
    ]
    lab.log("candidates", table=table)
    return candidates[alive[0]], table, stopped
