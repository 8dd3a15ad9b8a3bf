"""Checks of regions and nodes: scopes, ids, results and exits. verify_calls.py has what calls must be.

A value is in scope after its node, in its region and the regions inside it; values that a node hands to its regions
(the element of a map, the message of a catch, and the parameters of a loop's body: its index, where it has one, and its
carried variables) are in scope in those regions only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lmgraph.graph.graph import FlowSpec, MetricSpec
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
    ExitIf,
    ExternCall,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    Parameter,
    Region,
    Return,
    ValueId,
)
from lmgraph.graph.types import INT, STR, Field
from lmgraph.graph.verify_calls import fits, no_cycle
from lmgraph.graph.verify_parts import Parts, fail, in_scope, names, same_names
from lmgraph.graph.verify_types import KnownTypes
from lmgraph.graph.walk import own_expressions, values_of

UNNAMED: tuple[str, ...] = ("",)
"""The results of a region that yields one value without a name."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a region stands."""

    path: str
    """Ids of its nodes start with it, and so do call keys: the enclosing flow, metric, map or loop."""
    flow: FlowSpec | None = None
    """The flow that a return in it ends."""
    loop: LoopNode | None = None
    """The loop that an exit in it ends."""
    conditional: bool = False
    """Whether a return may end it: a branch of an if, or the body of a loop."""


class FlowChecks:
    """Checks flows and metrics of one graph one after another; ids are unique among all of them."""

    def __init__(self, parts: Parts, types: KnownTypes) -> None:
        self._parts = parts
        self._types = types
        self._ids: set[str] = set()
        self._scope: set[str] = set()
        self._calls: dict[str, list[str]] = {}
        """The flows that each flow calls."""
        self._caller: list[str] = []

    def flow(self, flow: FlowSpec) -> None:
        """Raises: GraphInvariantError naming the first thing that is wrong in the flow."""
        given = flow.body.parameters
        if given != _parameters_of(flow.name, flow.inputs):
            fail(f"parameters of flow {flow.name} are not its inputs")
        self._parameters(given, f"flow {flow.name}")
        self._caller = self._calls.setdefault(flow.name, [])
        results = tuple(field.name for field in flow.outputs)
        self._region(flow.body, _Place(flow.name, flow), given, results, f"flow {flow.name}")

    def metric(self, metric: MetricSpec) -> None:
        """Raises: GraphInvariantError naming the first thing that is wrong in the metric's body."""
        body = metric.body
        if body is None:
            return
        if body.parameters != _parameters_of(metric.name, (metric.gold, metric.pred)):
            fail(f"parameters of metric {metric.name} are not its gold and pred")
        for parameter in body.parameters:
            self._new(parameter.id)
        self._caller = []
        self._region(body, _Place(metric.name), body.parameters, UNNAMED, f"metric {metric.name}")

    def no_cycle(self) -> None:
        """Raises: GraphInvariantError where a flow that was checked calls itself, directly or not."""
        no_cycle(self._calls)

    # -- regions -----------------------------------------------------------------------------------------------------

    def _region(
        self, region: Region, place: _Place, given: Iterable[Parameter], results: tuple[str, ...], what: str
    ) -> None:
        """``given`` are the values that are in scope inside only, ``results`` the names of what it yields."""
        inside: list[str] = []
        for parameter in given:
            self._scope.add(parameter.id)
            inside.append(parameter.id)
        last = len(region.nodes) - 1
        for position, node in enumerate(region.nodes):
            self._new(node.id)
            if not node.id.startswith(f"{place.path}/"):
                fail(f"the id {node.id} does not start with {place.path}/, where its call keys start")
            for expression in own_expressions(node):
                in_scope(expression, self._scope, node.id)
            if isinstance(node, Return) and position != last:
                fail(f"nodes follow {node.id}, which ends the flow")
            self._node(node, place)
            values = values_of(node)
            self._scope.update(values)
            inside.extend(values)
        names(region.results, results, f"results of {what}")
        for result in region.results:
            in_scope(result.value, self._scope, f"result {result.name!r} of {what}")
        self._scope.difference_update(inside)

    def _inner(
        self,
        region: Region,
        place: _Place,
        what: str,
        given: Iterable[Parameter] = (),
        results: tuple[str, ...] = UNNAMED,
    ) -> None:
        """A region without parameters of its own, inside a node that says what it hands to it."""
        if region.parameters:
            fail(f"{what} has parameters")
        self._region(region, place, given, results, what)

    def _node(self, node: Node, place: _Place) -> None:
        match node:
            case LmCall() | ExternCall() | FlowCall():
                fits(node, self._parts)
                if isinstance(node, FlowCall):
                    self._caller.append(node.flow)
            case MapNode():
                self._map(node)
            case IfNode():
                self._if(node, place)
            case LoopNode():
                self._loop(node, place)
            case ExitIf():
                self._exit(node, place)
            case Return():
                self._return(node, place)
            case CatchNode():
                self._catch(node, place)
            case _:
                pass
        self._node_type(node)

    def _node_type(self, node: Node) -> None:
        match node:
            case IfNode() | LoopNode() | ExitIf() | Return() | CheckNode():
                return
            case _:
                self._types.known(node.type, node.id)

    # -- nodes with regions ------------------------------------------------------------------------------------------

    def _map(self, node: MapNode) -> None:
        self._parameters((node.element,), node.id)
        place = _Place(node.id)
        if node.condition is not None:
            self._inner(node.condition, place, f"the condition of {node.id}", (node.element,))
        self._inner(node.body, place, f"the body of {node.id}", (node.element,))

    def _if(self, node: IfNode, place: _Place) -> None:
        if len(node.results) == 1 and node.results[0].id == ValueId(node.id):
            results = UNNAMED
            self._types.field(node.results[0].field, node.id)
        else:
            results = self._results(node)
        branch = replace(place, conditional=True)
        self._inner(node.then, branch, f"the then of {node.id}", (), results)
        self._inner(node.otherwise, branch, f"the else of {node.id}", (), results)

    def _loop(self, node: LoopNode, place: _Place) -> None:
        if node.limit < 0:
            fail(f"{node.id} has a limit below 0")
        given = tuple(one.parameter for one in node.carried)
        for parameter, result in zip(given, node.results, strict=False):
            if parameter.field.type != result.field.type:
                fail(f"{parameter.field.name} of {node.id} has another type inside than after it")
        if node.index is not None:
            if node.index.field.type != INT:
                fail(f"the index of {node.id} is no int")
            given = (node.index, *given)
        self._parameters(given, node.id)
        results = self._results(node)
        carried = tuple(one.parameter.field.name for one in node.carried)
        if results != carried:
            fail(f"results of {node.id} are {list(results)}, not {list(carried)}, which it carries")
        if node.body.parameters != given:
            fail(f"parameters of the body of {node.id} are not its index and what it carries")
        inside = _Place(node.id, place.flow, node, conditional=True)
        self._region(node.body, inside, given, results, f"the body of {node.id}")

    def _catch(self, node: CatchNode, place: _Place) -> None:
        message = () if node.message is None else (node.message,)
        self._parameters(message, node.id)
        if node.message is not None and node.message.field.type != STR:
            fail(f"the message of {node.id} is no str")
        # No exit and no return may stand in it: what leaves a catch is its value or a failure.
        inside = _Place(place.path)
        self._inner(node.body, inside, f"the body of {node.id}")
        self._inner(node.fallback, inside, f"the fallback of {node.id}", message)

    def _results(self, node: IfNode | LoopNode) -> tuple[str, ...]:
        """Names of the node's results, each of which must be `node:name`."""
        for result in node.results:
            if result.id != f"{node.id}:{result.field.name}":
                fail(f"the result {result.id} of {node.id} is not named {node.id}:{result.field.name}")
        self._parameters(node.results, node.id)
        return tuple(result.field.name for result in node.results)

    def _parameters(self, parameters: Iterable[Parameter], what: str) -> None:
        for parameter in parameters:
            self._new(parameter.id)
            self._types.field(parameter.field, what)

    # -- other nodes -------------------------------------------------------------------------------------------------

    def _exit(self, node: ExitIf, place: _Place) -> None:
        if place.loop is None or place.loop.id != node.loop:
            fail(f"{node.id} ends {node.loop}, which is not the loop around it")
        carried: tuple[Field, ...] = tuple(one.parameter.field for one in place.loop.carried)
        same_names(node.results, carried, f"results of {node.id}")

    def _return(self, node: Return, place: _Place) -> None:
        if place.flow is None:
            fail(f"{node.id} stands where no flow can be left")
        if not place.conditional:
            fail(f"{node.id} stands in no branch and no loop; a flow ends with the results of its body")
        same_names(node.results, place.flow.outputs, f"results of {node.id}")

    def _new(self, id: str) -> None:
        if id in self._ids:
            fail(f"two values have the id {id}")
        self._ids.add(id)


def _parameters_of(owner: str, fields: tuple[Field, ...]) -> tuple[Parameter, ...]:
    """What the body of a flow or metric must be given."""
    return tuple(Parameter(ValueId(f"{owner}/{field.name}"), field) for field in fields)
