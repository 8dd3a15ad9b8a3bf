"""Information flow inside flows: which values are private, and where one reaches what may not see it.

Private is what stands behind `private` in the program, what is computed from it, and what happens because of it: a call
under a private condition, after a private exit, or for each element of a list whose length is private. Only a release
makes a value public again. A loop is looked at until its labels stay as they are. A flow is looked at anew for each
combination of labels that its inputs have, so a flow without labels serves private and public values alike.

Where something fails for a private reason, calls that wait for it are not made. That is left alone where the run does
not complete either. Where it goes on, inside a `catch` or because nothing needs what is missing, it is control like any
other: of what reads the value, of what acts behind a false assert, and of what the `catch` does instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmgraph.graph.graph import Graph
from lmgraph.graph.labels import (
    PUBLIC,
    Declared,
    Origin,
    Shape,
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
from lmgraph.graph.labels_calls import PLAIN, CallLabels, Setting, Shared
from lmgraph.graph.labels_ends import Ended, FlowResult, Left, Round, first_of
from lmgraph.graph.labels_expressions import ExpressionLabels
from lmgraph.graph.labels_found import IN, OUT, Found
from lmgraph.graph.needed import needed_nodes
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
from lmgraph.graph.walk import inner_regions, leaves, own_expressions, values_of

MOST_CONTEXTS = 32
"""Combinations of labels that one flow is looked at for; in place of more all its inputs count as private."""


class FlowLabels(Shared):
    """Labels of all flows of a graph. What is found on the way goes to ``found``."""

    def __init__(self, graph: Graph, types: Declared, found: Found) -> None:
        super().__init__(graph, types, found)
        self._results: dict[str, dict[tuple[object, ...], FlowResult]] = {}
        self._needed: dict[str, frozenset[NodeId]] = {}

    def flow(
        self, name: str, arguments: Mapping[str, Shape], control: Taint | None, setting: Setting = PLAIN
    ) -> FlowResult:
        """What becomes of a call of the flow with such arguments, under a private condition or none."""
        flow = self.flows[name]
        known = self._results.setdefault(name, {})
        given = {one.name: arguments.get(one.name, PUBLIC) for one in flow.inputs}
        key: tuple[object, ...] = (setting, control is not None, *(signature(shape) for shape in given.values()))
        if key not in known:
            if len(known) >= MOST_CONTEXTS:
                cause = next((found for one in given.values() if (found := one.any())), control)
                key = (setting, cause is not None, *(cause is not None for _ in given))
                given = {name: under(PUBLIC, cause) for name in given}
                control = cause
            if key not in known:
                known[key] = _Body(self, setting).run(flow.name, flow.body, flow.outputs, given, control)
        return known[key]

    def needed(self, name: str, body: Region) -> frozenset[NodeId]:
        """Nodes that a run of the body, which has this name, cannot complete without."""
        if name not in self._needed:
            self._needed[name] = needed_nodes(body, self.certain.must_succeed)
        return self._needed[name]

    def region(self, name: str, region: Region, given: Mapping[str, Shape], judge: str | None = None) -> None:
        """Looks at a body that is no flow's: of a metric, whose modules may be asked by the LM ``judge``."""
        # Where a metric fails, scoring goes on.
        _Body(self, Setting(caught=True, metric=True, judge=judge)).run(name, region, (), given, None)


class _Body:
    """Looks at one body once."""

    def __init__(self, program: FlowLabels, setting: Setting) -> None:
        self._program = program
        self._setting = setting
        self._caught = setting.where_caught()
        self._labels = ExpressionLabels(program.records, program.types, program.certain)
        self._calls = CallLabels(program, self._labels)
        self._left = Left()
        self._failed: Taint | None = None
        """What private thing it may follow from whether the present region has failed."""
        self._needed = frozenset[NodeId]()
        """Nodes that a run cannot complete without, unless they stand inside others that it can."""
        self._returned: dict[str, Shape] = {}
        self._exits: dict[NodeId, list[Shape]] = {}
        self._rounds: dict[NodeId, Round] = {}
        """Of each loop: a loop inside another one goes on from there, one round for each of the outermost, which goes
        round until nothing changes in any of them. Each to its own end would take time exponential in their depth."""
        self._in_loop = False
        self._changed = False
        """In this round of the outermost loop."""
        self._exit_failures: dict[NodeId | None, Taint] = {}
        """Of the values that a loop is left with, or the flow (None)."""

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
        is_flow = name in self._program.flows
        if is_flow:
            parameters = {one.field.name: self._labels.values.get(one.id, PUBLIC) for one in body.parameters}
            self._program.found.held(f"flow {name}", IN, parameters)
        self._needed = self._program.needed(name, body)
        ended = self._region(body, control)
        shapes: dict[str, Shape] = {}
        for operand, result in zip(body.results, ended.shapes, strict=True):
            left = under(result, self._left.returned)
            shapes[operand.name] = join(left, self._returned.get(operand.name, PUBLIC))
        for field in outputs:
            shapes[field.name] = join(types.field(field, "output", name), shapes[field.name])
        if is_flow:
            self._program.found.held(f"flow {name}", OUT, shapes)
        failure = ended.failure or self._exit_failures.get(None) or self._left.returned
        return FlowResult(make_record(shapes), self._labels.seen or control, failure)

    # -- regions -----------------------------------------------------------------------------------------------------

    def _region(self, region: Region, control: Taint | None) -> Ended:
        outside, self._failed = self._failed, None
        for node in region.nodes:
            self._node(node, control or self._left.taint)
        labels = self._labels
        failure = first_of(self._failed, *(labels.failure(result.value) for result in region.results))
        self._failed = outside
        return Ended([labels.of(result.value) for result in region.results], failure)

    def _node(self, node: Node, control: Taint | None) -> None:
        outside = self._setting
        if node.id not in self._needed:
            self._setting = self._caught
        self._looked_at(node, control)
        self._setting = outside

    def _looked_at(self, node: Node, control: Taint | None) -> None:
        labels = self._labels
        kept = self._kept_from(node) if self._setting.caught else None
        ended = self._ended(node, control or kept)
        failure = self._decides(ended.failure or kept, node.id)
        for value, shape in zip(values_of(node), ended.shapes, strict=True):
            if shape is not PUBLIC:
                labels.values[value] = at(shape, value)
            else:
                labels.values.pop(value, None)
        fails_region = node.id in self._program.certain.must_succeed or leaves(node)
        if failure is not None and fails_region:
            self._failed = self._failed or failure
        if failure is not None and self._setting.caught and leaves(node):
            returns = leaves(node, loops=False)
            self._left = self._left.joined(Left(failure) if returns else Left(stopped=failure))
        # Where the region failed for it, and nothing catches that, nothing after it is of a run that completes.
        missing = failure if self._setting.caught or not fails_region else None
        for value in values_of(node):
            if missing is not None:
                labels.failing[value] = missing
            else:
                labels.failing.pop(value, None)

    def _kept_from(self, node: Node) -> Taint | None:
        """What private failure may keep the node from being run."""
        failed = self._failed if node.id in self._program.acting else None
        if failed is None and isinstance(node, LmCall | ExternCall | FlowCall | IfNode | MapNode):
            failed = first_of(*map(self._labels.failure, own_expressions(node)))
        return self._decides(failed, node.id)

    def _ended(self, node: Node, control: Taint | None) -> Ended:
        """The labels of the values that the node gives, and of whether it has any."""
        labels = self._labels
        match node:
            case ExprNode(expression=expression):
                shape = labels.of(expression)
                if node.label == "private":
                    shape = under(shape, declared(node.id, Origin("binding", node.id)))
                return Ended([shape], labels.failure(expression))
            case ReleaseNode(expression=expression):
                self._program.found.release(node, labels.of(expression).any() or control)
                return Ended([PUBLIC])
            case CheckNode(condition=condition, kind=kind):
                shape = labels.of(condition)
                return Ended([shape], labels.failure(condition) or (shape.any() if kind == "assert" else None))
            case LmCall():
                return self._called(node, self._calls.lm(node, control, self._setting))
            case ExternCall():
                return self._called(node, self._calls.extern(node, control))
            case FlowCall():
                return self._flow_call(node, control)
            case MapNode():
                return self._map(node, control)
            case IfNode():
                return self._if(node, control)
            case LoopNode():
                return self._loop(node, control)
            case CatchNode():
                return self._catch(node, control)
            case ExitIf(condition=condition, results=results, loop=loop):
                decided = control or self._decides(labels.of(condition).any(), node.id)
                self._left = Left(self._left.returned, self._left.stopped or decided)
                values = [labels.of(result.value) for result in results]
                known = self._exits.get(loop)
                self._exits[loop] = values if known is None else list(map(join, known, values))
                self._leave_failing(loop, results)
                return Ended([], labels.failure(condition))
            case Return(results=results):
                for result in results:
                    shape = under(labels.of(result.value), control)
                    self._returned[result.name] = join(self._returned.get(result.name, PUBLIC), shape)
                self._left = Left(self._left.returned or control, self._left.stopped)
                self._leave_failing(None, results)
                return Ended([])

    def _called(self, node: LmCall | ExternCall, shape: Shape) -> Ended:
        """A call may fail for what it is given, and for what it gives."""
        return Ended([shape], shape.any() or first_of(*map(self._labels.failure, own_expressions(node))))

    def _leave_failing(self, target: NodeId | None, results: Sequence[Operand]) -> None:
        failure = first_of(*(self._labels.failure(result.value) for result in results))
        if failure is not None:
            self._exit_failures.setdefault(target, failure)

    def _decides(self, taint: Taint | None, id: NodeId) -> Taint | None:
        return None if taint is None else then(taint, f"{id}?", "decides")

    def _map(self, node: MapNode, control: Taint | None) -> Ended:
        labels = self._labels
        items = labels.of(node.items)
        labels.values[node.element.id] = at(items.element(), node.element.id)
        inside = control or self._decides(items.own, node.id)
        kept: Taint | None = None
        filtering: Taint | None = None
        if node.condition is not None:
            condition = self._region(node.condition, inside)
            kept = self._decides(condition.shapes[0].any(), node.id)
            filtering = condition.failure
        blocked = self._decides(filtering, node.id) if self._setting.caught else None
        body = self._region(node.body, inside or kept or blocked)
        sure = all(map(self._program.certain.sure_region, inner_regions(node)))
        failure = first_of(labels.failure(node.items), filtering, body.failure, None if sure else items.own or kept)
        return Ended([under(make_list(body.shapes[0]), items.own, kept)], failure)

    def _if(self, node: IfNode, control: Taint | None) -> Ended:
        decided = self._decides(self._labels.of(node.condition).any(), node.id)
        start = self._left
        first = self._region(node.then, control or decided)
        after_first, self._left = self._left, start
        second = self._region(node.otherwise, control or decided)
        self._left = self._left.joined(after_first)
        sure = all(map(self._program.certain.sure_region, inner_regions(node)))
        failure = first_of(
            self._labels.failure(node.condition), first.failure, second.failure, None if sure else decided
        )
        if not node.results:
            return Ended([], failure)
        shapes = [under(join(one, other), decided) for one, other in zip(first.shapes, second.shapes, strict=True)]
        return Ended(shapes, failure)

    def _loop(self, node: LoopNode, control: Taint | None) -> Ended:
        labels = self._labels
        carried = [labels.of(one.initial) for one in node.carried]
        failure = first_of(*(labels.failure(one.initial) for one in node.carried))
        outside, is_outermost = self._left, not self._in_loop
        known = self._rounds.get(node.id)
        if known is not None:
            carried, failure = list(map(join, known.carried, carried)), known.failure or failure
        self._left = Left(outside.returned, None if known is None else known.stopped)
        self._exits.pop(node.id, None)
        self._exit_failures.pop(node.id, None)
        self._in_loop = True
        while True:
            if is_outermost:
                self._changed = False
            for one, shape in zip(node.carried, carried, strict=True):
                labels.values[one.parameter.id] = shape
                if failure is not None:
                    labels.failing[one.parameter.id] = failure
            before = self._state(carried, failure)
            body = self._region(node.body, control or outside.stopped)
            carried = list(map(join, carried, body.shapes))
            failure = failure or body.failure
            if self._setting.caught:  # no round follows one that failed
                self._left = self._left.joined(Left(stopped=self._decides(body.failure, node.id)))
            self._changed = self._changed or before != self._state(carried, failure)
            if not (is_outermost and self._changed):
                break
        self._in_loop = not is_outermost
        stopped = self._left.stopped
        self._rounds[node.id] = Round(carried, failure, stopped)
        self._left = Left(self._left.returned, outside.stopped)
        ended = self._exits.pop(node.id, None) or [PUBLIC] * len(carried)
        failure = first_of(failure, self._exit_failures.pop(node.id, None), stopped)
        return Ended([under(join(one, other), stopped) for one, other in zip(carried, ended, strict=True)], failure)

    def _state(self, carried: Sequence[Shape], failure: Taint | None) -> tuple[object, ...]:
        """What a round of a loop may change."""
        left = self._left
        return [signature(one) for one in carried], failure is None, left.returned is None, left.stopped is None

    def _catch(self, node: CatchNode, control: Taint | None) -> Ended:
        labels = self._labels
        outside, self._setting = self._setting, self._caught
        tried = self._region(node.body, control)
        self._setting = outside
        failing = self._decides(tried.failure, node.id)
        if node.message is not None:
            labels.values[node.message.id] = under(PUBLIC, failing)
        instead = self._region(node.fallback, control or failing)
        shape = under(join(tried.shapes[0], instead.shapes[0]), failing)
        sure = self._program.certain.sure_region(node.fallback)
        return Ended([shape], first_of(instead.failure, None if sure else failing))

    # -- calls -------------------------------------------------------------------------------------------------------

    def _flow_call(self, node: FlowCall, control: Taint | None) -> Ended:
        flow = self._program.flows[node.flow]
        arguments = {one.name: at(self._labels.of(one.value), f"{node.id}({one.name})") for one in node.arguments}
        result = self._program.flow(flow.name, arguments, control, self._setting)
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
        given = first_of(*map(self._labels.failure, own_expressions(node)))
        failure = given or (None if result.failure is None else here(result.failure))
        return Ended([mapped(result.outputs, here)], failure)
