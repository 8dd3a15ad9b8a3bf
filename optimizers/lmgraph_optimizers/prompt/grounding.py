"""What a proposer is told of a module: its place in the graph, its signature, the data, and what went wrong."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any

from lmgraph.evaluate import Example, Rollout
from lmgraph.graph import Graph, ModuleSpec, Ref, walk
from lmgraph_optimizers.private import holds_private
from lmgraph_optimizers.prompt.rewrites import form_of, labels_of

HIDDEN = "(private)"
REASONING = "reasoning"
"""The output that a module has which reasons first."""
LONGEST = 160
"""Characters shown of one value."""


def signature(module: ModuleSpec) -> str:
    """The module's inputs and outputs in one line."""
    inputs = [f"{field.name} ({field.description})" if field.description else field.name for field in module.inputs]
    outputs = []
    for field in module.outputs:
        parts = [part for part in (field.description, form_of(field.type)) if part]
        outputs.append(f"{field.name} ({'; '.join(parts)})" if parts else field.name)
    return f"reads {', '.join(inputs) or 'nothing'}; writes {', '.join(outputs)}"


def role(graph: Graph, flow: str, module: str) -> str:
    """Where the module stands in the flow: which step it is, what feeds it, and who reads what it writes."""
    links = _Links(graph, flow)
    modules = graph.modules_of(flow)
    feeds = sorted(links.feeds(module))
    readers = [name for name in modules if name != module and f"the step {module}" in links.feeds(name)]
    readers += links.functions_reading(module)
    if f"the step {module}" in links.results():
        readers.append("the program's result")
    parts = [f"step {modules.index(module) + 1} of {len(modules)} of the program {graph.name}"]
    if feeds:
        parts.append(f"it gets its input from {', '.join(feeds)}")
    parts.append(f"what it writes is read by {', '.join(readers) or 'conditions of the program'}")
    return "; ".join(parts)


class _Links:
    """Which calls and inputs a value comes from, through expressions, branches, loops and maps."""

    def __init__(self, graph: Graph, flow: str) -> None:
        self._regions = graph.regions_of(flow)
        self._flow = graph.flow(flow)
        self._nodes = {str(node.id): node for region in self._regions for node in walk(region)}

    def feeds(self, module: str) -> set[str]:
        """What the module's inputs come from."""
        calls = [node for node in self._nodes.values() if node.kind == "lm.call" and node.module == module]
        return self._sources(tuple(operand for call in calls for operand in call.arguments))

    def functions_reading(self, module: str) -> list[str]:
        """Functions whose arguments come from the module."""
        found = set()
        for node in self._nodes.values():
            match node.kind:
                case "fn.call" | "retrieve" | "tool.call":
                    if f"the step {module}" in self._sources(node.arguments):
                        found.add(f"the function {node.extern}")
                case _:
                    pass
        return sorted(found)

    def results(self) -> set[str]:
        """What the flow's outputs come from."""
        returned = tuple(node.results for node in walk(self._flow.body) if node.kind == "return")
        return self._sources((self._flow.body.results, returned))

    def _sources(self, part: object) -> set[str]:
        found: set[str] = set()
        self._follow(part, found, set())
        return found

    def _trace(self, value: str, found: set[str], seen: set[str]) -> None:
        if value in seen:
            return
        seen.add(value)
        name, _, result = value.partition(":")
        node = self._nodes.get(name)
        if node is None:
            above, _, last = name.rpartition("/")
            if above == self._flow.name:
                found.add(f"the input {last}")
            elif above in self._nodes:
                self._follow(self._parameter(above, value), found, seen)
            return
        match node.kind:
            case "lm.call":
                found.add(f"the step {node.module}")
            case "flow.call":
                found.add(f"the flow {node.flow}")
            case "fn.call" | "retrieve" | "tool.call":
                found.add(f"the function {node.extern}")
            case "if":
                self._follow((_named(node.then.results, result), _named(node.otherwise.results, result)), found, seen)
            case "loop":
                self._follow(self._carried(name, result), found, seen)
            case _:
                self._follow(node, found, seen)

    def _follow(self, part: object, found: set[str], seen: set[str]) -> None:
        for value in _references(part):
            self._trace(value, found, seen)

    def _parameter(self, name: str, value: str) -> object:
        """What the parameter ``value`` of a region of the node ``name`` comes from."""
        node = self._nodes[name]
        if node.kind == "map":
            return node.items
        if node.kind == "loop":
            carried = [one.parameter.field.name for one in node.carried if one.parameter.id == value]
            return tuple(self._carried(name, one) for one in carried)
        return node

    def _carried(self, name: str, result: str) -> object:
        """What the variable ``result`` of a loop may hold: before it, after a round, and where the loop is left."""
        node = self._nodes[name]
        if node.kind != "loop":
            return node
        initial = tuple(one.initial for one in node.carried if one.parameter.field.name == result)
        exits = (inner for inner in walk(node.body) if inner.kind == "exit_if" and inner.loop == node.id)
        left = tuple(_named(one.results, result) for one in exits)
        return (initial, _named(node.body.results, result), left)


def _named(operands: Sequence[Any], name: str) -> tuple[Any, ...]:
    return tuple(operand.value for operand in operands if operand.name == name)


def _references(part: object) -> Iterator[str]:
    """Ids of all values that a node, region or expression reads, those of the regions inside it included."""
    if isinstance(part, Ref):
        yield str(part.value)
    elif isinstance(part, tuple):
        for item in part:
            yield from _references(item)
    elif is_dataclass(part):
        for field in fields(part):
            yield from _references(getattr(part, field.name))


def summary(graph: Graph, data: str, rows: Sequence[Example], hidden: AbstractSet[str], *, shown: int = 2) -> str:
    """The training rows in a sentence or two: how many, how often each label, and the first ones."""
    record = graph.dataset(data).record
    parts = [f"{len(rows)} rows"]
    for field in record.fields:
        if labels_of(field.type) and field.name not in hidden:
            counts = Counter(str(row.values.get(field.name)) for row in rows).most_common(8)
            parts.append(f"{field.name} is " + ", ".join(f"{label} ({count})" for label, count in counts))
    parts += [f"for example {show(row.values, hidden)}" for row in rows[:shown]]
    return "; ".join(parts)


def mistakes(
    rollouts: Sequence[Rollout], module: str, high: float, hidden: AbstractSet[str], *, most: int = 3
) -> list[str]:
    """Calls of the module in runs that scored below the top, with what the row says; the worst runs first."""
    failed = [run for run in rollouts if not run.score.value >= high]  # also where it is no number
    failed.sort(key=lambda run: run.score.value if math.isfinite(run.score.value) else -math.inf)
    found = []
    for run in failed:
        call = next((call for call in run.trace.calls if call.module == module), None)
        if call is None:
            continue
        wrote = "nothing usable" if call.outputs is None else show(call.outputs, hidden)
        found.append(f"read {show(call.inputs, hidden)}, wrote {wrote}, the row is {show(run.example.values, hidden)}")
        if len(found) == most:
            break
    return found


def show(values: Mapping[str, Any], hidden: AbstractSet[str]) -> str:
    """Values in one short line, private ones left out."""
    shown = {}
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        shown[name] = HIDDEN if name in hidden else text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return ", ".join(f"{name} = {text!r}" for name, text in shown.items())


def private_fields(graph: Graph, data: str) -> set[str]:
    """Names of fields that may hold private values: in the rows, and in what modules read and write.

    A field that says nothing of privacy takes what it is given, and only modules on a cleared LM are given private
    values: all of their fields count.
    """
    cleared = {spec.name for spec in graph.lms if spec.clearance == "private"}
    found = {field.name for field in graph.dataset(data).record.fields if holds_private(field)}
    for module in graph.modules:
        if module.lm in cleared:
            found |= {REASONING, *(field.name for field in (*module.inputs, *module.outputs))}
        found |= {field.name for field in (*module.inputs, *module.outputs) if holds_private(field)}
    return found
