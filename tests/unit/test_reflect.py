"""What a reflection reads, what may not be told, and what it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmgraph.evaluate import RolloutPlan, make_task
from lmgraph.evaluate.rollout import rollouts
from lmgraph.optimize import Lab, OptimizeResult
from lmgraph.optimize.study import Study
from lmgraph.program import Program
from lmgraph.program.params import params_hash
from lmgraph.runtime import Budget, Meter, Runtime
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


PAIR = (
    SORT.replace("train: 12, dev: 6, test: 6", "train: 18, dev: 3, test: 3")
    .replace(
        "flow Sort(word: str) -> (kind: Kind) {\n  out = Classify(word=word)\n  return (kind=out.kind)\n}",
        """module Check(word: str "one word") -> (kind: Kind "what it names") {
  \"\"\"Name the kind of thing.\"\"\"
  max_tokens: 16
}

flow Sort(word: str) -> (kind: Kind, again: Kind) {
  one = Classify(word=word)
  two = Check(word=word)
  return (kind=one.kind, again=two.kind)
}""",
    )
    .replace("-> bool = gold.kind == pred.kind", '-> float = py "metrics:score"')
)
HALVES = "def score(gold, pred):\n    return ((pred.kind == gold.kind) + (pred.again == gold.kind)) / 2\n"
NEW = "Look closely"


def apart(prompt: str, request: GenerateRequest) -> str:
    """Each module knows fruit. A new text costs it the short ones, and teaches the one tools and the other animals."""
    if "You improve the instruction" in prompt:
        return f"{NEW} at the word {request.sampling.seed % 97} times and name its kind."
    word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
    learned = "tool" if request.request_id == "Sort/one" else "animal"
    kind = KIND_OF[word]
    knows = kind == learned or (kind == "fruit" and len(word) > 4) if NEW in prompt else kind == "fruit"
    return kind if knows else "animal" if kind == "fruit" else "fruit"


async def search_pair(folder: Path, *, merge: bool = True, budget: Budget | None = None) -> OptimizeResult:
    """On a program of two modules; it goes on where the folder has a search."""
    write_rows(folder / "words.jsonl", sort_rows())
    (folder / "metrics.py").write_text(HALVES, encoding="utf-8")
    program = program_from(folder, PAIR)
    task = make_task(program)
    async with Runtime(everything=ScriptedEngine(apart), meter=Meter(budget)) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(folder / "study", "k"), stage="1-reflect", seed=6)
        config = ReflectConfig(steps=10, minibatch=3, score_rows=9, merge=merge)
        return await Reflect(config).optimize(program, task, lab)


@pytest.mark.parametrize("merge", [False, True])
async def test_texts_that_were_found_apart_are_merged_where_that_is_asked_for(tmp_path: Path, merge: bool) -> None:
    result = await search_pair(tmp_path, merge=merge)
    learned = [result.program.params.modules[name].instruction for name in ("Classify", "Check")]
    assert ("Chosen: reflections 3 and 4 merged. Training rows: 0.500" in " ".join(result.notes)) == merge
    assert ("of them merged)" in " ".join(result.notes)) == merge
    assert all(NEW in text for text in learned) == merge


async def test_a_search_that_merges_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = await search_pair(tmp_path / "whole")
    cut = await search_pair(tmp_path / "cut", budget=Budget(calls=60))
    assert cut.stopped is not None
    done = await search_pair(tmp_path / "cut")
    assert (done.notes, done.details) == (whole.notes, whole.details)
    assert params_hash(done.program.params) == params_hash(whole.program.params)


async def test_gepa_knows_modules_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws in the order of a set of their names, and that of texts differs from process to process."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("gepa.optimize", lambda **options: given.update(options))
    await search_pair(tmp_path)
    assert list(given["seed_candidate"]) == [0, 1]
    assert given["use_merge"]


async def test_it_keeps_the_contract() -> None:
    await check_optimizer(Reflect, {"steps": 2, "minibatch": 2, "score_rows": 4})


@pytest.mark.parametrize("option", ["steps", "minibatch", "score_rows", "feedback_rows"])
def test_options_are_at_least_one(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        ReflectConfig(**{option: 0})
