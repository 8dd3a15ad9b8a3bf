"""Noninterference: in a program that compiles, two runs that differ in private values only ask public models, tools and
retrievers the same, except for what a release says.

Where a run does not complete, calls may be missing that the other run makes; those that both make are the same all the
same (docs/internals/information-flow.md).
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmgraph.graph.graph import Graph
from lmgraph.graph.labels_program import information_flow
from lmgraph.program import Program
from lmgraph.runtime import Runtime, Trace
from lmgraph.runtime import execute as executor
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.runtime.plan import PlannedCall
from lmgraph.runtime.planner import Planner
from lmgraph.runtime.trace import Failure
from lmgraph.testing import ScriptedEngine
from support import failing_programs
from support.meaning import answer
from support.private_programs import MODULES, Labelled, labelled_program, with_clearance
from support.programs import PYTHON

MANY = settings(max_examples=150, phases=[Phase.generate])
FEW = settings(max_examples=15, phases=[Phase.generate])
SEEDS = st.integers(0, 2**32)


def two_inputs(program: Labelled, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs of `Main` that differ in private ones only."""
    source = random.Random(f"inputs:{seed}")

    def text() -> str:
        return "".join(source.choices("abc", k=source.randrange(5)))

    def drawn() -> dict[str, Any]:
        return {
            "t": text(),
            "count": source.randrange(-2, 5),
            "ts": [text() for _ in range(source.randrange(4))],
            "m": source.choice((None, text())),
        }

    one, other = drawn(), drawn()
    return one, {name: other[name] if name in program.private else value for name, value in one.items()}


# -- what is asked for -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failures() -> Any:
    """Counts the failures of expressions from now on."""
    found: list[Failure] = []
    evaluate = executor.evaluate

    def watched(*arguments: Any) -> Any:
        value = evaluate(*arguments)
        if type(value) is Failure:
            found.append(value)
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "evaluate", watched)
        yield found


def asked(program: Labelled, graph: Graph, inputs: Mapping[str, Any], salt: str) -> tuple[dict[str, Any], bool]:
    """What public models, tools and retrievers are asked, by call key; and whether the run completes."""
    requests: dict[str, Any] = {}

    async def call(node: PlannedCall, key: str, arguments: Mapping[str, Any]) -> Any:
        if node.name.removesuffix(".step") in program.public:
            requests[key] = (node.name, dict(arguments))
        if node.name == "look" and program.private_look:
            return [f"{salt}{number}" for number in range(len(salt))]
        if node.name == "Act.step" and zlib.crc32(repr((key, arguments)).encode()) % 2:
            return {"thought": "look", "action": {"tool": "look", "q": arguments["q"]}}
        return answer(node.name, arguments)

    plan = Planner(graph).flow("Main")
    result = asyncio.run(executor.execute(plan, inputs, call, lambda record: None))
    return requests, not isinstance(result, Failure)


@MANY
@given(SEEDS)
def test_public_calls_follow_from_public_values(seed: int) -> None:
    program = labelled_program(seed)
    if not program.public:
        return
    one, other = two_inputs(program, seed)
    graph = program.same_releases()
    (first, completed), (second, completes) = asked(program, graph, one, "ab"), asked(program, graph, other, "xyz")
    both = first.keys() & second.keys()
    assert {key: first[key] for key in both} == {key: second[key] for key in both}
    if completed and completes:
        assert first == second


def test_the_programs_ask_public_models_beside_private_values(failures: list[Failure]) -> None:
    """The property says something: many programs have both, and few runs fail."""
    telling = whole = 0
    for seed in range(60):
        program = labelled_program(seed)
        one, _ = two_inputs(program, seed)
        failures.clear()
        calls, _ = asked(program, program.same_releases(), one, "ab")
        telling += bool(calls) and bool(information_flow(program.graph).given)
        whole += bool(calls) and not failures
    assert telling >= 8
    assert whole >= 15


def test_without_the_check_private_values_would_leak(failures: list[Failure]) -> None:
    """The same programs with everything public: the property is false of them, so it can tell."""
    leaking = 0
    for seed in range(40):
        program = labelled_program(seed)
        public = Labelled(
            program.text,
            with_clearance(program.graph, {*MODULES, "look", "put"}),
            program.private,
            frozenset((*MODULES, "look", "put")),
            program.private_look,
        )
        one, other = two_inputs(program, seed)
        leaking += asked(public, public.graph, one, "ab")[0] != asked(public, public.graph, other, "xyz")[0]
    assert leaking >= 10


# -- what fails ------------------------------------------------------------------------------------------------------


def asked_where_much_fails(graph: Graph, flow: str, s: list[str]) -> dict[str, Any] | None:
    """None where the run does not complete."""
    requests: dict[str, Any] = {}

    async def call(node: PlannedCall, key: str, arguments: Mapping[str, Any]) -> Any:
        number = zlib.crc32(repr((node.name, sorted(arguments.items()))).encode())
        if node.name in failing_programs.PUBLIC:
            requests[key] = (node.name, dict(arguments))
        if node.name in ("put", "note"):
            return "p" * (number % 3)
        return {"text": "t" * (number % 3), "ok": number % 2 == 0, "items": ["i"] * (number % 4)}

    result = asyncio.run(executor.execute(Planner(graph).flow(flow), {"s": s, "p": "a"}, call, lambda record: None))
    return None if isinstance(result, Failure) else requests


@pytest.mark.parametrize("flow", ["Main", "Outer"])
@MANY
@given(seed=SEEDS)
def test_what_fails_in_runs_that_complete_tells_nothing(flow: str, seed: int) -> None:
    """`Main` catches whatever fails in it; in `Outer` what fails may be caught, or not be needed."""
    graph = failing_programs.failing_program(seed, flow)
    if graph is not None:
        runs = [asked_where_much_fails(graph, flow, s) for s in ([], ["a"], ["bb", "c"], ["a", "b", "ccc"])]
        complete = [run for run in runs if run is not None]
        assert all(one == complete[0] for one in complete)
        assert flow != "Main" or len(complete) == len(runs)


def test_many_programs_with_failures_are_accepted() -> None:
    found = (failing_programs.failing_program(seed, "Main") for seed in range(60))
    graphs = [graph for graph in found if graph is not None]
    assert sum(bool(asked_where_much_fails(graph, "Main", ["a"])) for graph in graphs) >= 10


# -- what engines are sent -------------------------------------------------------------------------------------------


def script(prompt: str, request: GenerateRequest) -> str:
    return f"a{zlib.crc32(prompt.encode()) % 7}"


async def sent(program: Labelled, inputs: Mapping[str, Any], root: Path) -> tuple[list[Any], Trace]:
    """Every request that the engine of the public models got, and the trace."""
    cloud, here = ScriptedEngine(script, model_id="cloud"), ScriptedEngine(script, model_id="here")
    engines = {f"lm_{name}": cloud if name in program.public else here for name in MODULES}
    async with Runtime(lms=engines) as runtime:
        trace = await runtime.run(Program.default(program.same_releases(), root), inputs)
    return sorted((list(one.prompt_ids), repr(one.sampling), one.adapter) for one in cloud.requests), trace


@FEW
@given(SEEDS)
def test_engines_of_public_models_are_sent_the_same(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    program = labelled_program(seed)
    if not program.public or program.private_look:
        return
    root = tmp_path_factory.mktemp("program")
    (root / "steps.py").write_text(PYTHON, encoding="utf-8")
    one, other = two_inputs(program, seed)
    first, trace = asyncio.run(sent(program, one, root))
    second, other_trace = asyncio.run(sent(program, other, root))
    if any(run.failure is not None or any(call.failure for call in run.calls) for run in (trace, other_trace)):
        return
    assert first == second
