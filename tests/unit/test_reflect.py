"""What a reflection reads, what may not be told, and what it learns from."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.evaluate import RolloutPlan, make_task
from lmgraph.evaluate.rollout import rollouts
from lmgraph.optimize import Lab
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, check_optimizer, last_user_turn
from lmgraph_optimizers.reflect import Reflect, ReflectConfig
from lmgraph_optimizers.reflect.feedback import Record, records
from support.scripted import KIND_OF, SORT, program_from, sort_rows, write_rows

TOLD = "say which: fruit grows, a tool is made"
METRIC = f'''
def score(gold, pred):
    return float(gold.kind == pred.kind), "right" if gold.kind == pred.kind else "{TOLD}"
'''


def told_program(folder: Path, text: str = SORT) -> Program:
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "words.jsonl", sort_rows())
    (folder / "metrics.py").write_text(METRIC, encoding="utf-8")
    return program_from(folder, text.replace("-> bool = gold.kind == pred.kind", '-> float = py "metrics:score"'))


async def read(program: Program, says: str, hidden: set[str]) -> dict[str, Record]:
    task = make_task(program)
    async with Runtime(everything=ScriptedEngine(lambda prompt, request: says)) as runtime:
        (run,) = await rollouts(runtime, program, task, task.train[:1], RolloutPlan("strict"))
    return records(run, task, {"Classify": hidden})


async def test_a_record_has_what_was_read_written_and_said(tmp_path: Path) -> None:
    program = told_program(tmp_path)
    row = make_task(program).train[0].values
    wrong = next(kind for kind in ("fruit", "tool") if kind != row["kind"])
    found = (await read(program, wrong, set()))["Classify"]
    assert found["inputs"] == f"word = '{row['word']}'"
    assert found["output"] == f"kind = '{wrong}'"
    for words in ("the run scored 0 of 1", TOLD, f"the program's result: kind = '{wrong}'", f"kind = '{row['kind']}'"):
        assert words in found["feedback"]


async def test_an_answer_that_does_not_parse_is_shown_as_it_is(tmp_path: Path) -> None:
    found = (await read(told_program(tmp_path), "no kind at all", set()))["Classify"]
    assert found["output"] == "no kind at all"
    assert "this step failed: " in found["feedback"]


async def test_private_values_are_not_shown_nor_words_about_them(tmp_path: Path) -> None:
    program = told_program(tmp_path)
    word = make_task(program).train[0].values["word"]
    for says in ("fruit", f"it is {word}"):
        found = (await read(program, says, {"word", "kind"}))["Classify"]
        assert word not in " ".join(found.values())
        assert TOLD not in found["feedback"]
        assert "(private)" in found["inputs"]


async def test_feedback_reaches_the_reflector_and_what_it_writes_the_module(tmp_path: Path) -> None:
    """The model is right once it was told how to tell; only the metric's words say so."""

    def answer(prompt: str, request: GenerateRequest) -> str:
        if "You improve the instruction" in prompt:
            return "Name the kind: what grows is a fruit." if TOLD in prompt else "Name the kind of the word."
        word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
        return KIND_OF[word] if "what grows" in prompt else "animal"

    program = told_program(tmp_path / "program")
    task = make_task(program)
    engine = ScriptedEngine(answer)
    async with Runtime(everything=engine) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(tmp_path / "study", "k"), stage="1-reflect")
        config = ReflectConfig(steps=4, minibatch=2, score_rows=6)
        result = await Reflect(config).optimize(program, task, lab)
    assert result.program.params.modules["Classify"].instruction == "Name the kind: what grows is a fruit."
    assert "Chosen: reflection 1: Classify, from the start. Training rows: 1.000" in " ".join(result.notes)
    assert result.details["curves"]["best on training rows"][-1] == 1.0
    asked = [prompt for prompt in engine.prompts if "You improve the instruction" in prompt]
    assert len(asked) == 1, "it ends where all rows have the highest score"


async def test_it_keeps_the_contract() -> None:
    await check_optimizer(Reflect, {"steps": 2, "minibatch": 2, "score_rows": 4})


@pytest.mark.parametrize("option", ["steps", "minibatch", "score_rows", "feedback_rows"])
def test_options_are_at_least_one(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        ReflectConfig(**{option: 0})
