"""The language from its text to its traces, on a scripted model: strategies, loops, early returns, judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_path
from lmgraph.evaluate import evaluate, run_tests
from lmgraph.program import Program
from lmgraph.runtime import Runtime, Trace
from lmgraph.testing import ScriptedEngine, last_user_turn
from support.scripted import program_from, write_rows

TOOLS = """
def search(query: str) -> list:
    if query == "down":
        raise OSError("no network")
    return [f"about {query}"]

def length(answer: str) -> float:
    return float(len(answer))
"""

REACT = """
edition 1

retriever search(query: str) -> list[str] = py "tools:search"

module Find(question: str) -> (answer: str) {
  \"\"\"Find the answer.\"\"\"
  strategy: react
  tools: [search]
  max_steps: 3
}

flow F(question: str) -> (answer: str) {
  found = Find(question)
  return (answer=found.answer)
}

test "a stubbed react module needs no steps" {
  stub Find -> (answer="here")
  out = F(question="where?")
  assert out.answer == "here" else "the stub answers"
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools.py").write_text(TOOLS, encoding="utf-8")
    return tmp_path


async def run(program: Program, engine: ScriptedEngine, **inputs: Any) -> Trace:
    async with Runtime(everything=engine) as runtime:
        return await runtime.run(program, inputs)


async def test_react_searches_until_it_finishes_and_then_answers(folder: Path) -> None:
    queries = iter(["down", "cats"])

    def answer(prompt: str, request: Any) -> str:
        if "one step at a time" not in prompt:
            return "a cat"
        action = {"tool": "search", "query": next(queries, "")}
        action = action if action["query"] else {"tool": "finish"}
        return json.dumps({"thought": "hm", "action": action})

    done = await run(program_from(folder, REACT), ScriptedEngine(answer), question="what?")
    assert done.outputs == {"answer": "a cat"}
    assert [call.module for call in done.calls].count("Find.step") == 3
    assert [(step.name, step.failure is not None) for step in done.steps] == [("search", True), ("search", False)]
    steps = next(call for call in done.calls if call.module == "Find").inputs["steps"]
    assert "OSError: no network" in steps[0]["observation"]
    assert steps[1]["observation"] == '["about cats"]'
    keys = [call.call_key for call in done.calls if call.module == "Find.step"]
    assert [key.partition("[")[2][:1] for key in keys] == ["0", "1", "2"]


async def test_declared_tests_run(folder: Path) -> None:
    (folder / "p.lmg").write_text(REACT.lstrip(), encoding="utf-8")
    compiled = compile_path(folder / "p.lmg")
    program = Program.default(compiled.require(), folder)
    async with Runtime(everything=ScriptedEngine({})) as runtime:
        (result,) = await run_tests(program, compiled.tests, runtime=runtime)
    assert (result.status, result.title) == ("passed", "a stubbed react module needs no steps")


BEST = """
edition 1

fn length(answer: str) -> float = py "tools:length"

module Say(question: str) -> (answer: str) {
  strategy: best_of
  samples: 4
  select: length
  assert answer != "no" else "say more"
}

flow F(question: str) -> (answer: str) {
  said = Say(question)
  return (answer=said.answer)
}
"""


async def test_best_of_takes_the_best_sample_that_meets_the_asserts(folder: Path) -> None:
    samples = {0: "no", 1: "yes", 2: "maybe so", 3: "perhaps"}

    def answer(prompt: str, request: Any) -> str:
        return samples[int(request.request_id.rpartition("[")[2][0])]

    program = program_from(folder, BEST)
    engine = ScriptedEngine(answer)
    done = await run(program, engine, question="well?")
    assert done.outputs == {"answer": "maybe so"}
    assert engine.most_at_once == 4
    assert len(done.calls) == 4
    assert len({call.seed for call in done.calls}) == 4
    assert all(call.temperature > 0 for call in done.calls)


@pytest.mark.parametrize("select", ["length", "vote", ""])
async def test_best_of_fails_for_what_its_arguments_failed_for(folder: Path, select: str) -> None:
    text = BEST.replace("select: length", f"select: {select}" if select else 'check answer != "" else "empty"')
    text = text.replace("flow F(question: str)", "flow F(questions: list[str])").replace(
        "Say(question)", "Say(question=questions[1])"
    )
    engine = ScriptedEngine({"": "yes"})
    done = await run(program_from(folder, text), engine, questions=["only one"])
    assert done.failure is not None
    assert done.failure.message == "index 1 is outside the list, which has 1 elements"
    assert not engine.requests


LOOP = """
edition 1

module Next(notes: list[str]) -> (note: str, enough: bool) { }
module Weak(text: str) -> (text: str) { }

flow F(start: str, k: int where 0 < it <= 3) -> (notes: list[str], hops: int) {
  if start == "" {
    return (notes=[], hops=0)
  }
  var notes: list[str] = [start]
  var hops: int = 0
  repeat max 3 as hop {
    step = Next(notes)
    notes := notes + [step.note]
    hops := hop + 1
    check len(notes) < 3 else "short"
    stop if step.enough or hops >= k
  }
  last = Weak(text=notes[0]).text catch "weak"
  return (notes=notes + [last], hops)
}
"""


async def test_a_loop_with_exits_returns_and_a_fallback(folder: Path) -> None:
    def answer(prompt: str, request: Any) -> str:
        if "notes: " in last_user_turn(prompt):
            turn = last_user_turn(prompt)
            return json.dumps({"note": f"n{turn.count(',')}", "enough": "n1" in turn})
        return "strong"

    program = program_from(folder, LOOP)
    assert (await run(program, ScriptedEngine(answer), start="", k=1)).outputs == {"notes": [], "hops": 0}
    done = await run(program, ScriptedEngine(answer), start="s", k=1)
    assert done.outputs == {"notes": ["s", "n0", "strong"], "hops": 1}
    done = await run(program, ScriptedEngine(answer), start="s", k=3)
    assert done.outputs == {"notes": ["s", "n0", "n1", "n2", "strong"], "hops": 3}
    assert [check.passed for check in done.checks] == [True, False, False]
    with pytest.raises(Exception, match="must meet"):
        await run(program, ScriptedEngine(answer), start="s", k=4)


JUDGED = """
edition 1

lm strong { }

module Answer(question: str) -> (answer: str) { }
module Grade(answer: str) -> (grade: float where 0.0 <= it <= 1.0) {
  \"\"\"Grade it.\"\"\"
}

flow F(question: str) -> (answer: str) {
  said = Answer(question)
  return (answer=said.answer)
}

record Row { question: str }
dataset rows: Row = jsonl "rows.jsonl" { split: { train: 2, dev: 2 } }
metric graded(gold: Row, pred: F.out) -> float = Grade(answer=pred.answer).grade
metric cheap(gold: Row, pred: F.trace) -> bool = pred.calls == 1 and pred.failed_calls == 0

objective good {
  flow: F
  data: rows
  metric: [graded, cheap]
  weights: [0.5, 0.5]
  range: [0, 1]
  judge: strong
}
"""


async def test_a_judge_from_text(folder: Path) -> None:
    write_rows(folder / "rows.jsonl", [{"question": f"q{n}"} for n in range(4)])

    def answer(prompt: str, request: Any) -> str:
        return "0.5" if "Grade it." in prompt else "an answer"

    program = program_from(folder, JUDGED)
    async with Runtime(everything=ScriptedEngine(answer), store=folder / "t.db") as runtime:
        result = await evaluate(program, runtime=runtime)
        assert runtime.store is not None
        trace = runtime.store.find(result.rows[0].run_id)
    assert result.score == 0.75
    assert (result.calls, result.judge_calls) == (2, 2)
    assert [(call.lm, call.call_key.partition("/")[0]) for call in trace.judged] == [("strong", "graded")]


async def test_a_loop_that_returns_in_its_first_round(tmp_path: Path) -> None:
    text = """
module Ask(q: str) -> (a: str) {}
flow F(q: str) -> (a: str) {
  var a = q
  repeat max 3 {
    a := Ask(q=a).a
    return (a)
  }
  return (a="never")
}
"""
    async with Runtime(everything=ScriptedEngine({"": "once"})) as runtime:
        trace = await runtime.run(program_from(tmp_path, text), {"q": "x"})
    assert trace.outputs == {"a": "once"}
    assert [call.call_key for call in trace.calls] == ["F/repeat[0]/a#2.Ask"]
