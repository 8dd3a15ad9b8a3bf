"""Nothing that a run does depends on timing: calls, keys, seeds, values, first causes and the order of effects.

Programs are drawn at random: nested ifs, loops, maps, catches, called flows, exits, returns, asserts, Python that reads
or acts, and models that now and then fail. Each runs under several schedules, and once with nothing beside anything.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmgraph.errors import EngineError
from lmgraph.graph.verify import verify
from lmgraph.program import Program
from lmgraph.runtime import RunOptions, Runtime, Trace
from lmgraph.runtime.python import load_callable
from lmgraph.testing import ScriptedEngine
from support.drawn_graphs import drawn
from support.graphs import text_of, write_tools

TOOLS = """
import asyncio
import random

RNG = random.Random()

def short(who, x):
    return x[:3]

async def look(who, x):
    await asyncio.sleep(RNG.random() / 1000)
    if x.endswith("7"):
        raise LookupError(x)
    return x[-2:]

async def act(who, x):
    await asyncio.sleep(RNG.random() / 1000)
    if x.endswith(("3", "8")):
        raise OSError(x)
    return x[-2:]
"""


def engine(seed: int) -> ScriptedEngine:
    """Answers with a number below 50 that follows from what it is given, and fails for one in ten texts."""
    rng = random.Random(seed)

    def answer(prompt: str, request: Any) -> Any:
        number = zlib.crc32(text_of(prompt).encode()) % 52
        return EngineError(f"no answer to {number}") if number >= 50 else str(number)

    return ScriptedEngine(answer, latency=lambda request: rng.random() / 1000 if rng.random() < 0.8 else 0.0)


def signature(trace: Trace) -> dict[str, Any]:
    """All of a trace but its times and its own id."""
    return {
        "outputs": trace.outputs,
        "failure": trace.failure,
        "calls": [replace(call, started=0.0, seconds=0.0) for call in trace.calls],
        "steps": [replace(step, started=0.0, seconds=0.0) for step in trace.steps],
        "checks": trace.checks,
    }


async def observed(made: Program, schedule: int, *, one_at_a_time: bool = False) -> tuple[dict[str, Any], list[str]]:
    """What a run did, and in which order it acted, maps apart: their elements act at once."""
    load_callable("tools:act", made.root).__globals__["RNG"].seed(schedule)
    async with Runtime(everything=engine(schedule)) as runtime:
        trace = await runtime.run(made, {"x": "start"}, options=RunOptions(one_at_a_time=one_at_a_time))
    assert len(asyncio.all_tasks()) == 1
    acted = sorted((step for step in trace.steps if step.kind == "tool"), key=lambda step: step.started)
    return signature(trace), [step.call_key for step in acted if "/map" not in step.call_key]


FOLDER = tempfile.TemporaryDirectory(prefix="lmgraph-schedules-")
write_tools(Path(FOLDER.name), TOOLS)


@settings(max_examples=80, phases=(Phase.explicit, Phase.generate))  # a smaller seed is no smaller program
@given(st.integers(0, 10**9))
def test_a_run_is_the_same_under_every_schedule(seed: int) -> None:
    made = drawn(seed, Path(FOLDER.name))
    verify(made.graph)

    async def all_of_them() -> list[tuple[dict[str, Any], list[str]]]:
        plain = await observed(made, 0, one_at_a_time=True)
        return [plain, *[await observed(made, schedule) for schedule in (1, 2, 3)]]

    plain, *others = asyncio.run(all_of_them())
    for other in others:
        assert other == plain
