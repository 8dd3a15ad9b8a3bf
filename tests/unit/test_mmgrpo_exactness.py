"""Every trained token id and logprob is the sampler's own, prompts included, with demos in the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lmgraph.engines.local import open_local_engine
from lmgraph.errors import ConfigError
from lmgraph.optimize import OptimizeRun
from lmgraph.program.artifact import load
from lmgraph.runtime.engine import GenerateRequest, Generation
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer
from support.tiny_model import make_tiny_model
from support.tiny_training import OPTIONS, train, write_program


@dataclass
class Recorder:
    """Notes what the sampler read and chose, by identity of the run of tokens."""

    seen: dict[tuple[tuple[int, ...], tuple[int, ...]], list[list[float]]] = field(default_factory=dict)
    adapters: dict[str, set[str | None]] = field(default_factory=dict)
    """By module, what served it."""

    def wrap(self, engine: Any) -> Any:
        generate = engine.generate

        async def recorded(request: GenerateRequest) -> Generation:
            generation: Generation = await generate(request)
            key = (tuple(request.prompt_ids), tuple(generation.token_ids))
            self.seen.setdefault(key, []).append(list(generation.logprobs))
            return generation

        engine.generate = recorded
        return engine


@dataclass
class Updates:
    """What went into updates, and what they said."""

    samples: list[tuple[str, Any]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> Updates:
    noted = Updates()
    update = LoraTrainer.update

    def recording(self: LoraTrainer, samples: Any, old: Any = None) -> Any:
        noted.samples += [(self.name, sample) for sample in samples]
        stats = update(self, samples, old)
        noted.gaps.append(stats.gap.largest)
        return stats

    monkeypatch.setattr(LoraTrainer, "update", recording)
    return noted


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


async def test_trained_tokens_are_the_samplers_own(tmp_path: Path, model: Path, updates: Updates) -> None:
    program = write_program(tmp_path / "program")
    recorder = Recorder()
    engine = recorder.wrap(open_local_engine(str(model), dtype="float32", threads=1))
    run = await train(program, model, tmp_path, OPTIONS, engine=engine)
    await engine.aclose()
    assert len(updates.samples) > 10
    demo_tokens = engine.tokenizer.encode("One <|im_end|> more")
    with_demos = 0
    for _, sample in updates.samples:
        call = sample.call
        chosen = recorder.seen[tuple(call.prompt_ids), tuple(call.completion_ids)]
        assert list(call.logprobs) in chosen
        with_demos += call.module == "Say" and contains(call.prompt_ids, demo_tokens)
        assert call.module != "Say" or contains(call.prompt_ids, demo_tokens)
    assert with_demos > 0
    assert max(updates.gaps) < 1e-3, "sampler and trainer compute the same log-probabilities, adapter included"
    tuned = load(tmp_path / "study" / "stages" / "1-mmgrpo")
    assert {node.adapter for node in tuned.params.modules.values()} == {"shared@v3"}
    assert [stage.name for stage in run.stages] == ["start", "mmgrpo"]
    curves = run.stages[1].details["curves"]
    assert {len(values) for values in curves.values()} == {3}
    for module in ("Say", "Join"):
        for part in ("reward", "entropy", "share of groups that train", "advantage"):
            assert f"{module}: {part}" in curves
    assert "Say: entropy" in (tmp_path / "out" / "report.md").read_text("utf-8")
    steps = [event for event in read_events(tmp_path) if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3]
    assert all(event["bound"] >= event["times_fewer_tokens"] > 1 for event in steps)


async def test_each_module_has_its_own_adapter_where_asked(tmp_path: Path, model: Path, updates: Updates) -> None:
    program = write_program(tmp_path / "program")
    run = await train(program, model, tmp_path, {**OPTIONS, "adapters": "per_module", "minibatches": 2})
    assert {name for name, _ in updates.samples} == {"Say", "Join"}
    assert all(name == sample.call.module for name, sample in updates.samples)
    tuned = load(tmp_path / "study" / "stages" / "1-mmgrpo")
    assert {name: node.adapter.partition("@")[0] for name, node in tuned.params.modules.items() if node.adapter} == {
        "Say": "Say", "Join": "Join"
    }  # fmt: skip
    say, join = (load_file(ref.folder / "adapter_model.safetensors") for ref in tuned.params.adapters.values())
    assert any(not torch.equal(say[name], join[name]) for name in say)
    assert run.stages[1].calls > 0


async def test_several_lms_have_an_adapter_each_over_one_base_or_two(
    tmp_path: Path, model: Path, updates: Updates
) -> None:
    program = write_program(tmp_path / "program", join="lm: strong", before='lm strong { model: "other" }')
    one = open_local_engine(str(model), dtype="float32", threads=1)
    two = open_local_engine(str(make_tiny_model(tmp_path / "other", seed=1)), dtype="float32", threads=1)
    await train(program, model, tmp_path, OPTIONS, lms={"default": one, "strong": two})
    await one.aclose()
    await two.aclose()
    assert {(name, sample.call.module) for name, sample in updates.samples} == {
        ("shared-default", "Say"), ("shared-strong", "Join")
    }  # fmt: skip
    assert updates.gaps[0] < 1e-3
    assert updates.gaps[1] < 1e-3


async def test_a_model_that_gives_text_only_is_refused_before_any_call(tmp_path: Path, model: Path) -> None:
    from lmgraph.testing import ScriptedEngine

    program = write_program(tmp_path / "program")
    engine = ScriptedEngine({"": "text"}, token_exact=False)
    with pytest.raises(ConfigError, match="cannot train"):
        await train(program, model, tmp_path, OPTIONS, engine=engine)
    assert {request.sampling.temperature for request in engine.requests} <= {0.0}, (
        "only what scores the start was asked"
    )


async def test_a_run_cut_by_its_budget_goes_on_to_the_same_adapter(tmp_path: Path, model: Path) -> None:
    program = write_program(tmp_path / "program")

    async def train_exactly(name: str, calls: int | None = None) -> OptimizeRun:
        """Batches form by timing, and logprobs depend on the batch in their last digits: so one call a batch."""
        engine = open_local_engine(
            str(model), dtype="float32", threads=1, max_batch=1, share_prefixes=False, prefix_cache_mb=0
        )
        try:
            return await train(program, model, tmp_path / name, OPTIONS, calls=calls, engine=engine)
        finally:
            await engine.aclose()

    whole = await train_exactly("whole")
    start, stage = whole.stages
    cut = await train_exactly("cut", calls=start.calls * 2 + (stage.calls - start.calls) // 2)
    assert cut.stopped is not None
    assert len(cut.stages) == 2, "what was trained until then is scored and kept"
    steps_then = len(cut.stages[1].details["curves"]["reward"])
    assert 0 < steps_then < 3
    resumed = await train_exactly("cut")
    assert resumed.resumed
    assert resumed.stages[1].details["curves"] == stage.details["curves"]
    one, other = (adapter_of(tmp_path / name / "study" / "stages" / "1-mmgrpo") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert max(float(tensor.abs().max()) for name, tensor in one.items() if "lora_B" in name) > 1e-4


def read_events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "study" / "events.jsonl").read_text("utf-8").splitlines()]


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    (ref,) = load(folder).params.adapters.values()
    return load_file(ref.folder / "adapter_model.safetensors")


def contains(ids: Any, part: list[int]) -> bool:
    ids = list(ids)
    return any(ids[start : start + len(part)] == part for start in range(len(ids) - len(part) + 1))


LABELLED = """edition 1

enum Tone { calm loud "with an exclamation mark" }
record Row { words: list[str]  long: bool }

module Judge(word: str) -> (tone: Tone, why: str) { max_tokens: 30 }

flow Talk(words: list[str]) -> (tones: list[Tone]) {
  tones = [Judge(word=w).tone for w in words]
  return (tones)
}

dataset rows: Row = jsonl "rows.jsonl" { split: { train: 6, dev: 2 } }
metric calm(gold: Row, pred: Talk.out) -> bool = Tone.calm in pred.tones
objective talk { flow: Talk  data: rows  metric: calm }
"""


async def test_constrained_training_sees_what_the_sampler_could_choose(
    tmp_path: Path, model: Path, updates: Updates
) -> None:
    program = write_program(tmp_path / "program", text=LABELLED, demos=False)
    run = await train(program, model, tmp_path, {**OPTIONS, "decoding": "constrained"})
    assert len(updates.samples) > 5
    forced = chosen = 0
    for _, sample in updates.samples:
        call = sample.call
        assert call.constrained
        assert call.allowed is not None
        assert len(call.allowed) == len(call.completion_ids)
        chosen += sample.tokens
        forced += len(call.completion_ids) - sample.tokens
    assert forced > 0 < chosen, "a JSON object's own characters are no choice"
    assert max(updates.gaps) < 1e-3, "both renormalise over the same set"
    assert any(run.stages[1].details["curves"]["groups that train"])
