"""Temperature and strategy as parameters of the search, where an objective names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmgraph.evaluate import make_task
from lmgraph.optimize import Lab, OptimizeResult
from lmgraph.optimize.difference import difference
from lmgraph.optimize.study import Study
from lmgraph.program import Program, artifact
from lmgraph.program.params import from_data, params_hash, to_data
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from lmgraph_optimizers.prompt import Prompt, PromptConfig
from lmgraph_optimizers.prompt.space import Space
from support.scripted import KIND_OF, LABELS, SORT, program_from, sort_rows, write_rows

KNOBS = "optimize: [Classify.instruction, Classify.temperature, Classify.strategy]"


def declared(folder: Path, knobs: str = KNOBS, **settings: str) -> Program:
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "words.jsonl", sort_rows())
    text = SORT.replace("  range: [0, 1]", f"  range: [0, 1]\n  {knobs}").replace("max_tokens: 16", "max_tokens: 96")
    for name, value in settings.items():
        text = text.replace("  max_tokens: 96\n", f"  max_tokens: 96\n  {name}: {value}\n")
    return program_from(folder, text)


def space(program: Program) -> Space:
    return Space.of(program, make_task(program), ("Classify",))


def test_only_what_is_declared_is_searched(tmp_path: Path) -> None:
    assert space(declared(tmp_path / "a", "")).settings == {}
    assert set(space(declared(tmp_path / "b", "optimize: [Classify.demos]")).settings) == set()
    found = space(declared(tmp_path / "c"))
    assert found.sizes() == {"Classify.temperature": 4, "Classify.strategy": 2}
    assert found.demo_sets == {}


def test_the_own_value_comes_first_and_once(tmp_path: Path) -> None:
    found = space(declared(tmp_path, temperature="0.7", strategy="cot")).settings
    assert [one.value for one in found["Classify.temperature"]] == [None, 0.0, 0.3, 1.0]
    assert [one.value for one in found["Classify.strategy"]] == [None, False]


def test_a_strategy_of_another_graph_is_no_knob(tmp_path: Path) -> None:
    found = space(declared(tmp_path, strategy="best_of", samples="3")).settings
    assert not any(name.endswith(".strategy") for name in found)


def test_a_choice_is_applied_and_told(tmp_path: Path) -> None:
    program = declared(tmp_path)
    found = space(program)
    choice = {"Classify.temperature": 2, "Classify.strategy": 1}
    tuned = found.applied(choice)
    assert (tuned.params.modules["Classify"].temperature, tuned.params.modules["Classify"].reasons) == (0.7, True)
    assert found.told(choice) == "Classify: temperature 0.7; Classify: cot"
    assert tuned.graph is program.graph
    again = Space.of(tuned, make_task(tuned), ("Classify",)).settings
    assert [one.value for one in again["Classify.temperature"]] == [None, 0.0, 0.3, 1.0], "0.7 is its own now"


async def test_a_run_takes_the_learned_settings(tmp_path: Path) -> None:
    program = declared(tmp_path)
    tuned = program.with_params(program.params.with_module("Classify", temperature=0.7, reasons=True))
    engine = ScriptedEngine(lambda prompt, request: '{"reasoning": "it grows", "kind": "fruit"}')
    async with Runtime(everything=engine) as runtime:
        trace = await runtime.run(tuned, {"word": "apple"})
    assert engine.requests[0].sampling.temperature == 0.7
    assert trace.calls[0].outputs == {"reasoning": "it grows", "kind": "fruit"}


def test_settings_are_kept_in_artifacts_and_told_by_diff(tmp_path: Path) -> None:
    program = declared(tmp_path)
    tuned = program.with_params(program.params.with_module("Classify", temperature=0.3, reasons=False))
    assert params_hash(tuned.params) != params_hash(program.params)
    assert from_data(to_data(tuned.params)) == tuned.params
    assert "temperature" not in to_data(program.params)["modules"]["Classify"]
    loaded = artifact.load(artifact.save(tuned, tmp_path / "tuned"))
    assert loaded.params.modules["Classify"].temperature == 0.3
    (module,) = difference(program, loaded).modules
    assert module.settings == {"temperature": (None, 0.3), "reasons": (None, False)}


async def test_the_search_finds_the_setting_that_helps(tmp_path: Path) -> None:
    """Reasoning first makes this model right; nothing else does."""

    def answer(prompt: str, request: GenerateRequest) -> Any:
        word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
        if "reasoning" in prompt:
            return json.dumps({"reasoning": "so", "kind": KIND_OF.get(word, LABELS[0])})
        return LABELS[0]

    program = declared(tmp_path / "program")
    task = make_task(program)
    options: dict[str, Any] = {"trials": 8, "minibatch": 3, "full_every": 4, "proposer": "none"}
    async with Runtime(everything=ScriptedEngine(answer)) as runtime:
        lab = Lab(runtime=runtime, task=task, study=Study.open(tmp_path / "study", "k"), stage="1-prompt")
        result: OptimizeResult = await Prompt(PromptConfig(**options)).optimize(program, task, lab)
    assert result.program.params.modules["Classify"].reasons is True
    assert "Classify: cot" in " ".join(result.notes)
