"""Where demos come from: calls of runs that scored well, and rows that state a module's inputs and outputs."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lmgraph.evaluate import Example, Rollout, Task
from lmgraph.graph import EnumType, Graph, LmCall, ModuleSpec, Ref, walk
from lmgraph.program import Demo

Pools = dict[str, list[Demo]]
"""Demos by module."""


def pools_data(pools: Pools) -> dict[str, list[dict[str, Any]]]:
    """JSON-ready, for checkpoints."""
    return {module: [asdict(demo) for demo in demos] for module, demos in pools.items()}


def read_pools(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> Pools:
    """What ``pools_data`` wrote."""
    return {module: [Demo(**demo) for demo in demos] for module, demos in data.items()}


def bootstrapped(rollouts: Sequence[Rollout], threshold: float, modules: Sequence[str]) -> Pools:
    """The calls of every run that scored at least ``threshold``, each with the very values it read and wrote."""
    pools: Pools = {module: [] for module in modules}
    for rollout in rollouts:
        if rollout.trace.failure is not None or rollout.score.value < threshold:
            continue
        for call in rollout.trace.calls:
            if call.module in pools and call.outputs is not None and call.retry == 0:
                demo = Demo(dict(call.inputs), dict(call.outputs), "bootstrapped", rollout.example.id)
                pools[call.module].append(demo)
    return pools


def labelled(graph: Graph, task: Task, examples: Sequence[Example], modules: Sequence[str]) -> Pools:
    """Rows as demos, for modules whose every input is a flow input and whose every output is a field of the row.

    Rows with private fields are no demos for a module on an LM that is not cleared for them.
    """
    record = graph.dataset(task.objective.data).record
    pools: Pools = {module: [] for module in modules}
    for node in walk(graph.flow(task.flow).body):
        if not isinstance(node, LmCall) or node.module not in pools or pools[node.module]:
            continue
        module = graph.module(node.module)
        direct = {
            argument.name: argument.value.value.rpartition("/")[2]
            for argument in node.arguments
            if isinstance(argument.value, Ref) and argument.value.value.startswith(f"{task.flow}/")
        }
        fields = {field.name: field for field in record.fields}
        reads_row = all(direct.get(field.name) in fields for field in module.inputs)
        stated = all(field.name in fields and fields[field.name].type == field.type for field in module.outputs)
        if not reads_row or not stated or not _may_show(graph, module, fields, direct):
            continue
        for example in examples:
            inputs = {field.name: example.values[direct[field.name]] for field in module.inputs}
            outputs = {field.name: example.values[field.name] for field in module.outputs}
            pools[node.module].append(Demo(inputs, outputs, "labelled", example.id))
    return pools


def _may_show(graph: Graph, module: ModuleSpec, fields: Mapping[str, Any], direct: Mapping[str, str]) -> bool:
    """Whether the row's fields may stand in the module's prompt: private ones only where its LM is cleared for them."""
    shown = [*(direct[field.name] for field in module.inputs), *(field.name for field in module.outputs)]
    cleared = any(spec.name == module.lm and spec.clearance == "private" for spec in graph.lms)
    return cleared or all(fields[name].label == "public" for name in shown)


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


def is_varied(pool: Sequence[Demo], module: ModuleSpec, count: int) -> bool:
    """Whether the pool shows as many different answers as ``count`` demos can, for a module with closed answers."""
    closed = [len(field.type.labels) for field in module.outputs if isinstance(field.type, EnumType)]
    if not closed:
        return True
    return len({_output_key(demo.outputs) for demo in pool}) >= min(count, *closed)


def _output_key(outputs: Mapping[str, object]) -> str:
    return json.dumps({name: value for name, value in outputs.items() if name != "reasoning"}, sort_keys=True)
