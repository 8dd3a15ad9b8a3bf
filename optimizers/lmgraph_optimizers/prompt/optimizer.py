"""The prompt optimizer: propose instructions and demo sets for every module, then search over all of them jointly, and
over settings and counts that the author declared.

Choices are compared on training rows that no demo comes from, in pairs with the start and under shared random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lmgraph.errors import BudgetExhausted
from lmgraph.evaluate import Task
from lmgraph.optimize import Lab, OptimizerConfig, OptimizeResult
from lmgraph.program import Program
from lmgraph_optimizers.demos.bootstrap import BootstrapPlan, bootstrap
from lmgraph_optimizers.demos.labels import STATED_ROWS, labelled, labelled_note
from lmgraph_optimizers.demos.pools import Pools, one_sided, pools_data, read_pools, rounded_off
from lmgraph_optimizers.prompt.config import PromptConfig
from lmgraph_optimizers.prompt.grounding import mistakes, private_fields, role, signature, summary
from lmgraph_optimizers.prompt.proposer import Brief, Subject, asked_lm, hidden_from, propose
from lmgraph_optimizers.prompt.rewrites import Instruction, rewrites
from lmgraph_optimizers.prompt.scores import PHASE, START, Scores
from lmgraph_optimizers.prompt.search import Search, load_optuna
from lmgraph_optimizers.prompt.space import Space, add_demo_sets
from lmgraph_optimizers.scoring import Reach, divide, left_notes, reach, score_rows, unscored_note

SHOWN = 8
"""Choices in the report's table."""


class Prompt:
    """Registered as `prompt`."""

    name: ClassVar[str] = "prompt"
    asks: ClassVar[tuple[str, ...]] = ("proposer", "teacher")
    Config: ClassVar[type[OptimizerConfig]] = PromptConfig

    def __init__(self, config: PromptConfig) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        load_optuna()  # before any call is made
        return await _Run(program, task, lab, self.config).all()


class _Run:
    """One stage. All that a resumed run needs is in ``_state``; the rest follows from it and the seed."""

    def __init__(self, program: Program, task: Task, lab: Lab, config: PromptConfig) -> None:
        self._program = program
        self._task = task
        self._lab = lab
        self._config = config
        self._state: dict[str, Any] = lab.restore() or {}
        self._notes: list[str] = []
        self._stated: Pools = {}
        rows = list(task.train)
        lab.rng("rows").shuffle(rows)
        self._source, self._rows = divide(rows, config.score_rows, config.bootstrap_rows)
        self._labelled, _ = divide(rows, config.score_rows, STATED_ROWS)
        self._private = private_fields(program.graph, task.objective.data)

    async def all(self) -> OptimizeResult:
        flow_modules = self._program.graph.modules_of(self._task.flow)
        if Space.of(self._program, self._task, flow_modules).is_empty:
            return OptimizeResult(
                self._program, ("Nothing of the flow may be changed: no instruction, demos, setting or count.",)
            )
        if len(self._task.train) == 1:
            self._notes.append("There is one training row only: what is chosen on it says little about others.")
        search: Search | None = None
        try:
            await self._start(flow_modules)
            if self._state["start"]["reached"]:
                await self._bootstrap(flow_modules)
            found = self._reach()
            self._notes += left_notes(flow_modules, found, len(self._rows))
            space = Space.of(self._program, self._task, [name for name in flow_modules if name in found.answered])
            if space.is_empty:
                return OptimizeResult(self._program, (*self._notes, "No module that gave an answer may be changed."))
            self._add_demo_sets(space)
            scores = Scores(space, self._rows, self._lab, self._state, self._save)
            await scores.look(START, range(len(self._rows)))
            search = Search(space, scores, self._lab, self._config)
            for number, trials in enumerate(_shares(self._config.trials, self._config.rounds)):
                await self._propose(space, scores, number)
                await search.round(number, trials)
            await search.finish()
        except BudgetExhausted as stop:
            return self._result(search, stop.message)
        return self._result(search, None)

    async def _start(self, modules: Sequence[str]) -> None:
        """Run the program as it is on all rows: what everything is compared with, and what goes wrong in it."""
        if "start" in self._state:
            return
        self._lab.status(f"the start on {len(self._rows)} rows", 0.0)
        done = await score_rows(self._lab, self._program, self._rows, phase=PHASE)
        high = self._task.objective.high
        reached = reach(done.rollouts)
        found = {}
        for name in modules:
            found[name] = mistakes(done.rollouts, name, high, self._hidden_for(name))
        scores = {str(position): score for position, score in enumerate(done.scores)}
        self._state |= {
            "start": {"reached": reached.answered, "failed": reached.failed, "mistakes": found},
            "scores": {"{}": scores},
            "tokens": {"{}": {str(position): number for position, number in enumerate(done.tokens)}},
            "unscored": done.unscored,
        }
        self._save()

    async def _bootstrap(self, modules: Sequence[str]) -> None:
        """Look for demos of all modules, those among them that the start never reached: where a module answers in the
        wrong form, those after it are only reached by runs that are held to the form, as these are."""
        config = self._config
        space = Space.of(self._program, self._task, modules)
        if not space.demo_sets or not config.demo_sets:
            return
        modules = tuple(space.demo_sets)
        self._lab.status("looking at what rows state", None)
        self._stated = await labelled(self._program, self._task, self._labelled, modules)
        self._notes += labelled_note(self._stated)
        if "pools" not in self._state:
            plan = BootstrapPlan(config.max_demos, config.bootstrap_rounds, config.threshold, config.teacher)
            pools, note = await bootstrap(self._program, self._source, self._stated, self._lab, plan)
            self._state |= {"pools": pools_data(pools), "note": note}
            self._save()
        self._notes.append(self._state["note"])

    def _reach(self) -> Reach:
        """Modules that answered, in the start or in a run that gave demos, and those of which rows state demos."""
        start, pools = self._state["start"], self._state.get("pools", {})
        shown = (name for found in (pools, self._stated) for name, demos in found.items() if demos)
        answered = dict.fromkeys([*start["reached"], *shown])
        failed = {name: why for name, why in start.get("failed", {}).items() if name not in answered}
        return Reach(list(answered), failed)

    def _add_demo_sets(self, space: Space) -> None:
        if "pools" in self._state:
            config, graph = self._config, self._program.graph
            found = rounded_off(read_pools(self._state["pools"]), self._stated, graph, config.max_demos)
            add_demo_sets(space, found, self._stated, self._lab, size=config.max_demos, most=config.demo_sets)

    async def _propose(self, space: Space, scores: Scores, number: int) -> None:
        """Add instructions: at first rewrites for about half of the room, the rest from a language model, shared over
        the rounds; what the model does not fill in the last round, rewrites do."""
        config, graph = self._config, self._program.graph
        rounds: list[dict[str, Any]] = self._state.setdefault("proposals", [])
        is_last = number == config.rounds - 1
        asks = config.proposer != "none"
        for name, known in space.instructions.items():
            written = rewrites(graph.module(name), known[0].text)
            if number == 0:
                room = 1 + (config.instructions if not asks else config.instructions // 2)
                for one in written:
                    space.add_instruction(name, one, min(room, config.instructions))
            room = config.instructions - len(known)
            if asks and room > 0:
                count = -(-room // (config.rounds - number))
                if len(rounds) <= number:
                    rounds.append({})
                if name not in rounds[number]:
                    rounds[number][name] = await self._asked(space, scores, name, number, count)
                    self._save()
                for text, origin in rounds[number][name]["instructions"]:
                    space.add_instruction(name, Instruction(text, origin), config.instructions)
                self._notes.append(rounds[number][name]["note"])
            if is_last:
                for one in written:
                    space.add_instruction(name, one, config.instructions)

    async def _asked(self, space: Space, scores: Scores, name: str, number: int, count: int) -> dict[str, Any]:
        """What a language model proposes for one module, JSON-ready."""
        graph, task, config = self._program.graph, self._task, self._config
        lm, place = asked_lm(graph, config.proposer, name)
        known = space.instructions[name]
        brief = Brief(
            name,
            Subject.of(graph.module(name)),
            role(graph, task.flow, name),
            signature(graph.module(name)),
            summary(graph, task.objective.data, self._source, self._hidden_for(name)),
            self._state["start"]["mistakes"].get(name, ()),
            _tried(space, scores, name),
        )
        self._lab.status(f"asking for {count} instructions of {name}")
        async with self._lab.bound_to(place) as bench:
            made = await propose(
                bench,
                self._program,
                lm,
                brief,
                current=known[0].text,
                known=[one.text for one in known],
                count=count,
                step=number,
            )
        self._lab.log("proposals", module=name, instructions=[one.text for one in made.instructions], note=made.note)
        return {"instructions": [[one.text, one.origin] for one in made.instructions], "note": made.note}

    def _hidden_for(self, module: str) -> set[str]:
        return hidden_from(self._program.graph, self._config.proposer, module, self._private)

    def _save(self) -> None:
        self._lab.checkpoint(self._state)

    def _result(self, search: Search | None, stopped: str | None) -> OptimizeResult:
        notes = list(self._notes)
        if search is None:
            notes.append(f"Stopped before anything was compared: {stopped}")
            return OptimizeResult(self._program, tuple(notes), stopped)
        scores, progress = search.scores, search.progress
        best = search.best()
        program = search.space.applied(best)
        notes.append(
            f"{progress.trials} trials ({progress.pruned} pruned, {progress.full} evaluations on all"
            f" {len(self._rows)} rows) over {len(scores.choices)} different combinations."
        )
        if best == START:
            notes.append("Nothing scored above the start on the training rows, so it stays as it is.")
        else:
            start, score = scores.mean(START), scores.mean(best)
            notes.append(f"Chosen: {search.space.told(best)}. Training rows: {score:.3f}, the start {start:.3f}.")
            notes += one_sided(program, list(program.params.modules))
        if unscored := unscored_note(scores.unscored):
            notes.append(unscored)
        table = [
            {"name": search.space.told(choice), "score": scores.mean(choice), "rows": len(scores.seen(choice))}
            for choice in scores.order()[:SHOWN]
        ]
        details: dict[str, Any] = {"candidates": table, "space": search.space.sizes()}
        if progress.curve:
            details["curves"] = {"best on training rows": progress.curve}
        return OptimizeResult(program, tuple(notes), stopped, details)


def _shares(trials: int, rounds: int) -> list[int]:
    """Trials of each round; all of them together are ``trials``."""
    return [(index + 1) * trials // rounds - index * trials // rounds for index in range(rounds)]


def _tried(space: Space, scores: Scores, module: str) -> list[tuple[str, float]]:
    """The module's instructions with the best mean score of a choice that has them, best first, at most four."""
    best: dict[int, float] = {}
    for choice in scores.choices.values():
        if scores.seen(choice):
            index = choice.get(f"{module}.instruction", 0)
            best[index] = max(best.get(index, float("-inf")), scores.mean(choice))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:4]
    return [(space.instructions[module][index].text, score) for index, score in ranked]
