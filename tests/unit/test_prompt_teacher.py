"""Teachers: another model, or a tuned version of the program, finds the demos that the program is then shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError
from lmgraph.evaluate import make_task
from lmgraph.optimize import Lab, OptimizeResult
from lmgraph.optimize.study import Study
from lmgraph.program import artifact
from lmgraph.runtime import Budget, Meter, Runtime, TraceStore
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.runtime.trace import Failure
from lmgraph.testing import ScriptedEngine, last_user_turn
from lmgraph_optimizers.demos import Demos, DemosConfig
from lmgraph_optimizers.prompt import Prompt, PromptConfig
from support.scripted import KIND_OF, sort_program, write_engine_plugin


def student(prompt: str, request: GenerateRequest) -> Sequence[str]:
    """Knows nothing by itself; repeats the kind of a demo that has one of its letters, or follows the word `zeal`."""
    word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
    knows = word in KIND_OF and (prompt.count("assistant\n") > 2 or "zeal" in prompt)  # no word: it is corrected
    return [KIND_OF[word] if knows else "no kind at all"]


def lab_of(folder: Path, runtime: Runtime) -> Lab:
    program = sort_program(folder / "program")
    return Lab(runtime=runtime, task=make_task(program), study=Study.open(folder / "study", "k"), stage="1-demos")


async def run(folder: Path, optimizer: type[Any], engine: ScriptedEngine, **options: Any) -> OptimizeResult:
    program = sort_program(folder / "program")
    async with Runtime(everything=engine) as runtime:
        lab = lab_of(folder, runtime)
        if optimizer is Demos:
            config: Any = DemosConfig(max_demos=2, candidates=1, **options)
        else:
            config = PromptConfig(max_demos=2, trials=4, minibatch=3, proposer="none", instructions=1, **options)
        result: OptimizeResult = await optimizer(config).optimize(program, lab.task, lab)
        return result


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the engine kind `words`, which knows every second word."""
    monkeypatch.syspath_prepend(str(write_engine_plugin(tmp_path / "site")))


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("optimizer", [Demos, Prompt])
async def test_a_model_that_knows_more_finds_demos(tmp_path: Path, optimizer: type[Any]) -> None:
    engine = ScriptedEngine(student, constrains=False)
    taught = await run(tmp_path, optimizer, engine, teacher="words:big")
    told = next(note for note in taught.notes if note.startswith("Bootstrapping"))
    assert "by the teacher words:big" in told
    demos = taught.program.params.modules["Classify"].demos
    assert len(demos) == 2
    assert all(demo.outputs["kind"] == KIND_OF[demo.inputs["word"]] for demo in demos)


async def test_a_tuned_version_teaches(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    tuned = program.with_params(program.params.with_module("Classify", instruction="Name it with zeal."))
    artifact.save(tuned, tmp_path / "tuned")
    engine = ScriptedEngine(student, constrains=False)
    result = await run(tmp_path, Demos, engine, teacher=str(tmp_path / "tuned"))
    params = result.program.params.modules["Classify"]
    assert "runs scored at least 1" in result.notes[1]
    assert len(params.demos) == 2
    assert params.instruction == "Name the kind of thing.", "what the teacher was told stays with it"


@pytest.mark.usefixtures("plugin")
async def test_a_teacher_counts_and_is_traced(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "traces.db")
    meter = Meter(Budget(calls=5))
    async with Runtime(everything=ScriptedEngine({"": "tool"}), meter=meter, store=store) as runtime:
        lab = lab_of(tmp_path, runtime)
        async with lab.bound_to("words:big") as bench:
            done = await bench.rollouts(sort_program(tmp_path / "program"), lab.task.train[:3], phase="x")
        assert meter.calls == 3
        assert {call.model for run in done for call in run.trace.calls if hasattr(call, "model")} <= {"big"}
        async with lab.bound_to(None) as same:
            assert same is lab
        with pytest.raises(ConfigError, match="nowhere"):
            async with lab.bound_to("nowhere:big"):
                pass
    store.close()


async def test_a_question_to_an_lm(tmp_path: Path) -> None:
    engine = ScriptedEngine({"": ["first", "second", "third"]})
    async with Runtime(everything=engine) as runtime:
        lab = lab_of(tmp_path, runtime)
        program = sort_program(tmp_path / "program")

        async def ask(key: str, **options: Any) -> str | Failure:
            return await lab.ask(
                program, "default", instruction="Say it.", inputs={"what": "a\nb"}, output="answer", phase="p", key=key,
                **options,
            )  # fmt: skip

        assert await ask("1", temperature=0.0) == "first"
        assert {await ask(str(index)) for index in range(12)} == {"first", "second", "third"}
        assert await ask("5") == await ask("5"), "equal purposes, equal answers"
        assert 'what: "a\\nb"\nanswer:' in last_user_turn(engine.prompts[0])
        assert lab.meter.calls == len(engine.requests)
        too_long = await ask("6", max_tokens=100_000)
        assert isinstance(too_long, Failure)
