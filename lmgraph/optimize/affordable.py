"""Whether a budget can pay for an optimize run at all: asked before the first call."""

from __future__ import annotations

from collections.abc import Callable, Collection

from lmgraph.compiler.least import LeastCost
from lmgraph.errors import ConfigError
from lmgraph.evaluate.task import Task
from lmgraph.graph.graph import DEFAULT_LM
from lmgraph.passes import optimized, with_counts
from lmgraph.program.program import Program
from lmgraph.runtime.limits import Meter
from lmgraph.runtime.prompt import PromptRenderer
from lmgraph.runtime.service import Runtime


async def refuse_unaffordable(program: Program, task: Task, runtime: Runtime, meter: Meter, rows: int) -> None:
    """Refuses a run that could not even score its start on ``rows`` dev rows with what is left of the budget.

    The least is that of runs in which nothing fails. Tokens are those of prompts before their inputs, and one
    written a call; of an engine that gives text alone, one for each.
    Raises: ConfigError (E0602) with the sums; as `Bindings.engine` where there is a budget of tokens.
    """
    budget, off = meter.budget, runtime.passes_off
    if budget.calls is not None:
        _refuse("calls", budget.calls, meter.calls, a_row(program, task, off), rows)
    if budget.tokens is not None:
        tokens = await _tokens_of_calls(program, task, runtime)
        _refuse("tokens", budget.tokens, meter.tokens, a_row(program, task, off, tokens.__getitem__), rows)


def a_row(
    program: Program, task: Task, passes_off: Collection[str] = (), of_call: Callable[[str], int] = lambda module: 1
) -> int:
    """What running and scoring one row costs at least, in calls where ``of_call`` says nothing else."""
    runs = optimized(with_counts(program.graph, program.params.counts), passes_off)
    least = LeastCost(runs, of_call)
    return least.flow(task.objective.flow) + sum(map(least.metric, task.objective.metrics))


def _refuse(unit: str, budget: int, spent: int, a_row: int, rows: int) -> None:
    if a_row * rows <= budget - spent:
        return
    already = f", {spent:,} of which are spent," if spent else ""
    raise ConfigError(
        f"The budget of {budget:,} {unit}{already} cannot pay for this run: scoring the start on {rows:,} dev rows"
        f" takes {a_row * rows:,} {unit} or more, {a_row:,} a row, and what a stage finds is scored as well [E0602].",
        hint=f"raise --budget {unit}=, or score fewer rows with --dev-limit",
    )


async def _tokens_of_calls(program: Program, task: Task, runtime: Runtime) -> dict[str, int]:
    """By module, the tokens that one call takes at least."""
    graph, spec = program.graph, task.objective
    judges = {name for metric in spec.metrics for name in graph.judges_of(metric)}
    found: dict[str, int] = {}
    for name in {*graph.modules_of(spec.flow), *judges}:
        module = graph.module(name)
        lm = spec.judge if name in judges and spec.judge is not None and module.lm == DEFAULT_LM else module.lm
        engine = await runtime.bindings.engine(graph, lm)
        known = engine.token_exact
        renderer = PromptRenderer(module, program.params.modules[name], engine.tokenizer) if known else None
        found[name] = 2 if renderer is None else renderer.static_tokens + 1
    return found
