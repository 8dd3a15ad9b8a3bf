"""Sampler and trainer are compared on the same tokens: the gap is counted, and calls outside the band do not train."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lmgraph.engines.local import open_local_engine
from lmgraph.errors import EngineError
from lmgraph.runtime.engine import GenerateRequest, Generation
from lmgraph_optimizers.mmgrpo.base_model import BaseModel
from lmgraph_optimizers.mmgrpo.batch import TrainingSample, weigh
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.gap import Gap
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer, UpdateStats
from support.tiny_model import make_tiny_model
from support.tiny_training import OPTIONS, train, write_program
from support.training import make_sample


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def test_a_call_is_judged_by_its_mean_over_chosen_tokens() -> None:
    gap = Gap()
    kept = gap.keep(
        torch.tensor([-1.0, -1.0, -2.0, -2.0, -3.0]),
        torch.tensor([-1.1, -1.3, -2.0, -2.5, -3.0]),
        torch.tensor([0, 0, 1, 1, 2]),
        torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]),
        0.3,
    )
    assert kept.tolist() == [1.0, 1.0, 0.0, 0.0, 1.0], "0.2 on average, 0.5 on the one token chosen, 0"
    assert gap.mean == pytest.approx((0.1 + 0.3 + 0.5) / 4)
    assert gap.largest == pytest.approx(0.5)
    assert (gap.tokens, gap.calls, gap.dropped_calls, gap.dropped_tokens) == (4, 3, 1, 1)


@pytest.mark.parametrize("far", [-1.0, -400.0])
def test_a_call_outside_the_band_moves_nothing(model: Path, far: float) -> None:
    """The same update as without the call, its share of the weights aside; also where the ratio would be infinite."""
    prompts = [[5, 6, 7, 8], [5, 6, 9, 9], [30, 31]]
    true = _own_logprobs(model, prompts)
    samples = [
        make_sample(prompt, [11, 12, 13], 1.0 - index, logprobs=values, group=index)
        for index, (prompt, values) in enumerate(zip(prompts, true, strict=True))
    ]
    wrong = make_sample(prompts[0], [40, 41], -1.0, logprobs=[-1e-3 + far, -1e-3 + far], group=3)
    weighed = weigh([*samples, wrong], "batch")
    with_it, gradients = _update(model, weighed)
    without, expected = _update(model, weighed[:-1])
    assert with_it.gap.dropped_calls == 1
    assert with_it.gap.dropped_tokens == 2
    assert without.gap.dropped_calls == 0
    assert without.gap.largest < 1e-4
    assert not with_it.skipped
    assert any(value.abs().max() > 0 for value in expected.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


async def test_the_gap_of_each_step_is_in_the_curves_and_the_report(tmp_path: Path, model: Path) -> None:
    run = await train(write_program(tmp_path / "program"), model, tmp_path, {**OPTIONS, "minibatches": 2})
    stage = run.stages[1]
    curves = stage.details["curves"]
    assert 0 < max(curves["largest gap"]) < 1e-3, "the second minibatch is compared with the policy that sampled it"
    assert all(mean <= largest for mean, largest in zip(curves["gap"], curves["largest gap"], strict=True))
    assert not any(curves["calls outside the band"])
    assert any("Sampler and trainer differ by" in note for note in stage.notes)
    assert "largest gap" in (tmp_path / "out" / "report.md").read_text("utf-8")


async def test_calls_of_other_weights_are_dropped_by_name(tmp_path: Path, model: Path) -> None:
    engine = open_local_engine(str(model), dtype="float32", threads=1)
    generate, answered = engine.generate, 0

    async def shifted(request: GenerateRequest) -> Generation:
        nonlocal answered
        answered += 1
        generation: Generation = await generate(request)
        off = 1.0 if answered % 4 == 0 else 0.0
        return replace(generation, logprobs=[value - off for value in generation.logprobs])

    engine.generate = shifted  # type: ignore[method-assign]
    run = await train(write_program(tmp_path / "program"), model, tmp_path, OPTIONS, engine=engine)
    await engine.aclose()
    stage = run.stages[1]
    assert any(0.05 < share < 0.6 for share in stage.details["curves"]["calls outside the band"])
    assert any("mmgrpo.max_gap did not train" in note for note in stage.notes)
    assert "sampler and trainer too far apart" in (tmp_path / "study" / "events.jsonl").read_text("utf-8")


async def test_a_sampler_of_other_weights_altogether_ends_the_run(tmp_path: Path, model: Path) -> None:
    other: Any = open_local_engine(str(make_tiny_model(tmp_path / "other", seed=5)), dtype="float32", threads=1)
    other._folder = model
    with pytest.raises(EngineError, match=r"nats a token apart on every call of adapter shared.*mmgrpo\.max_gap"):
        await train(write_program(tmp_path / "program"), model, tmp_path, OPTIONS, engine=_Elsewhere(other, model))
    await other.aclose()


class _Elsewhere:
    """An engine that serves other weights than the folder it names."""

    def __init__(self, engine: Any, folder: Path) -> None:
        self._engine = engine
        self.model_folder = folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _own_logprobs(model: Path, prompts: list[list[int]]) -> list[list[float]]:
    trainer = LoraTrainer(BaseModel(model, MmgrpoConfig(rank=4)), MmgrpoConfig(rank=4), seed=0)
    samples = [make_sample(prompt, [11, 12, 13], 1.0) for prompt in prompts]
    found = trainer.policy(samples)
    by_prompt = {key[0] if isinstance(key, tuple) else key: values for key, values in found.items()}
    assert len(by_prompt) == len(prompts)
    return [values.tolist() for values in found.values()]


def _update(model: Path, samples: list[TrainingSample]) -> tuple[UpdateStats, dict[str, torch.Tensor]]:
    config = MmgrpoConfig(rank=4, max_grad_norm=1e9)
    trainer = LoraTrainer(BaseModel(model, config), config, seed=0)
    got: dict[str, torch.Tensor] = {}
    trainer._optimizer.step = lambda: got.update(  # type: ignore[method-assign, misc]
        {name: p.grad.clone() for name, p in trainer._trained if p.grad is not None}
    )
    stats = trainer.update(samples)
    assert math.isfinite(stats.loss)
    return stats, got
