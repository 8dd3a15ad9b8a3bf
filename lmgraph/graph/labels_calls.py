"""Information flow at calls: what models and Python are given, what they may see, and what they give back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lmgraph.graph.certain import Certain
from lmgraph.graph.effects import acts, holding
from lmgraph.graph.graph import DEFAULT_LM, Graph
from lmgraph.graph.labels import PUBLIC, Declared, Origin, Shape, Taint, declared, join, under
from lmgraph.graph.labels_expressions import ExpressionLabels
from lmgraph.graph.labels_found import IN, OUT, Found, Leak
from lmgraph.graph.nodes import ExternCall, LmCall, Operand
from lmgraph.graph.types import Field

_NOTHING = declared("", Origin("binding", ""))
"""Stands where a taint is filled in later."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a body is run."""

    caught: bool = False
    """Whether the run goes on where something fails here."""
    metric: bool = False
    """Whether a metric runs it."""
    judge: str | None = None
    """The LM that modules without one are asked by; None where that is the default one."""

    def where_caught(self) -> Setting:
        """The same, where the run goes on after a failure."""
        return self if self.caught else replace(self, caught=True)


PLAIN = Setting()
"""Where a flow is run by itself."""


class Shared:
    """What is known of a graph wherever one of its bodies is looked at. What is found goes to ``found``."""

    def __init__(self, graph: Graph, types: Declared, found: Found) -> None:
        self.types = types
        self.found = found
        self.records = {record.name: record for record in graph.records}
        self.flows = {flow.name: flow for flow in graph.flows}
        self.modules = {module.name: module for module in graph.modules}
        self.externs = {extern.name: extern for extern in graph.externs}
        self.lms = {lm.name: lm for lm in graph.lms}
        self.certain = Certain(graph)
        self.acting = holding(graph, acts)


class CallLabels:
    """Labels of the calls of one body."""

    def __init__(self, shared: Shared, labels: ExpressionLabels) -> None:
        self._shared = shared
        self._labels = labels

    def _arguments(self, arguments: Sequence[Operand], inputs: Sequence[Field], owner: str) -> dict[str, Shape]:
        """The labels of each argument, with what the signature says of it."""
        types = self._shared.types
        return {
            operand.name: join(self._labels.of(operand.value), types.field(field, "input", owner))
            for operand, field in zip(arguments, inputs, strict=True)
        }

    def lm(self, node: LmCall, control: Taint | None, setting: Setting) -> Shape:
        """What the model may write."""
        shared = self._shared
        module = shared.modules[node.module]
        judge = setting.judge
        lm = shared.lms[judge if module.lm == DEFAULT_LM and judge is not None else module.lm]
        arguments = self._arguments(node.arguments, module.inputs, module.derived_from or module.name)
        # What a derived module writes is what its model writes: labels of the tools' inputs are for what goes there.
        stated = shared.types.fields(module.outputs, "output", module.name) if module.derived_from is None else PUBLIC
        given = _given(arguments, stated)
        shared.found.held(f"module {module.name}", IN, arguments)
        shared.found.held(f"module {module.name}", OUT, {one.name: given.field(one.name) for one in module.outputs})
        if lm.clearance == "public":
            leak = Leak("judge" if setting.metric else "lm", node.id, module.name, None, _NOTHING, lm.name)
            leaked = self._refuse(leak, arguments, control)
            for name, shape in stated.fields.items():
                if (taint := shape.any()) is not None:
                    shared.found.leak(replace(leak, kind="output", field=name, taint=taint))
            if leaked:
                return stated
        elif given.any() is None:
            shared.found.gives_public.add(module.name)
        shared.found.received("module", module.name, arguments, lm.name)
        return given

    def extern(self, node: ExternCall, control: Taint | None) -> Shape:
        """What the Python may give back."""
        shared = self._shared
        extern = shared.externs[node.extern]
        arguments = self._arguments(node.arguments, extern.inputs, extern.name)
        stated = shared.types.type(extern.result)
        if extern.label == "private":
            stated = under(stated, declared(extern.name, Origin("result", extern.name)))
        given = _given(arguments, stated)
        shared.found.held(f"extern {extern.name}", IN, arguments)
        shared.found.held(f"extern {extern.name}", OUT, {"": given})
        # An fn is pure: what it is given goes nowhere but into its result.
        if extern.kind != "fn" and extern.clearance == "public":
            leak = Leak("extern", node.id, extern.name, None, _NOTHING)
            if self._refuse(leak, arguments, control):
                return stated
        shared.found.received(extern.kind, extern.name, arguments, None)
        return given

    def _refuse(self, leak: Leak, arguments: Mapping[str, Shape], control: Taint | None) -> bool:
        """Whether a private value reaches a call that may not see it. What decides that the call is made is told where
        no value is."""
        found = [(name, taint) for name, shape in arguments.items() if (taint := shape.any()) is not None]
        for name, taint in found:
            self._shared.found.leak(replace(leak, field=name, taint=taint))
        if not found and control is not None:
            self._shared.found.leak(replace(leak, taint=control))
        return bool(found)


def _given(arguments: Mapping[str, Shape], stated: Shape) -> Shape:
    """What a call gives that depends on all its arguments."""
    return under(stated, *(shape.any() for shape in arguments.values()))
