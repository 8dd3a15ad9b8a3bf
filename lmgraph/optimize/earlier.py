"""Runs that a study has made already: their calls answer the very same calls of other programs, and those that were
made before an interruption are not made again.

Runs of this process are kept in memory. Those of a process that was killed or stopped are read from the trace store
when their phase comes up again. Python is not answered from those: it may have been mended in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from lmgraph.errors import ConfigError
from lmgraph.evaluate.dataset import Example
from lmgraph.evaluate.rollout import RolloutPlan
from lmgraph.optimize.study import Study
from lmgraph.runtime.parse import Decoding
from lmgraph.runtime.store import TraceStore
from lmgraph.runtime.trace import Call, RunIdentity, RunSettings, Trace

Place: TypeAlias = tuple[Decoding, float | None, RunIdentity]
"""All that the seeds of a run follow from, and how it sampled."""
Interrupted: TypeAlias = Callable[[str, int], Iterable[Trace]]
"""From a phase and a step to the runs that were made of it before this process began."""


class EarlierRuns:
    """``answered`` and ``recovered`` are the counts of the study so far."""

    MOST = 24
    """Kept of one place: the first run, which is the start's, and the last ones."""

    def __init__(
        self, answered: int = 0, recovered: int = 0, interrupted: Interrupted = lambda phase, step: ()
    ) -> None:
        self.answered = answered
        """Calls that were answered by earlier runs."""
        self.recovered = recovered
        """Those of them that were made before an interruption, each once: without the record they were made again."""
        self._interrupted = interrupted
        self._read: set[tuple[str, int]] = set()
        """Phases and steps whose interrupted runs were looked for."""
        self._runs: dict[Place, list[Trace]] = {}
        self._unused: set[int] = set()
        """Hashes of calls that were made before an interruption and have not answered yet."""

    @property
    def counts(self) -> dict[str, int]:
        """JSON-ready; what the constructor takes."""
        return {"answered": self.answered, "recovered": self.recovered}

    def at(self, place: Place) -> Sequence[Trace]:
        """Runs whose calls may answer those of a run at ``place``."""
        _, _, identity = place
        if (identity.phase, identity.step) not in self._read:
            self._read.add((identity.phase, identity.step))
            for trace in self._interrupted(identity.phase, identity.step):
                self._keep(_place(trace), replace(trace, steps=[]))
                self._unused.update(_hash(_place(trace), call) for call in (*trace.calls, *trace.judged))
        return self._runs.get(place, ())

    def add(self, trace: Trace) -> None:
        """A run that was made with what `at` gave for its place."""
        place = _place(trace)
        taken = [call for call in (*trace.calls, *trace.judged) if call.source == "record"]
        self.answered += len(taken)
        used = self._unused & {_hash(place, call) for call in taken}
        self.recovered += len(used)
        self._unused -= used
        self._keep(place, trace)

    def _keep(self, place: Place, trace: Trace) -> None:
        """Where it has calls that no run before it has."""
        if any(call.source != "record" for call in (*trace.calls, *trace.judged)):
            kept = self._runs.setdefault(place, [])
            kept.append(trace)
            del kept[1 : max(1, len(kept) - self.MOST + 1)]


def interrupted_runs(study: Study, store: TraceStore | None) -> Interrupted:
    """The runs of ``study`` in the trace store since it was begun, where this process goes on with it. Where the store
    is damaged, those before that."""

    def find(phase: str, step: int) -> Iterator[Trace]:
        if study.since is not None and store is not None:
            with suppress(ConfigError):  # then calls are made again
                yield from store.traces(study.since, study=study.name, phase=phase, step=step)

    return find


def places_of(plan: RolloutPlan, examples: Sequence[Example]) -> Iterator[Place]:
    """Of each sample of each example."""
    for example in examples:
        for index in range(plan.samples):
            yield plan.decoding, plan.temperature, RunIdentity(plan.study, plan.phase, plan.step, example.id, index)


def _place(trace: Trace) -> Place:
    settings = trace.settings or RunSettings()
    return settings.decoding, settings.temperature, trace.identity


def _hash(place: Place, call: Call) -> int:
    return hash((place, call.call_key, tuple(call.prompt_ids)))
