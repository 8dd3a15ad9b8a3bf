"""Makes plans: from the regions of a graph to what the executor walks over (runtime/plan.py)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any

from lmgraph.graph.critical import CriticalPaths
from lmgraph.graph.effects import acts, flows_with, guards, nodes_with
from lmgraph.graph.expression_text import paths_read
from lmgraph.graph.expressions import Expr, references
from lmgraph.graph.graph import Graph, MetricSpec
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
    Operand,
    Region,
    ReleaseNode,
    Return,
)
from lmgraph.graph.walk import inner_regions, leaves, node_references, values_of, walk
from lmgraph.program.expressions import compile_expression
from lmgraph.runtime.plan import (
    FlowPlan,
    PlannedCall,
    PlannedCatch,
    PlannedCheck,
    PlannedExit,
    PlannedExpr,
    PlannedFlow,
    PlannedIf,
    PlannedLoop,
    PlannedMap,
    PlannedNode,
    PlannedOperand,
    RegionPlan,
)

MOST_PLANS = 64
"""Of one flow, that differ in what waits for it. Flows that call others twice would have twice as many at each level;
beyond these the nearest one serves, for what waits only says which call goes first."""


class Planner:
    """Plans of one graph. ``stubbed`` flows are calls like any other; ``waits`` says whether an extern suspends."""

    def __init__(
        self, graph: Graph, stubbed: Collection[str] = (), waits: Callable[[str], bool] = lambda extern: True
    ) -> None:
        self._graph = graph
        self._stubbed = stubbed
        self._waits = waits
        self._flows: dict[str, dict[int, FlowPlan]] = {}
        """By name, and by what waits for the flow."""
        self.paths = CriticalPaths(graph, self.waits)
        bodies = [*(flow.body for flow in graph.flows), *(one.body for one in graph.metrics if one.body is not None)]
        acting, guarding = flows_with(graph, acts), flows_with(graph, guards)
        self._acting = frozenset[str]().union(*(nodes_with(body, acting, acts) for body in bodies))
        self._strict = frozenset[str]().union(*(nodes_with(body, guarding, guards) for body in bodies))
        self._loops = {node.id for body in bodies for node in walk(body) if isinstance(node, LoopNode)}

    def flow(self, name: str, after: int = 0) -> FlowPlan:
        """``after`` is the longest chain that waits for what it gives, as graph/critical.py measures it."""
        known = self._flows.setdefault(name, {})
        if after not in known and len(known) >= MOST_PLANS:
            after = min(known, key=lambda one: abs(one - after))
        if after not in known:
            spec = self._graph.flow(name)
            given = tuple((field.name, parameter.id) for field, parameter in _pairs(spec.inputs, spec.body.parameters))
            outputs = [field.name for field in spec.outputs]
            known[after] = FlowPlan(name, given, _Body(self, outputs).region(spec.body, name, after))
        return known[after]

    def metric(self, spec: MetricSpec) -> FlowPlan:
        """Its call keys start with the metric's name."""
        assert spec.body is not None
        given = tuple((name, one.id) for name, one in _pairs(("gold", "pred"), spec.body.parameters))
        path = given[0][1].rpartition("/")[0]
        return FlowPlan(spec.name, given, _Body(self, [""]).region(spec.body, path, 0))

    def waits(self, region: Region) -> list[set[int]]:
        """For each node the earlier ones it waits for."""
        position = {value: index for index, node in enumerate(region.nodes) for value in values_of(node)}
        waits: list[set[int]] = []
        guarding: list[int] = []
        last_exit: int | None = None
        for index, node in enumerate(region.nodes):
            sources = {position[value] for value in node_references(node) if value in position}
            if last_exit is not None:
                sources.add(last_exit)
            if node.id in self._acting:
                sources.update(guarding)
            if node.id in self._strict:
                guarding.append(index)
            if leaves(node):
                last_exit = index
            waits.append(sources)
        return waits

    def suspends(self, node: Node) -> bool:
        match node:
            case LmCall():
                return True
            case ExternCall(extern=extern):
                return self._waits(extern)
            case FlowCall(flow=flow):
                return flow not in self._stubbed and self.flow(flow).body.suspends
            case _:
                return any(self.suspends(inner) for region in inner_regions(node) for inner in region.nodes)

    def traits(self, node: Node, path: str) -> dict[str, Any]:
        """The fields that every planned node has."""
        may_leave = leaves(node)
        return {
            "id": node.id,
            "local": self._local(node.id, path),
            "gives": values_of(node) if isinstance(node, IfNode | LoopNode | ExitIf | Return) else None,
            "strict": may_leave or node.id in self._strict,
            "acts": node.id in self._acting,
            "leaves": may_leave,
        }

    def _local(self, id: str, path: str) -> str:
        """The id below ``path``. What a pass took out of a loop keeps the key that it had in the first round."""
        local = id[len(path) + 1 :]
        if "/" not in local:
            return local
        keyed, at = [], path
        for part in local.split("/"):
            at = f"{at}/{part}"
            keyed.append(f"{part}[0]" if at in self._loops and at != id else part)
        return "/".join(keyed)

    def call_of_flow(self, node: FlowCall, after: int, traits: dict[str, Any]) -> PlannedNode:
        arguments = _operands(node.arguments)
        if node.flow in self._stubbed:
            return PlannedCall(kind="flow", name=node.flow, arguments=arguments, **traits)
        return PlannedFlow(flow=self.flow(node.flow, after), arguments=arguments, **traits)


class _Body:
    """The regions of one flow or metric."""

    def __init__(self, planner: Planner, outputs: Sequence[str]) -> None:
        self._planner = planner
        self._outputs = outputs
        self._loops: dict[str, list[str]] = {}
        """Names of the carried variables of the loops around."""

    def region(self, region: Region, path: str, after: int) -> RegionPlan:
        """``path`` is the id of the nearest flow, loop or map around; a chain of ``after`` waits for the region."""
        waits = self._planner.waits(region)
        suspending = [self._planner.suspends(node) for node in region.nodes]
        behind = self._planner.paths.behind(region, after)
        consumers: list[list[int]] = [[] for _ in region.nodes]
        for index, sources in enumerate(waits):
            for source in sorted(sources):
                consumers[source].append(index)
        return RegionPlan(
            tuple(self._node(node, path, count) for node, count in zip(region.nodes, behind, strict=True)),
            tuple(len(sources) for sources in waits),
            tuple(map(tuple, consumers)),
            _operands(region.results),
            _one_after_another(waits, suspending),
            any(suspending),
        )

    def _node(self, node: Node, path: str, after: int) -> PlannedNode:
        traits = self._planner.traits(node, path)
        match node:
            case LmCall(module=module, arguments=arguments):
                given = _operands(arguments)
                return PlannedCall(kind="module", name=module, arguments=given, behind=after, **traits)
            case ExternCall(extern=extern, arguments=arguments):
                return PlannedCall(kind="extern", name=extern, arguments=_operands(arguments), **traits)
            case FlowCall():
                return self._planner.call_of_flow(node, after, traits)
            case ExprNode(expression=expression) | ReleaseNode(expression=expression):
                return PlannedExpr(value=_operand("", expression), **traits)
            case CheckNode(condition=condition, message=message, kind=kind):
                paths = tuple(_operand(text, read) for text, read in paths_read(condition))
                return PlannedCheck(
                    condition=_operand("", condition), message=message, kind=kind, paths=paths, **traits
                )
            case ExitIf(condition=condition, loop=loop, results=results):
                ordered = _in_order_of(results, self._loops[loop])
                return PlannedExit(condition=_operand("", condition), target=loop, results=_operands(ordered), **traits)
            case Return(results=results):
                ordered = _in_order_of(results, self._outputs)
                return PlannedExit(condition=None, target=None, results=_operands(ordered), **traits)
            case MapNode(items=items, element=element, condition=condition, body=body):
                kept = None if condition is None else self.region(condition, node.id, after)
                each = self.region(body, node.id, after)
                at_once = each.suspends or (kept is not None and kept.suspends)
                source = _operand("", items)
                return PlannedMap(
                    items=source, element=element.id, condition=kept, body=each, at_once=at_once, **traits
                )
            case IfNode(condition=condition, then=then, otherwise=otherwise):
                return PlannedIf(
                    condition=_operand("", condition),
                    then=self.region(then, path, after),
                    otherwise=self.region(otherwise, path, after),
                    **traits,
                )
            case LoopNode():
                return self._loop(node, after, traits)
            case CatchNode(body=body, message=given, fallback=fallback):
                return PlannedCatch(
                    body=self.region(body, path, after),
                    message=None if given is None else given.id,
                    fallback=self.region(fallback, path, after),
                    **traits,
                )

    def _loop(self, node: LoopNode, after: int, traits: dict[str, Any]) -> PlannedNode:
        self._loops[node.id] = [result.field.name for result in node.results]
        return PlannedLoop(
            limit=node.limit,
            index=None if node.index is None else node.index.id,
            carried=tuple(one.parameter.id for one in node.carried),
            initial=tuple(_operand("", one.initial) for one in node.carried),
            body=self.region(node.body, node.id, after),
            **traits,
        )


def _one_after_another(waits: Sequence[set[int]], suspending: Sequence[bool]) -> bool:
    """Whether each suspending node waits, directly or not, for the one before it. Bit i of a mask is node i."""
    behind: list[int] = []
    for sources in waits:
        mask = 0
        for source in sources:
            mask |= behind[source] | 1 << source
        behind.append(mask)
    order = [index for index, does in enumerate(suspending) if does]
    return all(behind[later] >> earlier & 1 for earlier, later in pairwise(order))


def _in_order_of(operands: tuple[Operand, ...], names: Sequence[str]) -> tuple[Operand, ...]:
    """As they stand where they are not these names: then they are in order already."""
    by_name = {operand.name: operand for operand in operands}
    return tuple(by_name[name] for name in names) if set(by_name) == set(names) else operands


def _operands(operands: Iterable[Operand]) -> tuple[PlannedOperand, ...]:
    return tuple(_operand(operand.name, operand.value) for operand in operands)


def _operand(name: str, expression: Expr) -> PlannedOperand:
    return PlannedOperand(name, compile_expression(expression), tuple(dict.fromkeys(references(expression))))


def _pairs(first: Iterable[Any], second: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(first, second, strict=True)
