"""Every trained token id and logprob is the sampler's own, prompts included, with demos in the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lmgraph.compiler.compile import compile_path
from lmgraph.engines.local import open_local_engine
from lmgraph.evaluate import make_task
from lmgraph.optimize import OptimizeRun, StageSpec, optimize
from lmgraph.program import Demo, Program
from lmgraph.program.artifact import load
from lmgraph.runtime import Budget, Runtime
from lmgraph.runtime.engine import GenerateRequest, Generation
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer
from support.tiny_model import make_tiny_model

PROGRAM = '''edition 1

record Row { words: list[str]  long: bool }

module Say(word: str) -> (text: str) {
  """Say it."""
  max_tokens: 40
}

module Join(texts: list[str]) -> (text: str) { max_tokens: 80 }

flow Talk(words: list[str]) -> (texts: list[str], text: str) {
  texts = [Say(word=w).text for w in words]
  joined = Join(texts)
  return (texts, text=joined.text)
}

dataset rows: Row = jsonl "rows.jsonl" { split: { train: 6, dev: 2 } }
metric long(gold: Row, pred: Talk.out) -> bool = pred.text > "m" or len(pred.texts) > 2
objective talk { flow: Talk  data: rows  metric: long }
'''


@dataclass
class Recorder:
    """Notes what the sampler read and chose, by identity of the run of tokens."""

    seen: dict[tuple[tuple[int, ...], tuple[int, ...]], list[list[float]]] = field(default_factory=dict)

    def wrap(self, engine: Any) -> Any:
        generate = engine.generate

        async def recorded(request: GenerateRequest) -> Generation:
            generation: Generation = await generate(request)
            key = (tuple(request.prompt_ids), tuple(generation.token_ids))
            self.seen.setdefault(key, []).append(list(generation.logprobs))
            return generation

        engine.generate = recorded
        return engine


@pytest.fixture
def program(tmp_path: Path) -> Program:
    rows = [{"words": ["alpha", "beta", "gamma"][: 1 + i % 3], "long": True} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "program.lmg"
    path.write_text(PROGRAM)
    program = Program.default(compile_path(path).require(), tmp_path)
    demos = (Demo({"word": "one"}, {"text": "One <|im_end|> more"}), Demo({"word": "two"}, {"text": "Two"}))
    return program.with_params(program.params.with_module("Say", demos=demos))


async def test_trained_tokens_are_the_samplers_own(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    recorder = Recorder()
    engine = recorder.wrap(open_local_engine(str(folder), dtype="float32"))
    trained: list[Any] = []
    gaps: list[float] = []
    update = LoraTrainer.update

    def recording_update(self: LoraTrainer, samples: Any, tokens: int, temperature: float) -> Any:
        trained.extend(samples)
        stats = update(self, samples, tokens, temperature)
        gaps.append(stats.max_gap)
        return stats

    monkeypatch.setattr(LoraTrainer, "update", recording_update)
    options = {"steps": 3, "examples": 4, "samples": 6, "temperature": 1.0, "learning_rate": 1e-3, "rank": 4}
    async with Runtime(everything=engine) as runtime:
        run = await optimize(
            program,
            [StageSpec("mmgrpo", options)],
            runtime=runtime,
            task=make_task(program),
            output=tmp_path / "out",
            study_folder=tmp_path / "study",
        )
        await engine.aclose()
    assert len(trained) > 10
    demo_tokens = engine.tokenizer.encode("One <|im_end|> more")
    with_demos = 0
    for sample in trained:
        call = sample.call
        chosen = recorder.seen[tuple(call.prompt_ids), tuple(call.completion_ids)]
        assert list(call.logprobs) in chosen
        with_demos += call.module == "Say" and contains(call.prompt_ids, demo_tokens)
        assert call.module != "Say" or contains(call.prompt_ids, demo_tokens)
    assert with_demos > 0
    assert max(gaps) < 1e-3, "sampler and trainer compute the same log-probabilities in float32, adapter included"
    tuned = load(tmp_path / "study" / "stages" / "1-mmgrpo")
    assert {node.adapter for node in tuned.params.modules.values()} == {"shared@v3"}
    assert [stage.name for stage in run.stages] == ["start", "mmgrpo"]


async def test_a_run_cut_by_its_budget_goes_on_to_the_same_adapter(program: Program, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    options = {"steps": 3, "examples": 3, "samples": 6, "temperature": 1.0, "learning_rate": 1e-3, "rank": 4}

    async def run(name: str, calls: int | None) -> OptimizeRun:
        engine = open_local_engine(str(folder), dtype="float32", threads=1)
        async with Runtime(everything=engine) as runtime:
            done = await optimize(
                program,
                [StageSpec("mmgrpo", options)],
                runtime=runtime,
                task=make_task(program),
                output=tmp_path / f"{name}-out",
                study_folder=tmp_path / f"{name}-study",
                budget=Budget(calls=calls),
            )
        await engine.aclose()
        return done

    whole = await run("whole", None)
    start, stage = whole.stages
    cut = await run("cut", start.calls * 2 + (stage.calls - start.calls) // 2)
    assert cut.stopped is not None
    assert len(cut.stages) == 2, "what was trained until then is scored and kept"
    steps_then = len(cut.stages[1].details["curves"]["reward"])
    assert 0 < steps_then < 3
    resumed = await run("cut", None)
    assert resumed.resumed
    assert resumed.stages[1].details == stage.details
    one, other = (adapter_of(tmp_path / f"{name}-study" / "stages" / "1-mmgrpo") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    for name, tensor in one.items():  # batches form by timing, so logprobs differ in their last digits
        torch.testing.assert_close(tensor, other[name], atol=1e-4, rtol=1e-3, msg=name)
    assert max(float(tensor.abs().max()) for name, tensor in one.items() if "lora_B" in name) > 1e-4


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    (ref,) = load(folder).params.adapters.values()
    return load_file(ref.folder / "adapter_model.safetensors")


def contains(ids: Any, part: list[int]) -> bool:
    ids = list(ids)
    return any(ids[start : start + len(part)] == part for start in range(len(ids) - len(part) + 1))
