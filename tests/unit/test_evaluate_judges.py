"""Metrics that are regions: expressions, traces, Python inside, and judges that are models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import BudgetExhausted, DataError, EngineError
from lmgraph.evaluate import Example, RolloutPlan, Task, evaluate, rollouts
from lmgraph.evaluate.metric import Scorer
from lmgraph.graph.graph import DEFAULT_LM, LmSpec, MetricSpec, ModuleSpec, ObjectiveSpec, OutputCheck
from lmgraph.graph.nodes import Const, GetField, GetItem, LmCall, MakeList, Node, NodeId, Region
from lmgraph.graph.types import BOOL, FLOAT, INT, STR, Field, RecordType
from lmgraph.program import Program
from lmgraph.runtime import Budget, Meter, Runtime
from lmgraph.testing import Reply, ScriptedEngine
from support.graphs import (
    apply,
    each,
    either,
    extern,
    flow,
    lm,
    operands,
    out,
    parameter,
    program,
    python,
    ref,
    region,
    text_of,
    write_tools,
)

ROW = RecordType("Row", (Field("text", STR), Field("answer", STR)))
FLOW = flow("F", [lm("F/a", ref("F/text"))], {"answer": out("F/a")}, {"text": STR})
TRACE = RecordType("F.trace", (Field("out", FLOW.output_type), Field("calls", INT)))
GRADED = RecordType("Grade.out", (Field("grade", FLOAT),))
GRADE = ModuleSpec("Grade", (Field("answer", STR),), GRADED.fields, "Grade it.")
JUDGE = LmCall(NodeId("quality/j"), "Grade", operands({"answer": GetField(ref("quality/pred"), "answer")}), GRADED)


def metric(value: Any, *nodes: Node, name: str = "quality", reads: Any = "out", result: Any = FLOAT) -> MetricSpec:
    gold = parameter(f"{name}/gold", ROW)
    pred = parameter(f"{name}/pred", TRACE if reads == "trace" else FLOW.output_type)
    body = Region((gold, pred), nodes, operands({"": value}))
    return MetricSpec(name, gold.field, pred.field, "F", reads, result, body)


def task_of(
    *metrics: MetricSpec, judge: str | None = None, root: Path | None = None, **parts: Any
) -> tuple[Program, Task]:
    modules = [parts.pop("grade", GRADE)]
    made = program(FLOW, modules=modules, metrics=metrics, root=root, **parts)
    weights = (1.0 / len(metrics),) * len(metrics)
    objective = ObjectiveSpec("o", "F", "rows", tuple(one.name for one in metrics), weights, 0.0, 1.0, judge=judge)
    rows = [Example(f"rows:{n}", {"text": f"t{n}", "answer": f"[t{n}]"}) for n in range(4)]
    return made, Task("F", objective, {"dev": rows}, Scorer(made, objective))


def engine(grade: Any = "1.0", answers: Any = lambda text: f"[{text}]") -> ScriptedEngine:
    def answer(prompt: str, request: Any) -> Any:
        if "Grade it." in prompt:
            return grade(prompt) if callable(grade) else grade
        return answers(text_of(prompt))

    return ScriptedEngine(answer)


async def test_an_expression_reads_row_and_outputs() -> None:
    same = apply("==", GetField(ref("quality/gold"), "answer"), GetField(ref("quality/pred"), "answer"))
    made, task = task_of(metric(same, result=BOOL))
    async with Runtime(everything=engine()) as runtime:
        result = await evaluate(made, runtime=runtime, task=task)
    assert result.score == 1.0
    assert (result.judge_calls, result.failed_metrics) == (0, {})


async def test_a_trace_is_a_record() -> None:
    made, task = task_of(metric(apply("/", GetField(ref("cost/pred"), "calls"), 4), name="cost", reads="trace"))
    async with Runtime(everything=engine()) as runtime:
        assert (await evaluate(made, runtime=runtime, task=task)).score == 0.25
        fields = ("out", "calls", "failed_calls", "prompt_tokens", "completion_tokens", "seconds")
        for field in fields[1:]:
            made, task = task_of(metric(apply("*", GetField(ref("m/pred"), field), 0.0), name="m", reads="trace"))
            assert (await evaluate(made, runtime=runtime, task=task)).score == 0.0


async def test_a_judges_calls_are_kept_apart_counted_and_keyed_by_the_metric(tmp_path: Path) -> None:
    made, task = task_of(metric(GetField(ref("quality/j"), "grade"), JUDGE))
    async with Runtime(everything=engine("0.5"), store=tmp_path / "t.db") as runtime:
        done = await rollouts(runtime, made, task, task.dev, RolloutPlan(temperature=1.0, decoding="strict", samples=2))
        result = await evaluate(made, runtime=runtime, task=task)
        assert runtime.store is not None
        stored = runtime.store.find(done[0].trace.run_id)
        meter = runtime.meter.calls
    trace = done[0].trace
    assert done[0].score.value == 0.5
    assert ([one.call_key for one in trace.calls], [one.call_key for one in trace.judged]) == (["F/a"], ["quality/j"])
    judged = trace.judged[0]
    assert (judged.temperature, judged.constrained, judged.inputs) == (0.0, True, {"answer": "[t0]"})
    assert stored.judged == trace.judged
    assert stored.reward == 0.5
    assert (result.calls, result.judge_calls) == (4, 4)
    assert result.to_data()["judge_calls"] == 4
    assert meter == 2 * (8 + 4)


async def test_judges_run_on_the_objectives_lm() -> None:
    lms = (LmSpec(DEFAULT_LM), LmSpec("other"), LmSpec("strong"))
    own = replace(GRADE, lm="other")
    for grade, judge, expected in ((GRADE, "strong", "strong"), (own, "strong", "other"), (GRADE, None, DEFAULT_LM)):
        made, task = task_of(metric(GetField(ref("quality/j"), "grade"), JUDGE), judge=judge, grade=grade, lms=lms)
        async with Runtime(everything=engine()) as runtime:
            done = await rollouts(runtime, made, task, task.dev[:1], RolloutPlan())
        assert [(one.lm, one.module) for one in done[0].trace.judged] == [(expected, "Grade")]


@pytest.mark.parametrize(
    ("grade", "kind"),
    [
        (lambda prompt: Reply("no idea", "length"), "parse"),
        (lambda prompt: EngineError("the judge is ill"), "engine"),
        ("0.05", "assert"),
    ],
)
async def test_a_judge_that_fails_scores_low_and_is_counted_and_does_not_stop_the_run(grade: Any, kind: str) -> None:
    def ill_on_t1(prompt: str) -> Any:
        return "1.0" if "[t1]" not in prompt else grade(prompt) if callable(grade) else grade

    fair = OutputCheck(apply(">", ref("grade"), 0.1), "a grade above 0.1", True)
    plain = metric(1.0, name="plain")
    made, task = task_of(
        metric(GetField(ref("quality/j"), "grade"), JUDGE), plain, grade=replace(GRADE, checks=(fair,))
    )
    ill = engine(ill_on_t1)
    ill.constrains = kind != "parse"
    async with Runtime(everything=ill) as runtime:
        result = await evaluate(made, runtime=runtime, task=task)
    assert result.score == 0.75
    assert result.failed_metrics == {"quality": 1}
    assert result.failures == {}
    low = next(row for row in result.rows if row.failed_metrics)
    assert (low.example, low.score, low.failure, low.parts) == ("rows:1", 0.0, None, {"plain": 1.0})
    assert low.failed_metrics["quality"].startswith("quality/j")


async def test_a_metric_without_a_value_stops_where_no_judge_is_to_blame() -> None:
    beyond = metric(apply("+", 0.0, GetItem(MakeList((Const(1.0),)), Const(5))))
    made, task = task_of(beyond)
    async with Runtime(everything=engine()) as runtime:
        with pytest.raises(DataError, match=r"`quality` has no value on row rows:0: index 5 is outside"):
            await evaluate(made, runtime=runtime, task=task)


async def test_a_metric_may_call_python_branch_and_map(tmp_path: Path) -> None:
    write_tools(tmp_path, "def grade(text):\n    return len(text) / 4\n\ndef broken(text):\n    raise KeyError(text)\n")
    grade = extern("grade", "fn", FLOAT, [Field("text", STR)])
    broken = extern("broken", "fn", FLOAT, [Field("text", STR)])
    answer = GetField(ref("quality/pred"), "answer")
    texts = [
        each(
            "quality/all",
            MakeList((answer, answer)),
            region([python("quality/all/g", "grade", "fn", FLOAT, text=ref("quality/all/x"))], ref("quality/all/g")),
            "quality/all/x",
        ),
        either(
            "quality/if",
            apply(">", apply("len", ref("quality/all")), 1),
            region([], GetItem(ref("quality/all"), Const(1))),
            region([], 0.0),
        ),
    ]
    made, task = task_of(metric(ref("quality/if"), *texts), root=tmp_path, externs=[grade, broken])
    async with Runtime(everything=engine()) as runtime:
        assert (await evaluate(made, runtime=runtime, task=task)).score == 1.0
    raising = metric(ref("quality/g"), python("quality/g", "broken", "fn", FLOAT, text=answer))
    made, task = task_of(raising, root=tmp_path, externs=[grade, broken])
    async with Runtime(everything=engine()) as runtime:
        with pytest.raises(DataError, match=r"`broken` raised KeyError: '\[t0\]' \(at tools.py:5\)"):
            await evaluate(made, runtime=runtime, task=task)


async def test_judges_are_those_of_the_scorers_own_program() -> None:
    made, task = task_of(metric(GetField(ref("quality/j"), "grade"), JUDGE))
    tuned = made.with_params(made.params.with_module("Grade", instruction="Always grade 1.0."))
    async with Runtime(everything=engine("0.5")) as runtime:
        done = await rollouts(runtime, tuned, task, task.dev[:1], RolloutPlan())
    assert done[0].score.value == 0.5
    assert task.scorer.judges == ("Grade",)


async def test_judges_count_against_the_budget() -> None:
    made, task = task_of(metric(GetField(ref("quality/j"), "grade"), JUDGE))
    async with Runtime(everything=engine(), meter=Meter(Budget(calls=5))) as runtime:
        with pytest.raises(BudgetExhausted):
            await evaluate(made, runtime=runtime, task=task)
        assert runtime.meter.calls <= 5
