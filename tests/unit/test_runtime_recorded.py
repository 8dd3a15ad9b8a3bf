"""`Runtime.run(recorded=…)`: what changed runs again, with what it reaches; the rest is answered from earlier runs."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

from lmgraph.errors import EngineError
from lmgraph.evaluate import make_task
from lmgraph.evaluate.rollout import RolloutPlan, rollouts
from lmgraph.graph.types import STR
from lmgraph.program import Program
from lmgraph.runtime import Budget, Meter, RunIdentity, RunOptions, Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine
from support.graphs import flow, lm, module, out, program, ref
from support.scripted import sort_program

NAMES = ("A", "B", "C", "D")


def chain() -> Program:
    """Four modules, each of which reads what the one before it said."""
    nodes = [lm("F/a", ref("F/x"), "A"), lm("F/b", out("F/a"), "B"), lm("F/c", out("F/b"), "C")]
    made = flow("F", [*nodes, lm("F/d", out("F/c"), "D")], {"out": out("F/d")}, {"x": STR})
    return program(made, modules=[module(name, temperature=1.0) for name in NAMES])


def engine() -> ScriptedEngine:
    """Says something else to each prompt and seed."""

    def answer(prompt: str, request: GenerateRequest) -> str:
        return str(zlib.crc32(f"{prompt}{request.sampling.seed}".encode()))

    return ScriptedEngine(answer)


def tuned(made: Program, name: str) -> Program:
    return made.with_params(made.params.with_module(name, instruction=f"Do {name} better."))


async def test_a_chain_of_n_modules_takes_n_plus_1_over_2n_of_the_calls() -> None:
    made, serving = chain(), engine()
    async with Runtime(everything=serving) as runtime:
        first = await runtime.run(made, {"x": "x"})
        calls = []
        for name in NAMES:
            before = len(serving.requests)
            again = await runtime.run(tuned(made, name), {"x": "x"}, recorded=[first])
            calls.append(len(serving.requests) - before)
            whole = await runtime.run(tuned(made, name), {"x": "x"})
            assert again.outputs == whole.outputs
            assert [call.source for call in again.calls] == ["record"] * (4 - calls[-1]) + ["engine"] * calls[-1]
    assert calls == [4, 3, 2, 1]
    n = len(NAMES)
    assert sum(calls) / (n * n) == (n + 1) / (2 * n)


async def test_where_a_new_output_is_the_old_one_nothing_after_it_runs() -> None:
    made = chain()
    serving = ScriptedEngine({"": "the same"})
    async with Runtime(everything=serving) as runtime:
        first = await runtime.run(made, {"x": "x"})
        await runtime.run(tuned(made, "A"), {"x": "x"}, recorded=[first])
    assert [request.request_id for request in serving.requests[4:]] == ["F/a"]


async def test_what_is_answered_from_a_run_counts_against_no_budget() -> None:
    made = chain()
    async with Runtime(everything=engine(), meter=Meter(Budget(calls=5))) as runtime:
        first = await runtime.run(made, {"x": "x"})
        again = await runtime.run(tuned(made, "D"), {"x": "x"}, recorded=[first])
        assert runtime.meter.calls == 5
    assert again.outputs != first.outputs


async def test_other_inputs_another_seed_and_another_model_are_asked_for() -> None:
    made, serving = chain(), engine()
    async with Runtime(everything=serving) as runtime:
        first = await runtime.run(made, {"x": "x"})
        for inputs, options in (({"x": "y"}, None), ({"x": "x"}, RunOptions(seed=1))):
            before = len(serving.requests)
            again = await runtime.run(made, inputs, options=options, recorded=[first])
            assert len(serving.requests) == before + 4
            assert again.outputs == (await runtime.run(made, inputs, options=options)).outputs
    other = ScriptedEngine({"": "other"}, model_id="other")
    async with Runtime(everything=other) as runtime:
        await runtime.run(made, {"x": "x"}, recorded=[first])
    assert len(other.requests) == 4


async def test_a_call_that_its_engine_failed_is_made_again() -> None:
    made = chain()
    broken = ScriptedEngine(lambda prompt, request: EngineError("down") if request.request_id == "F/c" else "1")
    async with Runtime(everything=broken) as runtime:
        first = await runtime.run(made, {"x": "x"})
        assert first.failure is not None
    serving = ScriptedEngine({"": "1"})
    async with Runtime(everything=serving) as runtime:
        again = await runtime.run(made, {"x": "x"}, recorded=[first])
    assert again.failure is None
    assert [request.request_id for request in serving.requests] == ["F/c", "F/d"]


async def test_stubs_are_asked_and_the_answers_of_earlier_stubs_are_not_taken() -> None:
    made = chain()
    stubbed = RunOptions(stubs={"A": lambda given: {"out": "from a stub"}})
    async with Runtime(everything=engine()) as runtime:
        plain = await runtime.run(made, {"x": "x"})
        with_stub = await runtime.run(made, {"x": "x"}, options=stubbed, recorded=[plain])
        assert [step.output for step in with_stub.steps] == [{"out": "from a stub"}]
        again = await runtime.run(made, {"x": "x"}, recorded=[with_stub])
    assert again.outputs == plain.outputs
    assert again.steps == []


async def test_the_first_run_that_knows_answers() -> None:
    made = chain()
    async with Runtime(everything=engine()) as runtime:
        first = await runtime.run(made, {"x": "x"})
        other = replace(first, calls=[*first.calls[:3], replace(first.calls[3], completion_ids=[63])])
        assert (await runtime.run(made, {"x": "x"}, recorded=[first, other])).outputs == first.outputs
        assert (await runtime.run(made, {"x": "x"}, recorded=[other, first])).outputs == {"out": "?"}


async def test_rollouts_are_answered_from_earlier_ones_of_the_same_row_and_sample(tmp_path: Path) -> None:
    made = sort_program(tmp_path)
    task = make_task(made)
    rows = task.train[:4]
    plan = RolloutPlan(temperature=1.0, samples=2, study="s", phase="search")
    serving = ScriptedEngine({"": ["fruit", "tool", "animal"]})
    async with Runtime(everything=serving) as runtime:
        first = await rollouts(runtime, made, task, rows, plan)
        assert len(serving.requests) == 8
        traces = [one.trace for one in first]
        again = await rollouts(runtime, made, task, rows, plan, recorded=traces)
        assert len(serving.requests) == 8
        assert [one.score for one in again] == [one.score for one in first]
        other = replace(plan, step=1)
        await rollouts(runtime, made, task, rows, other, recorded=traces)
        assert len(serving.requests) == 16, "another step has other seeds"
        changed = made.with_params(made.params.with_module("Classify", instruction="Otherwise."))
        await rollouts(runtime, changed, task, rows, plan, recorded=[*traces, *(one.trace for one in again)])
        assert len(serving.requests) == 24
        assert first[0].trace.identity == RunIdentity("s", "search", 0, rows[0].id, 0)
