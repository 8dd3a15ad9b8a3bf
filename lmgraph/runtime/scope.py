"""Values of a run by id, some of which are Failures: reading one fails with it, the first cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmgraph.program.expressions import NoValue
from lmgraph.runtime.plan import Planned, PlannedOperand
from lmgraph.runtime.trace import Failure


class _Poisoned(Exception):
    """An expression read a value that failed."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class _Guarded(dict[str, Any]):
    """A scope in which reading a failed value raises."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if type(value) is Failure:
            raise _Poisoned(value)
        return value


def evaluate(operand: PlannedOperand, scope: Mapping[str, Any], node: str, key: str, local: str = "") -> Any:
    """The operand's value, the Failure that it read, or a Failure of its own under ``key/local``."""
    for value_id in operand.reads:
        if type(scope[value_id]) is Failure:
            scope = _Guarded(scope)  # a side that is not chosen is not read: slower, and only where something failed
            break
    try:
        return operand.evaluate(scope)
    except NoValue as problem:
        return Failure("value", str(problem), node, f"{key}/{local}" if local else key)
    except _Poisoned as poison:
        return poison.failure


def arguments(
    operands: Sequence[PlannedOperand], scope: Mapping[str, Any], node: str, key: str
) -> dict[str, Any] | Failure:
    inputs = {}
    for operand in operands:
        value = evaluate(operand, scope, node, key)
        if type(value) is Failure:
            return value
        inputs[operand.name] = value
    return inputs


def store(scope: dict[str, Any], node: Planned, value: Any) -> None:
    if node.gives is None:
        scope[node.id] = value
    elif type(value) is Failure:
        scope.update(dict.fromkeys(node.gives, value))
    elif node.gives:
        scope.update(zip(node.gives, value, strict=True))
