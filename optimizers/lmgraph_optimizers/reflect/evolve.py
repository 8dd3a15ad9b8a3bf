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
from typing import Any, TypeVar

from lmgraph.errors import OptimizeError, PluginError
from lmgraph.evaluate import Example
from lmgraph.optimize import Lab
from lmgraph_optimizers.reflect.config import ReflectConfig
from lmgraph_optimizers.reflect.evaluations import Evaluations, Texts
from lmgraph_optimizers.reflect.feedback import Record
from lmgraph_optimizers.reflect.reflector import Reflector

Result = TypeVar("Result")


async def evolve(
    start: Texts, evaluations: Evaluations, reflector: Reflector, config: ReflectConfig, lab: Lab, told: Told
) -> None:
    """Let gepa improve ``start`` for ``config.steps`` steps. What it tried is in ``evaluations``, the rest in ``told``.

    Raises: BudgetExhausted and whatever else a question to the Lab raises; OptimizeError where gepa itself fails.
    """
    gepa = load_gepa()
    loop = asyncio.get_running_loop()
    bridge = _Bridge(loop)
    adapter = _Adapter(gepa, bridge, evaluations, reflector, told)
    high = lab.task.objective.high

    def stop(state: Any) -> bool:
        _, best = evaluations.best()
        told.steps = state.i + 1
        message = f"step {min(told.steps + 1, config.steps)} of {config.steps}, best {best:.3f}"
        loop.call_soon_threadsafe(lab.status, message, told.steps / config.steps)
        return bridge.problem is not None or told.steps >= config.steps or best >= high

    def work() -> None:
        gepa.optimize(
            seed_candidate=dict(start),
            trainset=list(evaluations.feedback),
            valset=list(evaluations.scoring),
            adapter=adapter,
            reflection_minibatch_size=min(config.minibatch, len(evaluations.feedback)),
            perfect_score=high,
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
    """gepa's `GEPAAdapter`: candidates are instructions by module, data are rows, trajectories are records."""

    def __init__(
        self, gepa: ModuleType, bridge: _Bridge, evaluations: Evaluations, reflector: Reflector, told: Told
    ) -> None:
        self.told = told
        self._gepa = gepa
        self._bridge = bridge
        self._evaluations = evaluations
        self._reflector = reflector

    def evaluate(self, batch: Sequence[Example], candidate: Texts, capture_traces: bool = False) -> Any:
        done = self._bridge.ask(self._evaluations.run(candidate, batch))
        scores = [score for score, _ in done]
        trajectories = [found for _, found in done] if capture_traces else None
        return self._gepa.EvaluationBatch(outputs=scores, scores=scores, trajectories=trajectories)

    def make_reflective_dataset(
        self, candidate: Texts, eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[Record]]:
        """Of runs that reached the module, the worst first."""
        with self._bridge.watched():
            runs = sorted(zip(eval_batch.scores, eval_batch.trajectories, strict=True), key=lambda run: run[0])
            return {name: [found[name] for _, found in runs if name in found] for name in components_to_update}

    def propose_new_texts(
        self,
        candidate: Texts,
        reflective_dataset: Mapping[str, Sequence[Record]],
        components_to_update: Sequence[str],
    ) -> dict[str, str]:
        """Nothing for a module where no run reached it or the answer was of no use: gepa then takes the next step."""
        with self._bridge.watched():
            found = {name: self._reflected(name, candidate, reflective_dataset[name]) for name in components_to_update}
        return {name: text for name, text in found.items() if text is not None}

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
