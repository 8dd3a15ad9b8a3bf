"""Groups of calls in programs with loops, what may be tuned of modules that strategies made, and tools in a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.errors import ConfigError
from lmgraph.evaluate import Example, RolloutPlan, Task, rollouts
from lmgraph.evaluate.metric import Scorer
from lmgraph.graph.graph import MetricSpec, ModuleSpec, ObjectiveSpec
from lmgraph.graph.nodes import GetField, Region
from lmgraph.graph.types import FLOAT, STR, Field
from lmgraph.optimize import Lab, group_calls
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from lmgraph.testing import ScriptedEngine
from support.graphs import (
    apply,
    echo,
    extern,
    flow,
    lm,
    module,
    operands,
    out,
    parameter,
    program,
    python,
    ref,
    region,
    repeat,
    stop,
    text_of,
    write_tools,
)

HOPS = flow(
    "F",
    [
        repeat(
            "F/hop",
            12,
            {"last": "start"},
            region(
                [
                    lm("F/hop/D", ref("F/hop/last")),
                    stop("F/hop/stop", apply("==", out("F/hop/D"), "done"), "F/hop", last="done"),
                ],
                last=out("F/hop/D"),
            ),
        ),
        lm("F/End", ref("F/hop:last")),
    ],
    {"out": out("F/End")},
    {"text": STR},
)


def task_of(made: Program, **settings: object) -> Task:
    objective = ObjectiveSpec("o", "F", "rows", ("long",), (1.0,), 0.0, 100.0, **settings)  # type: ignore[arg-type]
    return Task("F", objective, {"train": [Example("rows:1", {"text": "x"})]}, Scorer(made, objective))


def scored(*flows: object, **parts: object) -> Program:
    """With a metric that is the length of the output."""
    gold = parameter("long/gold")
    pred = parameter("long/pred")
    body = Region((gold, pred), (), operands({"": apply("*", apply("len", GetField(ref("long/pred"), "out")), 1.0)}))
    long = MetricSpec("long", gold.field, pred.field, "F", "out", FLOAT, body)
    return program(*flows, metrics=[long], **parts)  # type: ignore[arg-type]


async def test_groups_of_a_loop_are_ragged_and_in_order() -> None:
    def answer(prompt: str, request: object) -> str:
        key = request.request_id  # type: ignore[attr-defined]
        rounds = 2 + 9 * (request.sampling.seed % 2)  # type: ignore[attr-defined]
        return "done" if f"[{rounds}]" in key or text_of(prompt) == "done" else "again"

    made = scored(HOPS)
    task = task_of(made)
    async with Runtime(everything=ScriptedEngine(answer)) as runtime:
        plan = RolloutPlan(temperature=1.0, samples=6)
        done = await rollouts(runtime, made, task, task.train, plan)
    groups = {group.call_key: group for group in group_calls(done, format_return=-1.0)}
    lengths = {len(run.trace.calls) - 1 for run in done}
    assert len(lengths) > 1, "some rollouts stop before others"
    assert groups["F/hop[0]/D"].members[0].rollout == 0
    for key, group in groups.items():
        reached = [index for index, run in enumerate(done) if key in [call.call_key for call in run.trace.calls]]
        assert [member.rollout for member in group.members] == reached
        assert len(group.rollout_scores) == 6
        assert {member.call.call_key for member in group.members} == {key}
    assert len(groups["F/End"].members) == 6


def test_what_is_said_of_a_module_holds_for_those_derived_of_it() -> None:
    step = ModuleSpec("R.step", (Field("text", STR),), (Field("out", STR),), "", derived_from="R")
    frozen = ModuleSpec("Z.step", (Field("text", STR),), (Field("out", STR),), "", derived_from="Z")
    nodes = [lm("F/a", "x", "R.step"), lm("F/b", "x", "Z.step")]
    made = scored(
        flow("F", nodes, {"out": out("F/a")}, {"text": STR}),
        modules=[module("R"), step, module("Z", optimize=False), frozen],
    )
    assert made.graph.modules_of("F") == ("R.step", "Z.step")
    everything, some = task_of(made), task_of(made, knobs=(("R", "demos"),))
    assert everything.allows(made, "R.step", "weights")
    assert not everything.allows(made, "Z.step", "weights")
    assert some.allows(made, "R.step", "demos")
    assert not some.allows(made, "R.step", "weights")
    assert not some.allows(made, "M", "demos")


@pytest.mark.parametrize("effects", ["refuse", "allow"])
async def test_a_study_acts_only_where_it_may(tmp_path: Path, effects: str) -> None:
    write_tools(tmp_path, "def act():\n    return 'acted'\n")
    made = scored(
        flow("F", [python("F/t", "act", "tool")], {"out": ref("F/t")}, {"text": STR}),
        root=tmp_path,
        externs=[extern("act", "tool")],
    )
    task = task_of(made)
    async with Runtime(everything=echo()) as runtime:
        study = Study.open(tmp_path / "study", "key")
        lab = Lab(runtime=runtime, task=task, study=study, stage="1-x", effects=effects)  # type: ignore[arg-type]
        if effects == "allow":
            assert (await lab.evaluate(made, task.train)).score == 5.0
        else:
            with pytest.raises(ConfigError, match="may call the tool `act`"):
                await lab.evaluate(made, task.train)
