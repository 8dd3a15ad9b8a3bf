"""Demos that rows state. The flow runs on a row with every module answered by what the row says that it should give, so
that modules behind others are shown the inputs that right answers lead to. No model is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lmgraph.errors import DataError
from lmgraph.evaluate import Example, Task
from lmgraph.graph import (
    Expr,
    ExprNode,
    GetField,
    Graph,
    ListType,
    LmCall,
    MapNode,
    ModuleSpec,
    Node,
    OptionalType,
    RecordType,
    Ref,
    Type,
    walk,
)
from lmgraph.program import Demo, Program
from lmgraph.runtime import RunOptions, Runtime
from lmgraph_optimizers.demos.pools import Pools, bare
from lmgraph_optimizers.private import holds_private

STATED_ROWS = 256
"""Rows that are looked at for what they state: no model is asked, so it may be more than are run."""

AT_ONCE = 32
"""Rows that run beside one another: Python and retrievers of the flow are really called."""

Path: TypeAlias = tuple[str, ...]
"""A module, one of its outputs, and fields inside it."""


@dataclass(frozen=True, slots=True)
class Stated:
    """An answer is the value of a row's field, or, of a module that is called for each element of a list, the element
    of this field at the call's place."""

    field: str
    each: bool
    nullable: bool
    """Whether null is an answer; a row whose value is null states none otherwise."""


Answer: TypeAlias = "Stated | dict[str, Answer]"
"""By field where each field of a record is stated."""


class _NotStatedError(Exception):
    """The row does not say what the call should give."""


async def labelled(program: Program, task: Task, examples: Sequence[Example], modules: Sequence[str]) -> Pools:
    """Demos of ``modules`` from rows, in their order: the inputs that the module gets where all before it give what the
    row states, and what the row states of it.

    A row states an output that the flow returns under the name of one of its fields, as it is or collected by a map,
    and one that has the name of a field; both of the same type. Records are stated field by field. What the flow reads
    is not what a module is to find. A row whose answers do not lead to the outputs that it states gives no demos. Rows
    with private fields give none for a module on an LM that is not cleared for them.
    """
    pools: Pools = {module: [] for module in modules}
    answers = answers_of(program.graph, task)
    shown = [name for name in modules if name in answers and _may_show(program.graph, task, name, answers)]
    if shown:
        async with Runtime() as runtime:
            for start in range(0, len(examples), AT_ONCE):
                some = examples[start : start + AT_ONCE]
                found = await asyncio.gather(*(_demos_of(program, task, one, answers, runtime) for one in some))
                for name, demo in (pair for demos in found for pair in demos):
                    if name in shown:
                        pools[name].append(demo)
                if not any(found):  # what is stated stands behind what is not: Python is called for nothing
                    break
    return pools


def labelled_note(pools: Pools) -> list[str]:
    """A sentence on how many demos rows state, where they state any."""
    told = ", ".join(f"{name} {len(demos)}" for name, demos in pools.items() if demos)
    return [f"Rows state demos: {told}."] if told else []


def answers_of(graph: Graph, task: Task) -> dict[str, dict[str, Answer]]:
    """By module of the flow and by output, where a row states it; modules of which a row states every output."""
    read = {field.name for field in graph.flow(task.flow).inputs}
    fields = {field.name: field.type for field in _row(graph, task).fields if field.name not in read}
    returned = _returned(graph, task, fields)
    found: dict[str, dict[str, Answer]] = {}
    for name in graph.modules_of(task.flow):
        outputs = {
            one.name: _answer((name, one.name), one.type, fields, returned) for one in graph.module(name).outputs
        }
        stated = {output: answer for output, answer in outputs.items() if answer is not None}
        if outputs and len(stated) == len(outputs):
            found[name] = stated
    return found


def _answer(
    path: Path, type_: Type, fields: Mapping[str, Type], returned: Mapping[Path, tuple[str, bool]]
) -> Answer | None:
    nullable = isinstance(type_, OptionalType)
    if path in returned:
        field, each = returned[path]
        there = bare(fields[field])
        if bare(there.element if each and isinstance(there, ListType) else there) == bare(type_):
            return Stated(field, each, nullable)
    if path[-1] in fields and bare(fields[path[-1]]) == bare(type_):
        return Stated(path[-1], False, nullable)
    if isinstance(type_, RecordType):
        parts = {one.name: _answer((*path, one.name), one.type, fields, returned) for one in type_.fields}
        stated = {name: part for name, part in parts.items() if part is not None}
        return stated if parts and len(stated) == len(parts) else None
    return None


def _returned(graph: Graph, task: Task, fields: Mapping[str, Type]) -> dict[Path, tuple[str, bool]]:
    """What the flow returns of a module as it is, as the row's field of that name: (field, whether an element of it).
    Of modules that are called at one place, so that it is known which of their calls it is."""
    body = graph.flow(task.flow).body
    places = Counter(node.module for flow in graph.flows for node in walk(flow.body) if isinstance(node, LmCall))
    found: dict[Path, tuple[str, bool]] = {}
    for result in body.results:
        if result.name not in fields:
            continue
        path, each = _origin(result.value, body.nodes)
        if path and places[path[0]] == 1:
            found[path] = (result.name, each)
    return found


def _origin(expression: Expr, nodes: Sequence[Node]) -> tuple[Path, bool]:
    """Which part of which module's outputs this is, and whether it is a list of one from each call; () for others."""
    if isinstance(expression, GetField):
        path, each = _origin(expression.base, nodes)
        return ((*path, expression.name), each) if path and not each else ((), False)
    if not isinstance(expression, Ref):
        return (), False
    match next((node for node in nodes if str(node.id) == expression.value), None):
        case LmCall(module=module):
            return (module,), False
        case ExprNode(expression=inner):
            return _origin(inner, nodes)
        case MapNode(body=body):
            path, each = _origin(body.results[0].value, body.nodes)
            return (path, True) if path and not each else ((), False)
    return (), False


async def _demos_of(
    program: Program, task: Task, example: Example, answers: Mapping[str, Mapping[str, Answer]], runtime: Runtime
) -> list[tuple[str, Demo]]:
    """By module, in the order of the calls."""
    demos: list[tuple[str, Demo]] = []
    calls: Counter[str] = Counter()
    missing = False

    def stand_in(name: str) -> Any:
        def give(inputs: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal missing
            place, calls[name] = calls[name], calls[name] + 1
            try:
                if name not in answers:
                    raise _NotStatedError
                outputs = {output: _value(answer, example, place) for output, answer in answers[name].items()}
            except _NotStatedError:
                missing = True
                raise
            demos.append((name, Demo(dict(inputs), outputs, "labelled", example.id)))
            return outputs

        return give

    def stay_still(inputs: Mapping[str, Any]) -> Any:
        raise _NotStatedError

    graph = program.graph
    stubs = {name: stand_in(name) for name in graph.modules_of(task.flow)}
    stubs |= {extern.name: stay_still for extern in graph.externs if extern.kind == "tool"}
    options = RunOptions(stubs=stubs, one_at_a_time=True)
    try:
        trace = await runtime.run(program, task.inputs(program, example), flow=task.flow, options=options)
    except DataError:  # what the row states does not meet the module's constraints
        return []
    if trace.failure is not None:  # it went as far as the row states answers
        return demos
    stated = {field.name: bare(field.type) for field in _row(graph, task).fields}
    outputs = trace.outputs or {}
    same = all(
        outputs[field.name] == example.values[field.name]
        for field in graph.flow(task.flow).outputs
        if field.name in stated and stated[field.name] == bare(field.type)
    )
    return demos if same and not missing else []


def _value(answer: Answer, example: Example, place: int) -> Any:
    if isinstance(answer, dict):
        return {name: _value(part, example, place) for name, part in answer.items()}
    value = example.values[answer.field]
    if answer.each:
        if value is None or place >= len(value):
            raise _NotStatedError
        value = value[place]
    if value is None and not answer.nullable:
        raise _NotStatedError
    return value


def _may_show(graph: Graph, task: Task, name: str, answers: Mapping[str, Mapping[str, Answer]]) -> bool:
    """Whether the values may stand in the module's prompt: private ones only where its LM is cleared for them. What a
    module behind others reads may come from whatever the flow reads and the row states."""
    module = graph.module(name)
    if any(spec.name == module.lm and spec.clearance == "private" for spec in graph.lms):
        return True
    private = {field.name for field in _row(graph, task).fields if holds_private(field)}
    direct = _direct(graph, task, module)
    if direct is None:
        sources = {field.name for field in graph.flow(task.flow).inputs}
        sources |= {field for outputs in answers.values() for field in _fields_of(dict(outputs))}
    else:
        sources = direct | _fields_of(dict(answers[name]))
    return private.isdisjoint(sources)


def _direct(graph: Graph, task: Task, module: ModuleSpec) -> set[str] | None:
    """The flow's inputs that the module reads, where every call of it reads those alone; None elsewhere."""
    own = {field.name for field in graph.flow(task.flow).inputs}
    read: set[str] = set()
    for flow in graph.flows:
        for node in walk(flow.body):
            if not isinstance(node, LmCall) or node.module != module.name:
                continue
            for argument in node.arguments:
                place, _, field = argument.value.value.partition("/") if isinstance(argument.value, Ref) else ("",) * 3
                if place != task.flow or field not in own:
                    return None
                read.add(field)
    return read


def _fields_of(answer: Answer) -> set[str]:
    if isinstance(answer, Stated):
        return {answer.field}
    return {field for part in answer.values() for field in _fields_of(part)}


def _row(graph: Graph, task: Task) -> RecordType:
    return graph.dataset(task.objective.data).record
