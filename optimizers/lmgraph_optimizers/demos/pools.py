"""Where demos come from: calls of runs that scored well (rows that state them: labels.py)."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lmgraph.evaluate import Example, Rollout, Task
from lmgraph.graph import (
    EnumType,
    Graph,
    ListType,
    LiteralType,
    ModuleSpec,
    OptionalType,
    RecordType,
    ScalarType,
    Type,
)
from lmgraph.program import Demo, Program
from lmgraph.runtime import Call

Pools = dict[str, list[Demo]]
"""Demos by module."""


def pools_data(pools: Pools) -> dict[str, list[dict[str, Any]]]:
    """JSON-ready, for checkpoints."""
    return {module: [asdict(demo) for demo in demos] for module, demos in pools.items()}


def read_pools(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> Pools:
    """What ``pools_data`` wrote."""
    return {module: [Demo(**demo) for demo in demos] for module, demos in data.items()}


def bootstrapped(rollouts: Sequence[Rollout], modules: Sequence[str]) -> Pools:
    """All calls that may be shown, each with the very values it read and wrote."""
    pools: Pools = {module: [] for module in modules}
    for rollout in rollouts:
        for call in shown_calls(rollout, modules):
            pools[call.module].append(as_demo(call, rollout))
    return pools


def shown_calls(rollout: Rollout, modules: Collection[str]) -> list[Call]:
    """Calls that may be shown: those of ``modules`` that gave an answer at the first try."""
    return [
        call for call in rollout.trace.calls if call.module in modules and call.outputs is not None and not call.retry
    ]


def as_demo(call: Call, rollout: Rollout) -> Demo:
    return Demo(dict(call.inputs), dict(call.outputs or {}), "bootstrapped", rollout.example.id)


def agrees(graph: Graph, task: Task, call: Call, example: Example) -> bool | None:
    """Whether what the call gave is what the row states under the same names and types; None where it states nothing.

    Answers of closed types are compared, alone or as fields of a record: a text may be right in other words. What the
    flow reads from the row is not what a module is to find.
    """
    read = {field.name for field in graph.flow(task.flow).inputs}
    record = graph.dataset(task.objective.data).record
    stated = {field.name: field.type for field in record.fields if field.name not in read}
    outputs = call.outputs or {}
    found = [
        same
        for field in graph.module(call.module).outputs
        for same in _comparisons(field.name, field.type, outputs.get(field.name), stated, example.values)
    ]
    return all(found) if found else None


def _comparisons(
    name: str, type_: Type, value: object, stated: Mapping[str, Type], values: Mapping[str, Any]
) -> list[bool]:
    kind = bare(type_)
    if name in stated and bare(stated[name]) == kind and _is_closed(kind):
        return [value == values.get(name)]
    if isinstance(kind, RecordType) and isinstance(value, Mapping):
        inner = (_comparisons(one.name, one.type, value.get(one.name), stated, values) for one in kind.fields)
        return [same for found in inner for same in found]
    return []


def bare(type_: Type) -> Type:
    """Without the `?`."""
    return type_.inner if isinstance(type_, OptionalType) else type_


def _is_closed(type_: Type) -> bool:
    """Whether equal is the same as right: no text, and no float, which may be right to some digits."""
    match type_:
        case EnumType() | LiteralType() | ScalarType("int" | "bool" | "null"):
            return True
        case ListType(element=inner) | OptionalType(inner=inner):
            return _is_closed(inner)
        case RecordType(fields=fields):
            return all(_is_closed(field.type) for field in fields)
    return False


def pick(pool: Sequence[Demo], count: int, rng: random.Random | None = None) -> tuple[Demo, ...]:
    """``count`` demos, one a row at most, spread over the different outputs there are; shuffled where ``rng`` is given.

    Runs that scored well are mostly those of the answers a model already favours; spreading counters that.
    """
    order = list(pool)
    if rng is not None:
        rng.shuffle(order)
    by_output: dict[str, list[Demo]] = {}
    seen: set[str | None] = set()
    for demo in order:
        if demo.example is None or demo.example not in seen:
            seen.add(demo.example)
            by_output.setdefault(_output_key(demo.outputs), []).append(demo)
    chosen: list[Demo] = []
    while len(chosen) < count and any(by_output.values()):
        for demos in by_output.values():
            if demos and len(chosen) < count:
                chosen.append(demos.pop(0))
    return tuple(chosen)


def rounded_off(found: Pools, stated: Pools, graph: Graph, count: int) -> Pools:
    """``found``, and of modules whose demos there show too few of their answers, those of ``stated`` that show others:
    a model that is shown one answer learns to give it."""
    pools: Pools = {}
    for name, demos in found.items():
        shown = {_output_key(demo.outputs) for demo in demos}
        is_poor = bool(demos) and not is_varied(demos, graph.module(name), count)
        others = [demo for demo in stated[name] if _output_key(demo.outputs) not in shown]
        pools[name] = [*demos, *others] if is_poor else demos
    return pools


def is_varied(pool: Sequence[Demo], module: ModuleSpec, count: int) -> bool:
    """Whether the pool shows as many different answers as ``count`` demos can, for a module with closed answers."""
    closed = [len(field.type.labels) for field in module.outputs if isinstance(field.type, EnumType)]
    if not closed:
        return True
    return len({_output_key(demo.outputs) for demo in pool}) >= min(count, *closed)


def one_sided(program: Program, modules: Sequence[str]) -> list[str]:
    """A sentence on each module whose demos all give the same one of several closed answers."""
    told = []
    for name in modules:
        demos = program.params.modules[name].demos
        if len(demos) > 1 and not is_varied(demos, program.graph.module(name), 2):
            told.append(
                f"All {len(demos)} demos of {name} give the same answer, and training may settle on it: more"
                " bootstrap_rows, more passes over them or a teacher may find others."
            )
    return told


def _output_key(outputs: Mapping[str, object]) -> str:
    return json.dumps({name: value for name, value in outputs.items() if name != "reasoning"}, sort_keys=True)
