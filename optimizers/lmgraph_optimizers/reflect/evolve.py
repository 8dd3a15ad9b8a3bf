"""GEPA, through the adapter interface of the library `gepa`: it keeps the Pareto front and says what is tried next.

gepa is synchronous. It runs in a thread of its own and puts its questions to the event loop, where the Lab is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections import Counter
from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

from lmgraph.errors import OptimizeError, PluginError
from lmgraph.evaluate import Example
from lmgraph.optimize import Lab
from lmgraph_optimizers.reflect.config import ReflectConfig
from lmgraph_optimizers.reflect.evaluations import Evaluations, Texts
from lmgraph_optimizers.reflect.feedback import Record
from lmgraph_optimizers.reflect.reflector import Reflector

Result = TypeVar("Result")
Numbered: TypeAlias = Mapping[int, str]
"""Instruction by the number of its module."""
MERGED_ROWS = 5
"""Scoring rows that gepa tries a merged candidate on before all the others."""


async def evolve(
    start: Texts, evaluations: Evaluations, reflector: Reflector, config: ReflectConfig, lab: Lab, told: Told
) -> None:
    """Let gepa improve ``start`` for ``config.steps`` steps. What it tried is in ``evaluations``, the rest in ``told``.

    Raises: BudgetExhausted and whatever else a question to the Lab raises; OptimizeError where gepa itself fails.
    """
    gepa = load_gepa()
    loop = asyncio.get_running_loop()
    bridge = _Bridge(loop)
    high = lab.task.objective.high
    # Where gepa merges it draws by scores, and cannot where they are all 0.
    lift = 1.0 - lab.task.objective.low if config.merge else 0.0
    adapter = _Adapter(gepa, tuple(start), bridge, evaluations, reflector, told, lift)

    def stop(state: Any) -> bool:
        _, best = evaluations.best()
        told.steps = state.i + 1
        message = f"step {min(told.steps + 1, config.steps)} of {config.steps}, best {best:.3f}"
        loop.call_soon_threadsafe(lab.status, message, told.steps / config.steps)
        return bridge.problem is not None or told.steps >= config.steps or best >= high

    def work() -> None:
        gepa.optimize(
            seed_candidate=dict(enumerate(start.values())),
            trainset=list(evaluations.feedback),
            valset=list(evaluations.scoring),
            adapter=adapter,
            reflection_minibatch_size=min(config.minibatch, len(evaluations.feedback)),
            perfect_score=high + lift,
            use_merge=config.merge,
            merge_val_overlap_floor=min(MERGED_ROWS, len(evaluations.scoring)),
            stop_callbacks=stop,
            logger=_Log(),
            track_best_outputs=False,
            seed=lab.rng("gepa").randrange(2**31),
        )

    thread = loop.run_in_executor(None, work)
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError as cancelled:
        bridge.close(cancelled)
        await asyncio.wait([thread])  # it ends at its next question
        raise
    except Exception as error:
        if bridge.problem is None:
            raise OptimizeError(f"gepa failed: {type(error).__name__}: {error}.") from error
    if bridge.problem is not None:  # gepa logs some errors and goes on
        raise bridge.problem


class Told:
    """What became of the steps, for the report."""

    def __init__(self) -> None:
        self.steps = 0
        self.asked = 0
        self.dropped: Counter[str] = Counter()
        """Answers without a text, by reason."""
        self.origins: list[tuple[Texts, Texts, str]] = []
        """(new texts, those they were made from, the module that was changed), in the order of the steps."""


class _Bridge:
    """From gepa's thread to the event loop and back. After the first problem nothing more is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.problem: BaseException | None = None
        self._loop = loop
        self._waiting: concurrent.futures.Future[Any] | None = None

    def ask(self, question: Coroutine[Any, Any, Result]) -> Result:
        if self.problem is not None:
            question.close()
            raise RuntimeError("The search has ended.")
        self._waiting = asyncio.run_coroutine_threadsafe(question, self._loop)
        with self.watched():
            found: Result = self._waiting.result()
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        """gepa catches some errors and asks again: with this they end the search."""
        try:
            yield
        except BaseException as problem:
            self.problem = self.problem or problem
            raise

    def close(self, problem: BaseException) -> None:
        self.problem = self.problem or problem
        if self._waiting is not None:
            self._waiting.cancel()


class _Adapter:
    """gepa's `GEPAAdapter`: candidates are instructions by module, data are rows, trajectories are records.

    gepa knows modules by their numbers: it goes through a set of them where it merges, and the order of a set of names
    is another one in each process.
    """

    def __init__(
        self,
        gepa: ModuleType,
        modules: Sequence[str],
        bridge: _Bridge,
        evaluations: Evaluations,
        reflector: Reflector,
        told: Told,
        lift: float,
    ) -> None:
        """``lift`` is added to each score that gepa is told."""
        self.told = told
        self._gepa = gepa
        self._modules = modules
        self._bridge = bridge
        self._evaluations = evaluations
        self._reflector = reflector
        self._lift = lift

    def evaluate(self, batch: Sequence[Example], candidate: Numbered, capture_traces: bool = False) -> Any:
        done = self._bridge.ask(self._evaluations.run(self._named(candidate), batch))
        scores = [score + self._lift for score, _ in done]
        trajectories = [found for _, found in done] if capture_traces else None
        return self._gepa.EvaluationBatch(outputs=scores, scores=scores, trajectories=trajectories)

    def make_reflective_dataset(
        self, candidate: Numbered, eval_batch: Any, components_to_update: Sequence[int]
    ) -> dict[int, list[Record]]:
        """Of runs that reached the module, the worst first."""
        with self._bridge.watched():
            runs = sorted(zip(eval_batch.scores, eval_batch.trajectories, strict=True), key=lambda run: run[0])
            names = {number: self._modules[number] for number in components_to_update}
            return {number: [found[name] for _, found in runs if name in found] for number, name in names.items()}

    def propose_new_texts(
        self,
        candidate: Numbered,
        reflective_dataset: Mapping[int, Sequence[Record]],
        components_to_update: Sequence[int],
    ) -> dict[int, str]:
        """Nothing for a module where no run reached it or the answer was of no use: gepa then takes the next step."""
        with self._bridge.watched():
            found = {
                number: self._reflected(self._modules[number], self._named(candidate), reflective_dataset[number])
                for number in components_to_update
            }
        return {number: text for number, text in found.items() if text is not None}

    def _named(self, candidate: Numbered) -> Texts:
        return {self._modules[number]: text for number, text in candidate.items()}

    def _reflected(self, name: str, candidate: Texts, examples: Sequence[Record]) -> str | None:
        told, number = self.told, self.told.asked
        if not examples:
            told.dropped["not asked, because no run of the minibatch reached the module"] += 1
            return None
        told.asked += 1
        known = self._evaluations.instructions(name)

        def ask() -> Awaitable[tuple[str | None, str]]:
            return self._reflector.ask(name, candidate[name], examples, known, number)

        text, problem = self._bridge.ask(self._evaluations.answer(number, ask))
        if text is None:
            told.dropped[problem] += 1
        else:
            told.origins.append(({**candidate, name: text}, dict(candidate), name))
        return text


class _Log:
    """gepa's own words: to Python's logging, which shows nothing unless it is asked to."""

    def log(self, message: str) -> None:
        logging.getLogger("lmgraph_optimizers.reflect").debug(message)


def load_gepa() -> ModuleType:
    """Raises: PluginError where it is not installed."""
    try:
        import gepa
    except ImportError as error:
        raise PluginError(
            f"The optimizer `reflect` searches with the library gepa, which does not import: {error}.",
            hint='pip install "lmgraph[optimize]"',
        ) from error
    return gepa
