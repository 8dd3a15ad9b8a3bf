"""Two runs side by side: what both did alike, what they did differently, and what only one of them did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmgraph.runtime.trace import Call, CheckRecord, Step, Trace, key_order

_OF_RUNS = ("program", "flow", "inputs", "outputs", "failure", "settings")
_OF_CALLS = (
    "module", "lm", "engine", "model", "adapter", "template", "inputs", "prompt_ids", "temperature", "seed",
    "constrained", "completion_ids", "finish_reason", "outputs", "failure", "checks",
)  # fmt: skip
_OF_STEPS = ("kind", "name", "inputs", "output", "failure")
_OF_CHECKS = ("kind", "message", "passed", "values")


@dataclass(frozen=True, slots=True)
class Difference:
    """One call, step or check, or the run itself (``call_key`` is empty)."""

    call_key: str
    what: str
    """run, call, step or check."""
    only: int | None = None
    """0 or 1 where only the first or the second run has it."""
    values: Mapping[str, tuple[Any, Any]] | None = None
    """By field, the first run's value and the second's, where both have it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    differences: Sequence[Difference]
    """The run's own first, then in the order of call keys."""
    alike: int
    """Calls, steps and checks that are the same in both."""


def compare(first: Trace, second: Trace) -> Comparison:
    """What differs but for ids, times and where answers came from."""
    own = _values(first, second, _OF_RUNS)
    differences = [Difference("", "run", values=own)] if own else []
    alike = 0
    found: list[Difference] = []
    for what, fields, ones, others in (
        ("call", _OF_CALLS, _by_key(first.calls), _by_key(second.calls)),
        ("step", _OF_STEPS, _by_key(first.steps), _by_key(second.steps)),
        ("check", _OF_CHECKS, _by_key(first.checks), _by_key(second.checks)),
    ):
        for key in ones.keys() | others.keys():
            if key not in ones or key not in others:
                found.append(Difference(key, what, only=0 if key in ones else 1))
            elif values := _values(ones[key], others[key], fields):
                found.append(Difference(key, what, values=values))
            else:
                alike += 1
    found.sort(key=lambda one: (key_order(one.call_key), one.what))
    return Comparison([*differences, *found], alike)


def _by_key(records: Iterable[Call | Step | CheckRecord]) -> dict[str, Call | Step | CheckRecord]:
    return {one.call_key: one for one in records}


def _values(one: object, other: object, fields: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (_plain(getattr(one, name)), _plain(getattr(other, name))) for name in fields}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _plain(value: Any) -> Any:
    """Token ids may be of any kind of sequence."""
    return list(value) if isinstance(value, tuple) else value
