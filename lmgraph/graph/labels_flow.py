"""Information flow inside flows: which values are private, and where one reaches what may not see it.

Private is what stands behind `private` in the program, what is computed from it, and what happens because of it: a call
under a private condition, after a private exit, or for each element of a list whose length is private. Only a release
makes a value public again. A loop is looked at until its labels stay as they are. A flow is looked at anew for each
combination of labels that its inputs have, so a flow without labels serves private and public values alike.

Not told apart: whether something that failed for a private reason kept later calls from being made. What a `catch` does
instead is under control of the failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lmgraph.graph.graph import DEFAULT_LM, Graph
from lmgraph.graph.labels import (
    PUBLIC,
    Declared,
    Origin,
    Shape,
    Signature,
    Taint,
    at,
    declared,
    join,
    make_list,
    make_record,
    mapped,
    signature,
    then,
    under,
)
from lmgraph.graph.labels_expressions import ExpressionLabels
from lmgraph.graph.labels_found import IN, OUT, Found, Leak
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
    ExitIf,
    ExprNode,
    ExternCall,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    NodeId,
    Operand,
    Region,
    ReleaseNode,
    Return,
    ValueId,
)
from lmgraph.graph.types import Field
from lmgraph.graph.walk import values_of

MOST_CONTEXTS = 32
"""Combinations of labels that one flow is looked at for; in place of more all its inputs count as private."""


_NOTHING = declared("", Origin("binding", ""))
"""Stands where a taint is filled in later."""


@dataclass(frozen=True, slots=True)
class FlowResult:
    outputs: Shape
    private: Taint | None
    """The first private thing that was read: the flow may fail, or take its time, because of it."""


@dataclass(frozen=True, slots=True)
class _Left:
    """Private conditions under which control may have gone elsewhere before."""

    returned: Taint | None = None
    stopped: Taint | None = None

    @property
    def taint(self) -> Taint | None:
        return self.returned or self.stopped

    def joined(self, other: _Left) -> _Left:
        return _Left(self.returned or other.returned, self.stopped or other.stopped)


class FlowLabels:
    """Labels of all flows of a graph. What is found on the way goes to ``found``."""

    def __init__(self, graph: Graph, types: Declared, found: Found) -> None:
        self.graph = graph
        self.types = types
        self.found = found
        self.records = {record.name: record for record in graph.records}
        self.flows = {flow.name: flow for flow in graph.flows}
        self.modules = {module.name: module for module in graph.modules}
        self.externs = {extern.name: extern for extern in graph.externs}
        self.lms = {lm.name: lm for lm in graph.lms}
        self._results: dict[str, dict[tuple[Signature, ...], FlowResult]] = {}

    def flow(self, name: str, arguments: Mapping[str, Shape], control: Taint | None) -> FlowResult:
        """What becomes of a call of the flow with such arguments, under a private condition or none."""
        flow = self.flows[name]
        known = self._results.setdefault(name, {})
        given = {one.name: arguments.get(one.name, PUBLIC) for one in flow.inputs}
        key: tuple[Signature, ...] = (control is not None, *(signature(shape) for shape in given.values()))
        if key not in known:
            if len(known) >= MOST_CONTEXTS:
                cause = next((found for one in given.values() if (found := one.any())), control)
                key = (cause is not None, *(cause is not None for _ in given))
                given = {name: under(PUBLIC, cause) for name in given}
                control = cause
            if key not in known:
                known[key] = _Body(self).run(flow.name, flow.body, flow.outputs, given, control)
        return known[key]

    def region(self, name: str, region: Region, given: Mapping[str, Shape], judge: str | None = None) -> None:
        """Looks at a body that is no flow's: of a metric, whose modules may be asked by the LM ``judge``."""
        _Body(self, judge, in_metric=True).run(name, region, (), given, None)


class _Body:
    """Looks at one body once."""

    def __init__(self, program: FlowLabels, judge: str | None = None, *, in_metric: bool = False) -> None:
        self._program = program
        self._judge = judge
        self._in_metric = in_metric
        self._labels = ExpressionLabels(program.records, program.types)
        self._left = _Left()
        self._returned: dict[str, Shape] = {}
        self._exits: dict[NodeId, list[Shape]] = {}

    def run(
        self, name: str, body: Region, outputs: Sequence[Field], given: Mapping[str, Shape], control: Taint | None
    ) -> FlowResult:
        types = self._program.types
        for parameter in body.parameters:
            shape = at(given.get(parameter.field.name, PUBLIC), parameter.id)
            shape = join(types.field(parameter.field, "input", name), shape)
            if shape is not PUBLIC:
                self._labels.values[parameter.id] = shape
        if control is not None:
            control = then(control, name, "decides")
        if not self._in_metric:
            parameters = {one.field.name: self._labels.values.get(one.id, PUBLIC) for one in body.parameters}
            self._program.found.held(f"flow {name}", IN, parameters)
        results = self._region(body, control)
        shapes: dict[str, Shape] = {}
        for operand, result in zip(body.results, results, strict=True):
            ended = under(result, self._left.returned)
            shapes[operand.name] = join(ended, self._returned.get(operand.name, PUBLIC))
        for field in outputs:
            shapes[field.name] = join(types.field(field, "output", name), shapes[field.name])
        if not self._in_metric:
            self._program.found.held(f"flow {name}", OUT, shapes)
        return FlowResult(make_record(shapes), self._labels.seen or control)

    # -- regions -----------------------------------------------------------------------------------------------------

    def _region(self, region: Region, control: Taint | None) -> list[Shape]:
        for node in region.nodes:
            self._node(node, control or self._left.taint)
        return [self._labels.of(result.value) for result in region.results]

    def _node(self, node: Node, control: Taint | None) -> None:
        labels = self._labels
        before, labels.seen = labels.seen, None
        shapes = self._shapes(node, control)
        for value, shape in zip(values_of(node), shapes, strict=True):
            if shape is not PUBLIC:
                labels.values[value] = at(shape, value)
            else:
                labels.values.pop(value, None)
            if labels.seen is not None:
                labels.failing[value] = labels.seen
        labels.seen = before or labels.seen

    def _shapes(self, node: Node, control: Taint | None) -> Sequence[Shape]:
        """The labels of the values that the node gives."""
        labels = self._labels
        match node:
            case ExprNode(expression=expression):
                shape = labels.of(expression)
                if node.label == "private":
                    shape = under(shape, declared(node.id, Origin("binding", node.id)))
                return [shape]
            case ReleaseNode(expression=expression):
                self._program.found.release(node, labels.of(expression).any() or control)
                labels.seen = None
                return [PUBLIC]
            case CheckNode(condition=condition):
                return [labels.of(condition)]
            case LmCall():
                return [self._lm_call(node, control)]
            case ExternCall():
                return [self._extern_call(node, control)]
            case FlowCall():
                return [self._flow_call(node, control)]
            case MapNode():
                return [self._map(node, control)]
            case IfNode():
                return self._if(node, control)
            case LoopNode():
                return self._loop(node, control)
            case CatchNode():
                return [self._catch(node, control)]
            case ExitIf(condition=condition, results=results, loop=loop):
                decided = control or self._decides(labels.of(condition).any(), node.id)
                self._left = _Left(self._left.returned, self._left.stopped or decided)
                values = [labels.of(result.value) for result in results]
                known = self._exits.get(loop)
                self._exits[loop] = values if known is None else list(map(join, known, values))
                return []
            case Return(results=results):
                for result in results:
                    shape = under(labels.of(result.value), control)
                    self._returned[result.name] = join(self._returned.get(result.name, PUBLIC), shape)
                self._left = _Left(self._left.returned or control, self._left.stopped)
                return []

    def _decides(self, taint: Taint | None, id: NodeId) -> Taint | None:
        return None if taint is None else then(taint, f"{id}?", "decides")

    def _map(self, node: MapNode, control: Taint | None) -> Shape:
        labels = self._labels
        items = labels.of(node.items)
        labels.values[node.element.id] = at(items.element(), node.element.id)
        inside = control or self._decides(items.own, node.id)
        kept: Taint | None = None
        if node.condition is not None:
            (condition,) = self._region(node.condition, inside)
            kept = self._decides(condition.any(), node.id)
        (body,) = self._region(node.body, inside or kept)
        return under(make_list(body), items.own, kept)

    def _if(self, node: IfNode, control: Taint | None) -> list[Shape]:
        decided = self._decides(self._labels.of(node.condition).any(), node.id)
        start = self._left
        first = self._region(node.then, control or decided)
        after_first, self._left = self._left, start
        second = self._region(node.otherwise, control or decided)
        self._left = self._left.joined(after_first)
        if not node.results:
            return []
        return [under(join(one, other), decided) for one, other in zip(first, second, strict=True)]

    def _loop(self, node: LoopNode, control: Taint | None) -> list[Shape]:
        carried = [self._labels.of(one.initial) for one in node.carried]
        outside = self._left
        self._left = _Left(outside.returned, None)
        self._exits.pop(node.id, None)
        while True:
            for one, shape in zip(node.carried, carried, strict=True):
                self._labels.values[one.parameter.id] = shape
            before = ([signature(one) for one in carried], self._left.returned is None, self._left.stopped is None)
            inside = control or outside.stopped
            carried = list(map(join, carried, self._region(node.body, inside)))
            if before == ([signature(one) for one in carried], self._left.returned is None, self._left.stopped is None):
                break
        stopped = self._left.stopped
        self._left = _Left(self._left.returned, outside.stopped)
        ended = self._exits.pop(node.id, None) or [PUBLIC] * len(carried)
        return [under(join(one, other), stopped) for one, other in zip(carried, ended, strict=True)]

    def _catch(self, node: CatchNode, control: Taint | None) -> Shape:
        labels = self._labels
        (tried,) = self._region(node.body, control)
        failing = self._decides(labels.seen, node.id)
        if node.message is not None:
            labels.values[node.message.id] = under(PUBLIC, failing)
        (instead,) = self._region(node.fallback, control or failing)
        return under(join(tried, instead), failing)

    # -- calls -------------------------------------------------------------------------------------------------------

    def _arguments(self, arguments: Sequence[Operand], inputs: Sequence[Field], owner: str) -> dict[str, Shape]:
        """The labels of each argument, with what the signature says of it."""
        types = self._program.types
        return {
            operand.name: join(self._labels.of(operand.value), types.field(field, "input", owner))
            for operand, field in zip(arguments, inputs, strict=True)
        }

    def _lm_call(self, node: LmCall, control: Taint | None) -> Shape:
        program = self._program
        module = program.modules[node.module]
        lm = program.lms[self._judge if module.lm == DEFAULT_LM and self._judge is not None else module.lm]
        arguments = self._arguments(node.arguments, module.inputs, module.derived_from or module.name)
        # What a derived module writes is what its model writes: labels of the tools' inputs are for what goes there.
        stated = program.types.fields(module.outputs, "output", module.name) if module.derived_from is None else PUBLIC
        given = _given(arguments, stated)
        program.found.held(f"module {module.name}", IN, arguments)
        program.found.held(f"module {module.name}", OUT, {one.name: given.field(one.name) for one in module.outputs})
        if lm.clearance == "public":
            leak = Leak("judge" if self._in_metric else "lm", node.id, module.name, None, _NOTHING, lm.name)
            leaked = self._refuse(leak, arguments, control)
            for name, shape in stated.fields.items():
                if (taint := shape.any()) is not None:
                    program.found.leak(replace(leak, kind="output", field=name, taint=taint))
            if leaked:
                return stated
        program.found.received("module", module.name, arguments, lm.name)
        return given

    def _extern_call(self, node: ExternCall, control: Taint | None) -> Shape:
        program = self._program
        extern = program.externs[node.extern]
        arguments = self._arguments(node.arguments, extern.inputs, extern.name)
        stated = program.types.type(extern.result)
        if extern.label == "private":
            stated = under(stated, declared(extern.name, Origin("result", extern.name)))
        given = _given(arguments, stated)
        program.found.held(f"extern {extern.name}", IN, arguments)
        program.found.held(f"extern {extern.name}", OUT, {"": given})
        # An fn is pure: what it is given goes nowhere but into its result.
        if extern.kind != "fn" and extern.clearance == "public":
            leak = Leak("extern", node.id, extern.name, None, _NOTHING)
            if self._refuse(leak, arguments, control):
                return stated
        program.found.received(extern.kind, extern.name, arguments, None)
        return given

    def _refuse(self, leak: Leak, arguments: Mapping[str, Shape], control: Taint | None) -> bool:
        """Whether a private value reaches a call that may not see it. What decides that the call is made is told where
        no value is."""
        found = [(name, taint) for name, shape in arguments.items() if (taint := shape.any()) is not None]
        for name, taint in found:
            self._program.found.leak(replace(leak, field=name, taint=taint))
        if not found and control is not None:
            self._program.found.leak(replace(leak, taint=control))
        return bool(found)

    def _flow_call(self, node: FlowCall, control: Taint | None) -> Shape:
        flow = self._program.flows[node.flow]
        arguments = {one.name: at(self._labels.of(one.value), f"{node.id}({one.name})") for one in node.arguments}
        result = self._program.flow(flow.name, arguments, control)
        inside = {parameter.id: parameter.field.name for parameter in flow.body.parameters}

        def here(taint: Taint) -> Taint:
            """The way of a value that came in through an argument goes by the arguments of this very call: what is
            known of the flow may be from another one."""
            step: Taint | None = taint
            while step is not None:
                name = inside.get(ValueId(step.place))
                if name is not None and step.how != "declared" and (own := arguments[name].any()) is not None:
                    return then(own, node.id)
                if step.place == flow.name and step.how == "decides" and control is not None:
                    return then(control, node.id)
                step = step.before
            return then(taint, node.id)

        if result.private is not None and self._labels.seen is None:
            self._labels.seen = here(result.private)
        return mapped(result.outputs, here)


def _given(arguments: Mapping[str, Shape], stated: Shape) -> Shape:
    """What a call gives that depends on all its arguments."""
    return under(stated, *(shape.any() for shape in arguments.values()))
