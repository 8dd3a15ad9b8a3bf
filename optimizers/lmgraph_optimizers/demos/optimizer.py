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
from lmgraph_optimizers.demos.pools import Pools, bootstrapped, is_varied, labelled, pick


class DemosConfig(OptimizerConfig):
    """Options of `demos`."""

    max_demos: int = Field(default=8, ge=1, description="most demos in one module's prompt")
    candidates: int = Field(default=8, ge=0, description="shuffled demo sets tried beside the fixed ones")
    bootstrap_rows: int = Field(default=96, ge=1, description="most training rows run to find demos")
    score_rows: int = Field(default=64, ge=1, description="training rows that the last candidates are scored on")
    rounds: int = Field(default=3, ge=1, description="most passes over those rows; all but the first with noise")
    threshold: float | None = Field(
        default=None, description="score a run needs to give demos; default: the top of the objective's range"
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
    Config: ClassVar[type[OptimizerConfig]] = DemosConfig

    def __init__(self, config: DemosConfig) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        modules = tuple(name for name in program.graph.modules_of(task.flow) if task.allows(program, name, "demos"))
        if not modules:
            return OptimizeResult(program, ("No module of the flow lets its demos be changed.",))
        rows = list(task.train)
        lab.rng("rows").shuffle(rows)
        source, scoring = _divide(rows, self.config)
        notes: list[str] = []
        try:
            found = await self._bootstrap(program, source, modules, lab, notes)
            rows_as_demos = labelled(program.graph, task, source, modules)
            candidates = self._candidates(program, found, rows_as_demos, lab)
            best, table = await _halve(candidates, program, scoring, lab)
        except BudgetExhausted as stop:
            return OptimizeResult(program, (*notes, f"Stopped before a set was chosen: {stop.message}"), stop.message)
        notes.append(f"Chosen: {best.name}, from {len(candidates)} candidates.")
        return OptimizeResult(best.applied(program), tuple(notes), details={"candidates": table})

    async def _bootstrap(
        self, program: Program, source: Sequence[Example], modules: Sequence[str], lab: Lab, notes: list[str]
    ) -> Pools:
        """Run training rows until every module has enough demos to choose from: greedily, then with noise, which
        finds answers that a biased model never gives first."""
        objective = lab.task.objective
        threshold = objective.high if self.config.threshold is None else self.config.threshold
        pools: Pools = {module: [] for module in modules}
        runs = passed = 0
        for attempt in range(self.config.rounds):
            for start in range(0, len(source), 32):
                share = (attempt + start / len(source)) / self.config.rounds
                lab.status(f"bootstrapping, {passed} of {runs} runs passed", share)
                done = await lab.rollouts(
                    program,
                    source[start : start + 32],
                    phase="bootstrap",
                    step=attempt,
                    temperature=None if attempt == 0 else 1.0,
                    decoding="constrained",
                )
                runs += len(done)
                passed += sum(run.score.value >= threshold and run.trace.failure is None for run in done)
                for module, demos in bootstrapped(done, threshold, modules).items():
                    pools[module] += demos
                if all(len(pool) >= 4 * self.config.max_demos for pool in pools.values()):
                    break
            if all(len(pick(pool, self.config.max_demos)) == self.config.max_demos for pool in pools.values()) and all(
                is_varied(pools[name], program.graph.module(name), self.config.max_demos) for name in modules
            ):
                break
        notes.append(f"Bootstrapping: {passed} of {runs} runs scored at least {threshold:g}.")
        lab.log("bootstrap", runs=runs, passed=passed, demos={module: len(pool) for module, pool in pools.items()})
        return pools

    def _candidates(self, program: Program, found: Pools, rows: Pools, lab: Lab) -> list[Candidate]:
        """None; labelled rows; bootstrapped in order; then shuffled sets of both kinds, of full and of half size."""
        size = self.config.max_demos
        candidates = [Candidate("no demos", dict.fromkeys(found, ()))]
        if any(rows.values()):
            mixed = {module: rows[module] or found[module] for module in found}
            candidates.append(Candidate("labelled", {module: pick(mixed[module], size) for module in found}))
        else:
            mixed = found
        if any(found.values()):
            candidates.append(Candidate("bootstrapped", {module: pick(found[module], size) for module in found}))
        for index in range(self.config.candidates):
            pools, kind = (mixed, "labelled") if index % 2 and mixed is not found else (found, "bootstrapped")
            rng = lab.rng("candidate", index)
            count = max(1, size if index % 4 < 2 else size // 2)
            demos = {module: pick(pools[module], count, rng) for module in found}
            if any(demos.values()):
                candidates.append(Candidate(f"{kind}, shuffle {index + 1}, {count} demos", demos))
        return candidates


def _divide(rows: list[Example], config: DemosConfig) -> tuple[list[Example], list[Example]]:
    """Rows that demos come from, and rows that choose between sets; disjoint unless there is only one row."""
    scoring = min(config.score_rows, max(1, len(rows) // 2))
    source = rows[scoring:] or rows
    return source[: config.bootstrap_rows], rows[:scoring]


async def _halve(
    candidates: list[Candidate], program: Program, rows: Sequence[Example], lab: Lab
) -> tuple[Candidate, list[dict[str, Any]]]:
    """Successive halving: all candidates on a quarter of the rows, the better half on half of them, the rest on all.

    Scores are over all rows a candidate has seen. Ties keep the earlier, simpler candidate.
    """
    state = lab.restore() or {"scores": {}}
    scores: dict[str, list[float]] = state["scores"]
    alive = list(range(len(candidates)))
    sizes = sorted({max(1, len(rows) // 4), max(1, len(rows) // 2), len(rows)})
    for rung, size in enumerate(sizes):
        for position, index in enumerate(alive):
            seen = scores.setdefault(str(index), [])
            if len(seen) < size:
                share = (rung + position / len(alive)) / len(sizes)
                lab.status(f"candidate {position + 1} of {len(alive)} on {size} rows", share)
                evaluation = await lab.evaluate(
                    candidates[index].applied(program), rows[len(seen) : size], phase="candidates"
                )
                seen += [row.score for row in evaluation.rows]
                lab.checkpoint({"scores": scores})
        alive.sort(key=lambda index: (-_mean(scores[str(index)]), index))
        if size != sizes[-1]:
            alive = sorted(alive[: max(1, (len(alive) + 1) // 2)])
    table = [
        {"name": candidate.name, "score": _mean(scores[str(index)]), "rows": len(scores[str(index)])}
        for index, candidate in enumerate(candidates)
    ]
    lab.log("candidates", table=table)
    return candidates[alive[0]], table


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)
