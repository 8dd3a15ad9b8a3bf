"""A run that is answered from earlier runs equals a whole one, and asks for nothing that they were asked for.

Programs are drawn at random, with modules that sample, Python that reads or acts, and a model that now and then fails;
then the parameters of some modules change.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmgraph.errors import EngineError
from lmgraph.graph.nodes import Expr, LmCall, Node
from lmgraph.program import Program
from lmgraph.runtime import RunIdentity, RunOptions, Runtime, Trace, TraceStore
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.runtime.python import load_callable
from lmgraph.testing import ScriptedEngine
from support.drawn_graphs import EXTERNS, Drawn
from support.graphs import lm, module, program, write_tools

TOOLS = """
CALLS = []

def short(who, x):
    return x[:3]

async def look(who, x):
    CALLS.append(("look", who, x))
    if x.endswith("7"):
        raise LookupError(x)
    return x[-2:]

async def act(who, x):
    CALLS.append(("act", who, x))
    if x.endswith(("3", "8")):
        raise OSError(x)
    return x[-2:]
"""
MODULES = ("M", "N", "P")
OPTIONS = RunOptions(seed=3, identity=RunIdentity("s", "search", 1, "row", 2))
FOLDER = tempfile.TemporaryDirectory(prefix="lmgraph-recorded-")
write_tools(Path(FOLDER.name), TOOLS)


class SeveralModules(Drawn):
    """As Drawn; each call is of one of three modules."""

    def node(self, at: str, path: str, scope: list[Expr], *rest: Any, **more: Any) -> tuple[Node, list[Expr]]:
        node, gives = super().node(at, path, scope, *rest, **more)
        if isinstance(node, LmCall):
            node = lm(node.id, node.arguments[0].value, self._rng.choice(MODULES))
        return node, gives


def drawn(seed: int) -> Program:
    rng = random.Random(seed)
    inner = SeveralModules(rng, "Inner").flow()
    outer = SeveralModules(rng, "Outer", ("Inner",)).flow()
    more = [module("N", temperature=1.0), module("P", retries=1)]
    return program(outer, inner, root=Path(FOLDER.name), externs=EXTERNS, modules=more)


def changed(made: Program, names: Sequence[str], word: str) -> Program:
    params = made.params
    for name in names:
        params = params.with_module(name, instruction=f"Do {name} {word}.")
    return made.with_params(params)


def engine() -> ScriptedEngine:
    """Answers with a number that follows from the prompt and the seed; no answer to one in twenty prompts."""

    def answer(prompt: str, request: GenerateRequest) -> Any:
        seed = request.sampling.seed if request.sampling.temperature else 0
        number = zlib.crc32(f"{prompt}{seed}".encode()) % 52
        return EngineError(f"no answer to {number}") if number >= 50 else str(number)

    return ScriptedEngine(answer)


@dataclass(frozen=True)
class Ran:
    trace: Trace
    asked: set[tuple[str, tuple[int, ...]]]
    """Call keys and prompts that the engine saw."""
    called: list[Any]
    """Python that was called, but for `short`."""


async def ran(made: Program, recorded: Sequence[Trace] = ()) -> Ran:
    calls = load_callable("tools:act", made.root).__globals__["CALLS"]
    calls.clear()
    serving = engine()
    async with Runtime(everything=serving) as runtime:
        trace = await runtime.run(made, {"x": "start"}, options=OPTIONS, recorded=recorded)
    return Ran(trace, {(one.request_id, tuple(one.prompt_ids)) for one in serving.requests}, list(calls))


def told(trace: Trace) -> Any:
    """All of a trace but its times, its own id and where its answers came from."""
    calls = [replace(call, started=0.0, seconds=0.0, source="engine") for call in trace.calls]
    steps = [replace(step, started=0.0, seconds=0.0) for step in trace.steps]
    return trace.program, trace.outputs, trace.failure, calls, steps, trace.checks


@settings(max_examples=120, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.integers(0, 10**9), st.lists(st.sampled_from(MODULES), unique=True, max_size=2))
def test_a_run_answered_from_others_equals_a_whole_one(seed: int, names: list[str]) -> None:
    made = drawn(seed)
    other = changed(made, names, "well")

    async def check() -> None:
        first = await ran(made)
        whole = await ran(other)
        again = await ran(other, [first.trace])
        assert told(again.trace) == told(whole.trace)
        answered = {(call.call_key, tuple(call.prompt_ids)) for call in first.trace.calls}
        assert again.asked == whole.asked - answered, "what it had no answer to, and nothing else"
        known = {(step.call_key, step.inputs["x"]) for step in first.trace.steps if step.kind != "lm"}
        assert Counter(again.called) == Counter(
            (step.name, step.inputs["who"], step.inputs["x"])
            for step in again.trace.steps
            if step.kind in ("retriever", "tool") and (step.call_key, step.inputs["x"]) not in known
        ), "Python with the same inputs is not called again"

    asyncio.run(check())


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.integers(0, 10**9))
def test_several_runs_answer_together_and_a_stored_one_as_well(seed: int) -> None:
    made = drawn(seed)
    one, two = changed(made, ["M"], "well"), changed(made, ["M", "N"], "better")

    async def check() -> None:
        earlier = [await ran(made), await ran(one)]
        with tempfile.TemporaryDirectory() as folder:
            store = TraceStore(Path(folder) / "t.db")
            for run in earlier:
                store.add(run.trace)
            stored = [store.find(run.trace.run_id) for run in earlier]
            store.close()
        whole = await ran(two)
        again = await ran(two, stored)
        assert told(again.trace) == told(whole.trace)
        answered = {(call.call_key, tuple(call.prompt_ids)) for run in earlier for call in run.trace.calls}
        assert again.asked == whole.asked - answered

    asyncio.run(check())
