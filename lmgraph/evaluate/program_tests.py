"""Declared tests: `test "…" { stub … out = F(…) assert … }`. Each is a flow of its own; its asserts are what it tests.

Python `fn`s and retrievers run for real. Tools do where they are allowed, and models where ``live`` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lmgraph.errors import ConfigError, DataError
from lmgraph.graph.graph import StubSpec, TestSpec
from lmgraph.program.expressions import compile_expression
from lmgraph.program.program import Program
from lmgraph.runtime.reach import reach, refuse_tools
from lmgraph.runtime.run import Stub
from lmgraph.runtime.service import RunOptions, Runtime
from lmgraph.runtime.trace import CheckRecord, Failure, RunIdentity, Trace


@dataclass(frozen=True, slots=True)
class TestResult:
    """What became of one test."""

    __test__ = False

    title: str
    status: Literal["passed", "failed", "skipped"]
    needs: tuple[str, ...] = ()
    """Of a skipped test: the modules that are neither stubbed nor allowed to run."""
    false: tuple[CheckRecord, ...] = ()
    """The asserts that are false, of flows it calls too, with the values they read."""
    failure: Failure | None = None
    """The first cause, where it failed."""
    problem: str | None = None
    """Why it could not run at all: a tool that may act, a stub's answer or Python that does not fit."""
    run_id: str | None = None
    seconds: float = 0.0

    def to_data(self) -> dict[str, Any]:
        """JSON-ready."""
        failure = self.failure
        return {
            "title": self.title,
            "status": self.status,
            "needs": list(self.needs),
            "false": [
                {"call": check.call_key, "message": check.message, "values": dict(check.values)} for check in self.false
            ],
            "failure": failure and {"kind": failure.kind, "message": failure.message, "call": failure.call_key},
            "problem": self.problem,
            "run_id": self.run_id,
            "seconds": round(self.seconds, 3),
        }


async def run_tests(
    program: Program,
    tests: Sequence[TestSpec],
    *,
    runtime: Runtime | None = None,
    live: bool = False,
    allow_effects: bool = False,
    seed: int = 0,
    progress: Callable[[TestResult], None] | None = None,
) -> list[TestResult]:
    """Run each test once, in order, one node at a time, so that stubs give their answers in the order of the source.

    Tests that would call a model are skipped unless ``live``. Without ``runtime`` one is opened with defaults.
    Raises: EngineUnavailable, BudgetExhausted. Everything else that goes wrong is in the results.
    """
    if runtime is None:
        async with Runtime() as own:
            return await run_tests(
                program, tests, runtime=own, live=live, allow_effects=allow_effects, seed=seed, progress=progress
            )
    results = []
    for test in tests:
        began = time.perf_counter()
        result = await _run_test(program, test, runtime, live=live, allow_effects=allow_effects, seed=seed)
        results.append(replace(result, seconds=time.perf_counter() - began))
        if progress is not None:
            progress(results[-1])
    return results


def with_test(program: Program, test: TestSpec) -> Program:
    """A program that has the test's flow too."""
    flows = tuple(sorted((*program.graph.flows, test.flow), key=lambda flow: flow.name))
    return replace(program, graph=replace(program.graph, flows=flows))


async def _run_test(
    program: Program, test: TestSpec, runtime: Runtime, *, live: bool, allow_effects: bool, seed: int
) -> TestResult:
    stubs = {stub.target: answering(stub) for stub in test.stubs}
    reached = reach(program.graph, test.flow.body, stubs)
    if reached.modules and not live:
        return TestResult(test.title, "skipped", needs=reached.modules)
    options = RunOptions(
        seed=seed,
        identity=RunIdentity(phase="test", example=test.title),
        effects="allow" if allow_effects else "refuse",
        stubs=stubs,
        one_at_a_time=True,
    )
    try:
        if not allow_effects:
            refuse_tools(program.graph, reached.externs, f'Test "{test.title}"')
        trace = await runtime.run(with_test(program, test), {}, flow=test.flow.name, options=options)
    except (ConfigError, DataError) as error:
        return TestResult(test.title, "failed", problem=str(error))
    return _judged(test, trace)


def _judged(test: TestSpec, trace: Trace) -> TestResult:
    false = tuple(check for check in trace.checks if check.kind == "assert" and check.passed is False)
    status: Literal["passed", "failed"] = "passed" if trace.failure is None else "failed"
    return TestResult(test.title, status, false=false, failure=trace.failure, run_id=trace.run_id)


def answering(spec: StubSpec) -> Stub:
    """A stub that gives the answers one a call, and the last one again and again."""
    answers = [_answer(answer) for answer in spec.answers]
    calls = iter(range(len(answers)))

    def answer(inputs: Mapping[str, Any]) -> Any:
        return answers[next(calls, len(answers) - 1)]()

    return answer


def _answer(operands: Sequence[Any]) -> Callable[[], Any]:
    """Makes a value of its own each time."""
    parts = [(operand.name, compile_expression(operand.value)) for operand in operands]
    if [name for name, _ in parts] == [""]:
        return lambda: parts[0][1]({})
    return lambda: {name: evaluate({}) for name, evaluate in parts}
