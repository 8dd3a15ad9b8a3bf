"""Joint search over the instructions, demo sets, settings and counts of a program by multivariate TPE (Bergstra et al.,
NeurIPS 2011; Falkner et al., arXiv:1807.01774, section 3), with minibatches and periodic full evaluations as in MIPROv2
(Opsahl-Ong et al., arXiv:2406.11695).

Optuna is asked and told; it runs and stores nothing. Its study is made anew in each round, told all that is known, so a
resumed search asks for the same trials: they are replayed from remembered scores, and nothing is unpickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, takewhile
from types import ModuleType
from typing import Any

from lmgraph.errors import PluginError
from lmgraph.optimize import Lab
from lmgraph_optimizers.prompt.config import PromptConfig
from lmgraph_optimizers.prompt.scores import START, Scores
from lmgraph_optimizers.prompt.space import Choice, Space

FINALISTS = 2
"""Choices that may still be evaluated in full at the end, where they look better than the best so far."""
KEPT_SHARE = 66.0
"""Trials whose first half of a minibatch is below this upper percentile of the earlier ones are pruned."""


@dataclass(slots=True)
class Progress:
    """Where the search stands, over all rounds."""

    trials: int = 0
    pruned: int = 0
    full: int = 0
    curve: list[float] = field(default_factory=list)
    """Mean score on all rows of the best choice so far, after each full evaluation."""


class Search:
    """One search over one space."""

    def __init__(self, space: Space, scores: Scores, lab: Lab, config: PromptConfig) -> None:
        self.space = space
        self.scores = scores
        self.progress = Progress()
        self._lab = lab
        self._config = config
        self._optuna = load_optuna()

    async def round(self, number: int, trials: int) -> None:
        """``trials`` trials over the space as it is now. The start must be scored on all rows.

        Raises: BudgetExhausted; what was looked at by then counts.
        """
        optuna = self._optuna
        sizes = self.space.sizes()
        if not sizes:
            return
        distributions = {
            knob: optuna.distributions.CategoricalDistribution(list(range(n))) for knob, n in sizes.items()
        }
        with _quiet(optuna):
            study = self._study(number, trials)
            for choice in self.scores.order():
                self._tell(study, choice, distributions)
            looks = islice(self._first_looks(number), trials // 2)
            for _ in range(trials):
                if first := next(looks, None):
                    study.enqueue_trial({knob: first.get(knob, 0) for knob in sizes})
                trial = study.ask(distributions)
                choice = {knob: int(trial.params[knob]) for knob in sizes if trial.params[knob]}
                await self._trial(study, trial, choice)
                self.progress.trials += 1
                if self.progress.trials % self._config.full_every == 0:
                    best = next((one for one in self.scores.order() if not self.scores.is_full(one)), None)
                    if best is not None:
                        await self._full(best)
                        self._tell(study, best, distributions)

    async def finish(self) -> Choice:
        """The best of the choices scored on all rows, after looking at a few more. Raises: BudgetExhausted."""
        ahead = takewhile(lambda choice: not self.scores.is_full(choice), self.scores.order())
        for choice in list(ahead)[:FINALISTS]:
            await self._full(choice)
        return self.best()

    def best(self) -> Choice:
        """Of those scored on all rows; the start where nothing is better."""
        return next((choice for choice in self.scores.order() if self.scores.is_full(choice)), START)

    def _first_looks(self, number: int) -> Iterator[Choice]:
        """What a round begins with, in place of random trials: the demo sets that all modules have, then each
        instruction and setting that was never looked at, one change at a time to the best that a minibatch was seen of.
        A weak proposer's nonsense costs half a minibatch then, and TPE knows of it. Where the start answers in the
        wrong form all its rows score the same, and so would changes to its instructions alone."""
        if number == 0:
            yield from filter(None, (self.space.named_sets(name) for name in ("labelled", "bootstrapped")))
        size = min(self._config.minibatch, len(self.scores.rows))
        best = next(choice for choice in self.scores.order() if len(self.scores.seen(choice)) >= size)
        tried = {key for choice in self.scores.choices.values() for key in choice.items()}
        sizes = {knob: size for knob, size in self.space.sizes().items() if not knob.endswith(".demos")}
        options = [(index, knob) for knob, size in sizes.items() for index in range(1, size)]
        yield from ({**best, knob: index} for index, knob in sorted(options) if (knob, index) not in tried)

    def _study(self, number: int, trials: int) -> Any:
        optuna = self._optuna
        sampler = optuna.samplers.TPESampler(
            seed=self._lab.rng("tpe", number).randrange(2**31),
            multivariate=True,
            n_startup_trials=max(4, min(10, trials // 3)),
        )
        pruner = optuna.pruners.PercentilePruner(KEPT_SHARE, n_startup_trials=4)
        return optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)

    def _tell(self, study: Any, choice: Choice, distributions: dict[str, Any]) -> None:
        """What is known of a choice from elsewhere."""
        params = {knob: choice.get(knob, 0) for knob in distributions}
        value = self.scores.gain(choice)
        study.add_trial(self._optuna.trial.create_trial(params=params, distributions=distributions, value=value))

    async def _trial(self, study: Any, trial: Any, choice: Choice) -> None:
        """Score a choice on a minibatch of rows it was not seen on, in two halves; a bad first half ends it."""
        optuna, scores, progress = self._optuna, self.scores, self.progress
        is_new = not scores.seen(choice)
        rows = self._minibatch(choice)
        half = len(rows) // 2 if is_new and len(rows) >= 4 else 0
        self._lab.status(
            f"trial {progress.trials + 1}, best {scores.mean(self.best()):.3f}",
            progress.trials / self._config.trials,
        )
        if half:
            await scores.look(choice, rows[:half])
            trial.report(scores.gain(choice), 0)
            if trial.should_prune():
                progress.pruned += 1
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return
        await scores.look(choice, rows[half:])
        study.tell(trial, scores.gain(choice))

    def _minibatch(self, choice: Choice) -> list[int]:
        """The same rows for all trials between two full evaluations; for a choice seen on them already, its next."""
        count, size = len(self.scores.rows), min(self._config.minibatch, len(self.scores.rows))
        begin = self.progress.trials // self._config.full_every * size
        seen = self.scores.seen(choice)
        window = [(begin + offset) % count for offset in range(size)]
        fresh = [position for position in window if position not in seen]
        return fresh or [position for position in range(count) if position not in seen][:size]

    async def _full(self, choice: Choice) -> None:
        self._lab.status(f"all {len(self.scores.rows)} rows: {self.space.told(choice)}"[:100], None)
        await self.scores.look(choice, range(len(self.scores.rows)))
        self.progress.full += 1
        score = self.scores.mean(choice)
        self._lab.log("full evaluation", choice=dict(choice), told=self.space.told(choice), score=score)
        if self.progress.curve is not None:
            self.progress.curve.append(self.scores.mean(self.best()))


def load_optuna() -> ModuleType:
    """Raises: PluginError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise PluginError(
            f"The optimizer `prompt` searches with Optuna, which does not import: {error}.",
            hint='pip install "lmgraph[optimize]"',
        ) from error
    return optuna


@contextmanager
def _quiet(optuna: ModuleType) -> Iterator[None]:
    """Optuna neither logs to standard error nor warns of its experimental parts meanwhile."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
