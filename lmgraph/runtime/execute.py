"""The executor: async dataflow over a planned flow, as docs/decisions/0005 says.

A node starts when its inputs are there and nothing guards it any more; independent calls and the elements of a map run
at once. What is called, its keys, values and first cause follow from the graph and the indices only, never from timing:
nothing is cancelled because something else failed, and everything before an exit runs to its end.
This module makes no prompt and talks to no engine: a CallFunction does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lmgraph.runtime.plan import (
    FlowPlan,
    InPlace,
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
    RegionPlan,
)
from lmgraph.runtime.scope import arguments, evaluate, store
from lmgraph.runtime.trace import CheckRecord, Failure

CallFunction: TypeAlias = Callable[[PlannedCall, str, Mapping[str, Any]], Awaitable[Any]]
"""(node, call key, inputs by name) -> its value, or a Failure that says why there is none."""


@dataclass(frozen=True, slots=True)
class Left:
    """Control has left a region for the end of the loop ``target``, or of the flow (None), with these values."""

    target: str | None
    values: Sequence[Any]


Outcome: TypeAlias = list[Any] | Left | Failure
"""What became of a region: the values of its results (each may be a Failure), or control left it, or it failed."""


async def execute(
    plan: FlowPlan,
    inputs: Mapping[str, Any],
    call: CallFunction,
    checked: Callable[[CheckRecord], None],
    *,
    one_at_a_time: bool = False,
) -> dict[str, Any] | Failure:
    """Run one flow. Returns its outputs by name, or the first cause of its failure, in source order.

    ``checked`` is told of every assert and check. ``one_at_a_time`` runs everything in the order of the source.
    """
    scope = {value: inputs[name] for name, value in plan.parameters}
    execution = _Execution(call, checked, one_at_a_time=one_at_a_time)
    return await execution.flow(plan, scope, plan.name)


_LEFT_OUT = object()
"""Stands for an element that the map's condition leaves out."""


class _Execution:
    def __init__(
        self, call: CallFunction, checked: Callable[[CheckRecord], None], *, one_at_a_time: bool = False
    ) -> None:
        self._call = call
        self._checked = checked
        self._one_at_a_time = one_at_a_time

    async def flow(self, plan: FlowPlan, scope: dict[str, Any], key: str) -> dict[str, Any] | Failure:
        outcome = await self.region(plan.body, scope, key)
        if isinstance(outcome, Failure):
            return outcome
        values = outcome.values if isinstance(outcome, Left) else outcome
        for value in values:
            if type(value) is Failure:
                return value
        return {result.name: value for result, value in zip(plan.body.results, values, strict=True)}

    async def region(self, plan: RegionPlan, scope: dict[str, Any], key: str) -> Outcome:
        """Run a region's nodes in ``scope``, which gains their values. ``key`` is that of the flow, loop or map."""
        if plan.in_order or self._one_at_a_time:
            ended = await self._in_order(plan, scope, key)
        else:
            ended = await self._dataflow(plan, scope, key)
        if ended is not None:
            return ended
        return [evaluate(result, scope, key, key) for result in plan.results]

    async def _in_order(self, plan: RegionPlan, scope: dict[str, Any], key: str) -> Left | Failure | None:
        failed: Failure | None = None
        for node in plan.nodes:
            value: Any
            if failed is not None and node.acts:
                value = failed
            elif isinstance(node, PlannedCall):
                value = await self._leaf(node, scope, key)
            elif isinstance(node, InPlace):
                value = self._in_place(node, scope, key)
            else:
                value = await self._node(node, scope, key)
            if type(value) is Left:
                return failed or value
            if type(value) is Failure and node.strict:
                failed = failed or value
                if node.leaves:
                    return failed
            store(scope, node, value)
        return failed

    async def _dataflow(self, plan: RegionPlan, scope: dict[str, Any], key: str) -> Left | Failure | None:
        waiting = list(plan.waits_for)
        ready = deque(index for index, count in enumerate(waiting) if count == 0)
        running: dict[asyncio.Task[Any], int] = {}
        nodes = plan.nodes
        left: Left | None = None
        failed: Failure | None = None
        failed_at = end = len(nodes)  # nodes after ``end`` are not run: control left there, or may have

        def finish(index: int, value: Any) -> None:
            nonlocal left, failed, failed_at, end
            node = nodes[index]
            if type(value) is Left:
                left, end = value, index
            elif index <= end:
                store(scope, node, value)
            if type(value) is Failure and node.strict:
                if index < failed_at:
                    failed_at, failed = index, value
                if node.leaves:
                    end = min(end, index)
            for consumer in plan.consumers[index]:
                waiting[consumer] -= 1
                if waiting[consumer] == 0:
                    ready.append(consumer)

        try:
            while ready or running:
                while ready:
                    index = ready.popleft()
                    node = nodes[index]
                    if index > end or (node.acts and index > failed_at):
                        finish(index, failed)
                    elif isinstance(node, InPlace):
                        finish(index, self._in_place(node, scope, key))
                    elif not ready and not running:
                        finish(index, await self._node(node, scope, key))  # nothing runs beside it: no task needed
                    else:
                        running[asyncio.create_task(self._node(node, scope, key))] = index
                if running:
                    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        finish(running.pop(task), task.result())
        finally:
            await _cancel(running)
        return failed or left

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _in_place(self, node: InPlace, scope: dict[str, Any], key: str) -> Any:
        match node:
            case PlannedExpr(value=value):
                return evaluate(value, scope, node.id, key, node.local)
            case PlannedCheck():
                return self._check(node, scope, key)
            case PlannedExit(condition=condition):
                leaving = True if condition is None else evaluate(condition, scope, node.id, key, node.local)
                if leaving is False or type(leaving) is Failure:
                    return leaving or ()
                return Left(node.target, [evaluate(one, scope, node.id, key, node.local) for one in node.results])

    def _check(self, node: PlannedCheck, scope: dict[str, Any], key: str) -> Any:
        holds = evaluate(node.condition, scope, node.id, key, node.local)
        failed = type(holds) is Failure
        call_key = f"{key}/{node.local}"
        values: tuple[tuple[str, Any], ...] = ()
        if holds is False:
            found = [(path.name, evaluate(path, scope, node.id, key, node.local)) for path in node.paths]
            values = tuple((text, value) for text, value in found if type(value) is not Failure)
        passed = None if failed else bool(holds)
        self._checked(CheckRecord(node.id, call_key, node.kind, node.message, passed, values))
        if holds is False and node.kind == "assert":
            return Failure("assert", node.message, node.id, call_key)
        return holds

    def _node(self, node: PlannedNode, scope: dict[str, Any], key: str) -> Coroutine[Any, Any, Any]:
        match node:
            case PlannedCall():
                return self._leaf(node, scope, key)
            case PlannedMap():
                return self._map(node, scope, f"{key}/{node.local}")
            case PlannedIf():
                return self._if(node, scope, key)
            case PlannedLoop():
                return self._loop(node, scope, f"{key}/{node.local}")
            case PlannedCatch():
                return self._catch(node, scope, key)
            case PlannedFlow():
                return self._flow_call(node, scope, f"{key}/{node.local}")
            case _:
                raise AssertionError("evaluated in place")

    async def _leaf(self, node: PlannedCall, scope: dict[str, Any], key: str) -> Any:
        key = f"{key}/{node.local}"
        inputs = arguments(node.arguments, scope, node.id, key)
        return inputs if isinstance(inputs, Failure) else await self._call(node, key, inputs)

    async def _flow_call(self, node: PlannedFlow, scope: dict[str, Any], key: str) -> Any:
        inputs = arguments(node.arguments, scope, node.id, key)
        if isinstance(inputs, Failure):
            return inputs
        return await self.flow(node.flow, {value: inputs[name] for name, value in node.flow.parameters}, key)

    async def _if(self, node: PlannedIf, scope: dict[str, Any], key: str) -> Outcome:
        holds = evaluate(node.condition, scope, node.id, key, node.local)
        if type(holds) is Failure:
            return holds
        return await self.region(node.then if holds else node.otherwise, scope, key)

    async def _loop(self, node: PlannedLoop, scope: dict[str, Any], key: str) -> Outcome:
        values = [evaluate(one, scope, node.id, key) for one in node.initial]
        for index in range(node.limit):
            if node.index is not None:
                scope[node.index] = index
            scope.update(zip(node.carried, values, strict=True))
            outcome = await self.region(node.body, scope, f"{key}[{index}]")
            if type(outcome) is Left:
                return list(outcome.values) if outcome.target == node.id else outcome
            if not isinstance(outcome, list):
                return outcome
            values = outcome
        return values

    async def _catch(self, node: PlannedCatch, scope: dict[str, Any], key: str) -> Any:
        value = await self._single(node.body, scope, key)
        if type(value) is not Failure:
            return value
        if node.message is not None:
            scope[node.message] = value.message
        return await self._single(node.fallback, scope, key)

    async def _map(self, node: PlannedMap, scope: dict[str, Any], key: str) -> Any:
        items = evaluate(node.items, scope, node.id, key)
        if type(items) is Failure:
            return items
        bodies = (self._element(node, scope, item, f"{key}[{index}]") for index, item in enumerate(items))
        if node.at_once and len(items) > 1 and not self._one_at_a_time:
            found = await _gather(list(bodies))
        else:
            found = [await body for body in bodies]
        values = [value for value in found if value is not _LEFT_OUT]
        return next((value for value in values if type(value) is Failure), values)

    async def _element(self, node: PlannedMap, scope: dict[str, Any], item: Any, key: str) -> Any:
        inner = {**scope, node.element: item}
        if node.condition is not None:
            keep = await self._single(node.condition, inner, key)
            if keep is not True:
                return keep if type(keep) is Failure else _LEFT_OUT
        return await self._single(node.body, inner, key)

    async def _single(self, plan: RegionPlan, scope: dict[str, Any], key: str) -> Any:
        """The one value of a region that control does not leave."""
        outcome = await self.region(plan, scope, key)
        return outcome[0] if isinstance(outcome, list) else outcome


async def _gather(coroutines: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Results in order; if one raises or this is cancelled, the others are cancelled and awaited first."""
    tasks = {asyncio.create_task(coroutine): index for index, coroutine in enumerate(coroutines)}
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Mapping[asyncio.Task[Any], int]) -> None:
    unfinished = [task for task in tasks if not task.done()]
    for task in unfinished:
        task.cancel()
    if unfinished:
        await asyncio.gather(*unfinished, return_exceptions=True)
