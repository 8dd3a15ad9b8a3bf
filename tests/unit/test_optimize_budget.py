"""E0602: a budget that cannot pay for scoring the start is refused before the first call, with the sums."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.compiler.least import LeastCost
from lmgraph.errors import ConfigError
from lmgraph.evaluate import make_task
from lmgraph.optimize import OptimizeRun, StageSpec, optimize
from lmgraph.program import Program
from lmgraph.runtime import Budget, Runtime
from lmgraph.source import Source
from lmgraph.testing import ScriptedEngine
from support.scripted import SORT, program_from, sort_rows, write_rows

ASK = "module Ask(text: str) -> (a: str, ok: bool, items: list[str]) {}\n"
SAMPLED = "module Best(text: str) -> (a: str) { strategy: best_of  samples: 3  select: vote }\n"
LOOK = 'retriever look(text: str) -> list[str] = py "steps:look"\n'
REACT = "module Act(text: str) -> (a: str) { strategy: react  tools: [look]  max_steps: 5 }\n"


@pytest.mark.parametrize(
    ("body", "least"),
    [
        ("return (a=text)", 0),
        ("return (a=Ask(text).a + Ask(text).a)", 2),
        ("return (a=if text == \"\" then Ask(text).a else Ask(text=Ask(text).a).a)", 1),
        ("if text == \"\" {\n return (a=Ask(text).a)\n }\n b = Ask(text)\n return (a=Ask(text=b.a).a)", 1),
        ("b = Ask(text)\n if b.ok {\n return (a=b.a)\n }\n return (a=Ask(text=b.a).a)", 1),
        ("return (a=Ask(text).a catch Ask(text).a)", 1),
        ("b = [Ask(text=one).a for one in texts]\n return (a=b[0])", 0),
        ("b = [Ask(text=one).a for one in [\"x\", \"y\"]]\n return (a=b[0])", 2),
        ("b = [one for one in [\"x\", \"y\"] if Ask(text=one).ok]\n return (a=b[0])", 2),
        ("var b = text\n repeat max 4 { b := Ask(text=b).a }\n return (a=b)", 4),
        ("var b = text\n repeat max 4 { c = Ask(text=b)\n stop if c.ok\n b := Ask(text=b).a }\n return (a=b)", 1),
        ("return (a=Best(text).a)", 3),
        ("return (a=Act(text).a)", 2),
        ("return (a=G(text).a + G(text).a)", 2),
    ],
)  # fmt: skip
def test_what_a_run_takes_at_least(body: str, least: int) -> None:
    other = "flow G(text: str) -> (a: str) {\n return (a=Ask(text).a)\n}\n"
    text = f"{ASK}{SAMPLED}{LOOK}{REACT}{other}flow F(text: str, texts: list[str]) -> (a: str) {{\n {body}\n}}\n"
    graph = compile_source(Source("program.lmg", text), root=None).require()
    assert LeastCost(graph).flow("F") == least
    assert LeastCost(graph, lambda module: 10).flow("F") == 10 * least


JUDGED = SORT.replace("metric exact", "module Judge(kind: Kind) -> (good: bool) {}\nmetric exact").replace(
    "= gold.kind == pred.kind", "= Judge(kind=pred.kind).good"
)


def started(tmp_path: Path, source: str = SORT) -> Program:
    write_rows(tmp_path / "words.jsonl", sort_rows())
    return program_from(tmp_path, source)


async def run(
    tmp_path: Path, program: Program, engine: ScriptedEngine, budget: Budget, dev_limit: int | None = None
) -> OptimizeRun:
    async with Runtime(everything=engine) as runtime:
        return await optimize(
            program,
            [StageSpec("demos")],
            runtime=runtime,
            task=make_task(program),
            output=tmp_path / "out",
            study_folder=tmp_path / "study",
            budget=budget,
            dev_limit=dev_limit,
        )


@pytest.mark.parametrize(
    ("source", "budget", "sums"),
    [
        (SORT, Budget(calls=5), ["budget of 5 calls", "6 dev rows", "takes 6 calls or more", "1 a row"]),
        (JUDGED, Budget(calls=11), ["budget of 11 calls", "takes 12 calls or more", "2 a row"]),
        (SORT, Budget(tokens=100), ["budget of 100 tokens", "tokens or more"]),
    ],
)
async def test_too_small_a_budget_is_refused_before_the_first_call(
    tmp_path: Path, source: str, budget: Budget, sums: list[str]
) -> None:
    engine = ScriptedEngine({"": "fruit"})
    with pytest.raises(ConfigError, match="E0602") as found:
        await run(tmp_path, started(tmp_path, source), engine, budget)
    for text in sums:
        assert text in found.value.message
    assert "--dev-limit" in str(found.value.hint)
    assert engine.requests == []


async def test_fewer_rows_and_a_larger_budget_are_let_through(tmp_path: Path) -> None:
    engine = ScriptedEngine({"": "fruit"})
    done = await run(tmp_path, started(tmp_path), engine, Budget(calls=5), dev_limit=4)
    assert done.stopped is not None
    assert len(engine.requests) <= 5
    done = await run(tmp_path, started(tmp_path), engine, Budget(calls=6, tokens=10**6))
    assert [record.name for record in done.stages][:1] == ["start"]


async def test_what_was_scored_before_is_not_asked_for_again(tmp_path: Path) -> None:
    """A study that goes on has scored its start: what is left of the budget need not pay for that."""
    program, engine = started(tmp_path), ScriptedEngine({"": "fruit"})
    cut = await run(tmp_path, program, engine, Budget(calls=7))
    assert cut.stopped is not None
    again = await run(tmp_path, program, engine, Budget(calls=7))
    assert again.resumed
