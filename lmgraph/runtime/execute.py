"""The executor: async dataflow over a planned flow. A node starts when its inputs are there.

Independent calls and the elements of a map run at once; call keys and seeds depend on the graph and the indices only,
never on timing. A failed node has a Failure as its value, and whatever reads it fails with the same one.
This module makes no prompt and talks to no engine: a CallFunction does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from lmgraph.runtime.expressions import NoValue
from lmgraph.runtime.plan import PlannedCall, PlannedExpr, PlannedMap, PlannedNode, PlannedOperand, RegionPlan
from lmgraph.runtime.trace import Failure

CallFunction: TypeAlias = Callable[[PlannedCall, str, Mapping[str, Any]], Awaitable[Mapping[str, Any] | Failure]]
"""(node, call key, inputs by name) -> outputs by name, or why there are none."""


async def execute(
    plan: RegionPlan, flow: str, inputs: Mapping[str, Any], call: CallFunction
) -> dict[str, Any] | Failure:
    """Run one flow. Returns its outputs by name, or the first cause of its failure, in source order."""
    scope = {f"{flow}/{name}": value for name, value in inputs.items()}
    results = await _Execution(call).region(plan, scope, flow)
    for value in results:
        if isinstance(value, Failure):
            return value
    return {operand.name: value for operand, value in zip(plan.results, results, strict=True)}


class _Execution:
    def __init__(self, call: CallFunction) -> None:
        self._call = call

    async def region(self, plan: RegionPlan, scope: dict[str, Any], key: str) -> list[Any]:
        """Run a region's nodes in ``scope``, which gains their values; the values of its results."""
        waiting = list(plan.waits_for)
        ready = deque(index for index, count in enumerate(waiting) if count == 0)
        running: dict[asyncio.Task[Any], int] = {}

        def finish(index: int, value: Any) -> None:
            scope[plan.nodes[index].id] = value
            for consumer in plan.consumers[index]:
                waiting[consumer] -= 1
                if waiting[consumer] == 0:
                    ready.append(consumer)

        try:
            while ready or running:
                while ready:
                    index = ready.popleft()
                    node = plan.nodes[index]
                    if isinstance(node, PlannedExpr):
                        finish(index, _evaluate(node.value, scope, node.id, f"{key}/{node.local}"))
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
        return [_evaluate(result, scope, key, key) for result in plan.results]

    def _node(self, node: PlannedNode, scope: dict[str, Any], key: str) -> Coroutine[Any, Any, Any]:
        match node:
            case PlannedCall():
                return self._lm_call(node, scope, f"{key}/{node.local}")
            case PlannedMap():
                return self._map(node, scope, f"{key}/{node.local}")
            case PlannedExpr():
                raise AssertionError("expressions are evaluated in place")

    async def _lm_call(self, node: PlannedCall, scope: dict[str, Any], key: str) -> Any:
        inputs = {}
        for argument in node.arguments:
            value = _evaluate(argument, scope, node.id, key)
            if isinstance(value, Failure):
                return value
            inputs[argument.name] = value
        return await self._call(node, key, inputs)

    async def _map(self, node: PlannedMap, scope: dict[str, Any], key: str) -> Any:
        items = _evaluate(node.items, scope, node.id, key)
        if isinstance(items, Failure):
            return items
        bodies = []
        for index, item in enumerate(items):
            inner = {**scope, node.element: item}
            inner_key = f"{key}[{index}]"
            if node.condition is not None:
                keep = _evaluate(node.condition, inner, node.id, inner_key)
                if isinstance(keep, Failure):
                    return keep
                if not keep:
                    continue
            bodies.append(self.region(node.body, inner, inner_key))
        results = await _gather(bodies)
        values = [result[0] for result in results]
        return next((value for value in values if isinstance(value, Failure)), values)


def _evaluate(operand: PlannedOperand, scope: Mapping[str, Any], node: str, key: str) -> Any:
    for value_id in operand.reads:
        value = scope[value_id]
        if isinstance(value, Failure):
            return value
    try:
        return operand.evaluate(scope)
    except NoValue as problem:
        return Failure("value", str(problem), node, key)


async def _gather(coroutines: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Results in order; if one raises or this is cancelled, the others are cancelled and awaited first."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
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
