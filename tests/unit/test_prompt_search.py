"""`prompt`: the space, the search, what it chooses, and that it takes the same way again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgraph.evaluate import Task, make_task
from lmgraph.optimize import Lab, OptimizeResult
from lmgraph.optimize.study import Study
from lmgraph.program import Demo, Program
from lmgraph.program.params import params_hash
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, check_optimizer, last_user_turn
from lmgraph_optimizers.prompt import Prompt, PromptConfig
from lmgraph_optimizers.prompt.rewrites import Instruction
from lmgraph_optimizers.prompt.space import DemoSet, Space, choice_key
from support.scripted import KIND_OF, LABELS, SORT, program_from, sort_program, sort_rows, write_rows

SMALL = {"trials": 8, "minibatch": 3, "full_every": 4, "demo_sets": 3, "max_demos": 2, "instructions": 4}
TASK_WORDS = "You improve one step"


def good_words(*words: str, proposals: Sequence[str] = ("Say which kind the word is of.",)) -> Any:
    """Right where one of ``words`` is in the system turn; asked for an instruction, it gives ``proposals``."""

    def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
        if TASK_WORDS in prompt:
            return proposals
        word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
        system = prompt.partition("<|im_end|>")[0]
        return [KIND_OF[word] if any(good in system for good in words) else LABELS[0]]

    return answer


async def run(
    folder: Path,
    engine: ScriptedEngine,
    *,
    program: Program | None = None,
    task: Task | None = None,
    seed: int = 0,
    **options: Any,
) -> OptimizeResult:
    program = program or sort_program(folder / "program")
    async with Runtime(everything=engine) as runtime:
        lab = Lab(
            runtime=runtime,
            task=task or make_task(program),
            study=Study.open(folder / "study", "k"),
            stage="1-prompt",
            seed=seed,
            decoding="strict",
        )
        return await Prompt(PromptConfig(**{**SMALL, **options})).optimize(program, lab.task, lab)


def instruction(result: OptimizeResult, module: str = "Classify") -> str:
    return result.program.params.modules[module].instruction


async def test_it_keeps_the_optimizer_contract() -> None:
    await check_optimizer(Prompt, SMALL)


async def test_it_finds_the_rewrite_that_helps(tmp_path: Path) -> None:
    result = await run(tmp_path, ScriptedEngine(good_words("Answer with one of")), proposer="none", demo_sets=0)
    assert "Answer with one of: fruit, tool, animal." in instruction(result)
    assert result.stopped is None
    chosen = next(note for note in result.notes if note.startswith("Chosen: "))
    assert "Training rows: 1.000" in chosen
    best, *_, start = result.details["candidates"]
    assert best["score"] == 1.0
    assert best["rows"] == 6, "what is chosen was scored on all rows"
    assert start["score"] < 1.0


async def test_it_finds_the_proposal_that_helps(tmp_path: Path) -> None:
    proposed = "Decide what the word names, with great zeal."
    result = await run(tmp_path, ScriptedEngine(good_words("zeal", proposals=["", "ok", f'"{proposed}"'])), demo_sets=0)
    assert instruction(result) == proposed
    notes = " ".join(result.notes)
    assert "proposed instructions were usable" in notes


async def test_it_finds_demos_that_help(tmp_path: Path) -> None:
    def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
        word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
        return [KIND_OF[word] if prompt.count("assistant\n") > 2 else LABELS[0]]

    result = await run(tmp_path, ScriptedEngine(answer), proposer="none", instructions=1)
    assert len(result.program.params.modules["Classify"].demos) == 2
    assert instruction(result) == "Name the kind of thing."
    train = {row.id for row in make_task(sort_program(tmp_path / "again")).train}
    assert {demo.example for demo in result.program.params.modules["Classify"].demos} <= train


@pytest.mark.parametrize("rows_state", [True, False])
async def test_a_module_behind_one_whose_form_is_wrong_gets_demos_too(tmp_path: Path, rows_state: bool) -> None:
    """Nothing reaches it in the start; runs that are held to the form do, or rows state what it gives."""
    repeat = "module Repeat(kind: Kind) -> (same: Kind) {\n  max_tokens: 16\n}\n\nflow Sort"
    text = SORT.replace("flow Sort", repeat).replace("kind=out.kind)", "kind=again.same)")
    text = text.replace("(word=word)\n", "(word=word)\n  again = Repeat(kind=out.kind)\n")
    if not rows_state:
        text = text.replace("(kind=again", "(found=again").replace(
            "-> (kind: Kind) {\n  out", "-> (found: Kind) {\n  out"
        )
        text = text.replace("pred.kind", "pred.found")
    write_rows(tmp_path / "words.jsonl", sort_rows())

    def answer(prompt: str, request: GenerateRequest) -> str:
        turn = last_user_turn(prompt)
        word = turn.partition("word: ")[2].partition("\n")[0]
        right = KIND_OF[word] if word else turn.partition("kind: ")[2].partition("\n")[0]
        in_form = request.sampling.constraint is not None or prompt.count("assistant\n") > 1
        return right if in_form else f"Certainly! It is {right}."

    program = program_from(tmp_path, text)
    result = await run(tmp_path, ScriptedEngine(answer), program=program, proposer="none", instructions=1)
    assert all(node.demos for node in result.program.params.modules.values())
    notes = " ".join(result.notes)
    assert "Training rows: 1.000, the start 0.000" in notes
    assert "Never called" not in notes
    assert ("No run was needed to find demos." in notes) is rows_state


async def test_instructions_are_tried_with_the_demos_that_helped(tmp_path: Path) -> None:
    """Without demos every answer is in the wrong form, whatever the instruction says."""

    def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
        word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
        knows = len(word) % 2 or "Answer with one of" in prompt
        return [(KIND_OF[word] if knows else LABELS[0]) if prompt.count("assistant\n") > 1 else "Certainly!"]

    result = await run(tmp_path, ScriptedEngine(answer), proposer="none", trials=8, minibatch=6, rounds=1)
    assert "Training rows: 1.000, the start 0.000" in " ".join(result.notes)
    tried = [one["name"] for one in result.details["candidates"]]
    assert len([name for name in tried if "rewrite" in name and "labelled (2 demos)" in name]) == 3, "one at a time"


async def test_rows_that_are_not_run_state_demos_too(tmp_path: Path) -> None:
    result = await run(tmp_path, ScriptedEngine(good_words("kind")), proposer="none", trials=2, bootstrap_rows=1)
    assert "Rows state demos: Classify 6." in result.notes, "all but those that it scores on"


async def test_equal_seeds_take_the_same_way_and_others_may_not(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        engine = ScriptedEngine(good_words("Write kind"))
        await run(tmp_path / name, engine, seed=seed)
        asked.append(sorted(engine.prompts))
    assert asked[0] == asked[1]
    assert asked[0] != asked[2]


async def test_nothing_better_leaves_the_start(tmp_path: Path) -> None:
    result = await run(tmp_path, ScriptedEngine({"": "tool"}))
    assert params_hash(result.program.params) == params_hash(sort_program(tmp_path / "again").params)
    assert any("Nothing scored above the start" in note for note in result.notes)


async def test_trials_share_their_rows_and_random_numbers(tmp_path: Path) -> None:
    """Between two full evaluations every new combination is scored on the same rows, with the same seeds."""
    engine = ScriptedEngine(good_words("nothing of this"))
    await run(tmp_path, engine, proposer="none", demo_sets=0, trials=4, full_every=4, rounds=1)
    by_row: dict[str, set[int]] = {}
    for request, prompt in zip(engine.requests, engine.prompts, strict=True):
        by_row.setdefault(last_user_turn(prompt), set()).add(request.sampling.seed)
    assert all(len(seeds) == 1 for seeds in by_row.values())


async def test_bad_halves_are_pruned(tmp_path: Path) -> None:
    def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
        word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
        if "Given word: what is" in prompt and KIND_OF[word] == "tool":
            return ["fruit"]
        return ["animal" if "Copy the label" in prompt and word != "owl" else KIND_OF[word]]

    options: dict[str, Any] = {"demo_sets": 6, "instructions": 8, "trials": 40, "minibatch": 6, "rounds": 1}
    result = await run(tmp_path, ScriptedEngine(answer), proposer="none", **options)
    said = next(note for note in result.notes if "trials (" in note)
    assert int(said.partition("(")[2].split()[0]) > 0, said


async def test_a_closed_knob_stays_as_it_is(tmp_path: Path) -> None:
    source = SORT.replace("  metric: exact\n", "  metric: exact\n  optimize: [Classify.demos]\n")
    write_rows(tmp_path / "words.jsonl", [{"word": word, "kind": kind} for word, kind in KIND_OF.items()])
    program = program_from(tmp_path, source)
    engine = ScriptedEngine(good_words("Answer with one of"))
    result = await run(tmp_path, engine, program=program)
    assert instruction(result) == "Name the kind of thing."
    assert not any(TASK_WORDS in prompt for prompt in engine.prompts)
    shut = program_from(tmp_path, source.replace("[Classify.demos]", "[Classify.weights]"))
    result = await run(tmp_path / "shut", ScriptedEngine({"": "tool"}), program=shut)
    assert "Nothing of the flow may be changed" in result.notes[0]


async def test_the_search_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await run(tmp_path, ScriptedEngine(good_words("Write kind")), proposer="none")
    assert capfd.readouterr() == ("", "")


async def test_the_checkpoint_is_plain_json_and_goes_on_without_new_calls(tmp_path: Path) -> None:
    first = ScriptedEngine(good_words("Write kind"))
    whole = await run(tmp_path, first)
    state = json.loads((tmp_path / "study" / "work" / "1-prompt" / "checkpoint.json").read_text("utf-8"))
    assert {"start", "pools", "proposals", "scores"} <= set(state)
    second = ScriptedEngine(good_words("Write kind"))
    again = await run(tmp_path, second)
    assert second.requests == []
    assert params_hash(again.program.params) == params_hash(whole.program.params)
    assert again.details == whole.details
    assert again.notes == whole.notes


def test_options_grow_at_the_end_and_know_what_is_equal(tmp_path: Path) -> None:
    program = sort_program(tmp_path)
    space = Space.of(program, make_task(program), ("Classify",))
    assert space.sizes() == {}
    for text in ("Name the kind of thing!", "Other words here.", "other  WORDS here", "Third text now."):
        space.add_instruction("Classify", Instruction(text, "x"), 3)
    assert [one.text for one in space.instructions["Classify"]] == [
        "Name the kind of thing.", "Other words here.", "Third text now.",
    ]  # fmt: skip
    demo = Demo({"word": "fig"}, {"kind": "fruit"})
    for name, demos in (("no demos", ()), ("one", (demo,)), ("same", (demo,))):
        space.add_demo_set("Classify", DemoSet(name, demos))
    assert [one.name for one in space.demo_sets["Classify"]] == ["own", "one"]
    choice = {"Classify.instruction": 2, "Classify.demos": 1}
    tuned = space.applied(choice).params.modules["Classify"]
    assert (tuned.instruction, tuned.demos) == ("Third text now.", (demo,))
    assert space.applied({}).hash == program.hash
    assert space.told(choice) == "Classify: x; Classify: one (1 demos)"
    assert choice_key({"a": 0, "b": 2}) == choice_key({"b": 2})
