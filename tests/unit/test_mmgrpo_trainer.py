"""The trainer against plain per-sequence forward passes: same log-probabilities, loss and gradients."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from lmgraph.runtime import Call
from lmgraph_optimizers.mmgrpo.advantages import TrainingSample
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.loss import surrogate
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer
from lmgraph_optimizers.mmgrpo.trie import build_trie, micro_batches, unique_sequences
from support.tiny_model import make_tiny_model

CONFIG = MmgrpoConfig(precision="float32", rank=4, alpha=8)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def sample(
    prompt: list[int], completion: list[int], advantage: float, logprobs: list[float] | None = None
) -> TrainingSample:
    call = Call(
        node="F/a", call_key="F/a", module="M", lm="default", engine="local", model="m", adapter=None, template="t",
        prompt_ids=prompt, completion_ids=completion, logprobs=logprobs or [-5.5] * len(completion), temperature=1.0,
        seed=0, constrained=False, finish_reason="stop", text="", inputs={}, outputs={},
    )  # fmt: skip
    return TrainingSample(call, advantage)


def ragged_samples(seed: int = 0) -> list[TrainingSample]:
    """Prompts that share a prefix, completions of one to six tokens, repeats, one prompt that begins another."""
    rng = random.Random(seed)
    static = [rng.randrange(3, 380) for _ in range(12)]
    prompts = [static + [rng.randrange(3, 380) for _ in range(length)] for length in (3, 5, 0, 9)]
    samples = []
    for prompt in prompts:
        for _ in range(4):
            completion = [rng.randrange(3, 6) for _ in range(rng.randint(1, 6))]
            samples.append(sample(prompt, completion, rng.uniform(-1, 1)))
    return [*samples, samples[0], dataclasses.replace(samples[0], advantage=-0.4)]


def plain_logprobs(model: Any, one: TrainingSample, temperature: float) -> torch.Tensor:
    ids = torch.tensor([*one.call.prompt_ids, *one.call.completion_ids])
    logits = model(input_ids=ids[None]).logits[0].float() / temperature
    start = len(one.call.prompt_ids)
    predicted = torch.log_softmax(logits[start - 1 : -1], -1)
    return predicted.gather(1, ids[start:, None])[:, 0]


def perturbed(trainer: LoraTrainer) -> LoraTrainer:
    """LoRA starts at a zero update; give B some values so that the adapter takes part in what is compared."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return trainer


def test_trie_logprobs_equal_plain_ones(model_folder: Path) -> None:
    trainer = perturbed(LoraTrainer(model_folder, CONFIG, seed=0))
    samples = ragged_samples()
    trie = build_trie(unique_sequences(samples), trainer.device)
    logprobs_N = trainer.logprobs(trie, 0.7)
    seen = 0
    for where, chosen in trie.segments:
        for one in chosen:
            torch.testing.assert_close(logprobs_N[where], plain_logprobs(trainer.model, one, 0.7), atol=1e-5, rtol=1e-5)
            seen += 1
    assert seen == len(samples)
    plain_tokens = sum(len(one.call.prompt_ids) + len(one.call.completion_ids) - 1 for one in samples)
    assert trie.size < plain_tokens / 3


@pytest.mark.parametrize("micro_tokens", [1, 40, 10_000])
def test_loss_and_gradient_equal_the_plain_ones_whatever_the_micro_batch(model_folder: Path, micro_tokens: int) -> None:
    config = CONFIG.model_copy(update={"micro_tokens": micro_tokens, "max_grad_norm": 1e9})
    trainer = perturbed(LoraTrainer(model_folder, config, seed=0))
    samples = ragged_samples()
    tokens = sum(len(one.call.completion_ids) for one in samples)

    total = torch.zeros(())
    for one in samples:
        total = total + surrogate(
            plain_logprobs(trainer.model, one, 1.0),
            torch.tensor(one.call.logprobs),
            one.advantage,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
        )
    loss = -total / tokens
    loss.backward()  # type: ignore[no-untyped-call]
    expected = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    norm = torch.sqrt(sum((grad**2).sum() for grad in expected.values()))  # type: ignore[arg-type]

    trainer.model.zero_grad()
    got: dict[str, torch.Tensor] = {}
    trainer._optimizer.step = lambda: got.update(  # type: ignore[method-assign, misc]
        {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    )
    stats = trainer.update(samples, tokens, 1.0)
    assert stats.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert stats.grad_norm == pytest.approx(float(norm), rel=1e-4)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-5 * float(norm), rtol=1e-3)


def test_surrogate_by_hand() -> None:
    logprobs = torch.log(torch.tensor([0.5, 0.5, 0.1]))
    sampler = torch.log(torch.tensor([0.5, 0.25, 0.5]))  # ratios 1, 2, 0.2
    options = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0}
    assert float(surrogate(logprobs, sampler, 1.0, **options)) == pytest.approx(1 + 1.28 + 0.2)
    assert float(surrogate(logprobs, sampler, -1.0, **options)) == pytest.approx(-1 - 2 - 0.8)
    far = torch.log(torch.tensor([0.9])), torch.log(torch.tensor([0.1]))  # ratio 9: the dual clip holds it at 3
    assert float(surrogate(*far, -1.0, **options)) == pytest.approx(-3.0)


def test_micro_batches_keep_to_their_size_and_lose_nothing() -> None:
    sequences = unique_sequences(ragged_samples())
    batches = list(micro_batches(sequences, 40))
    assert [one for batch in batches for one in batch] == sequences
    assert len(batches) > 1
    for batch in batches:
        assert len(batch) == 1 or build_trie(batch, torch.device("cpu")).size <= 40


def test_a_non_finite_gradient_leaves_the_adapter_as_it_was(model_folder: Path) -> None:
    trainer = perturbed(LoraTrainer(model_folder, CONFIG, seed=0))
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    stats = trainer.update([sample([5, 6, 7], [8, 9], float("nan"))], 2, 1.0)
    assert stats.skipped
    assert all(torch.equal(before[name], parameter) for name, parameter in trainer.model.named_parameters())


@pytest.mark.filterwarnings("error:.*remote file.*", "error:.*config file.*")
def test_adapter_and_optimizer_state_survive_a_checkpoint(model_folder: Path, tmp_path: Path) -> None:
    samples = ragged_samples()
    trainer = LoraTrainer(model_folder, CONFIG, seed=3)
    for _ in range(2):
        trainer.update(samples, 50, 1.0)
    trainer.save_adapter(tmp_path / "adapter", "some-model")
    assert str(model_folder) not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    trainer.save_optimizer(tmp_path / "optimizer.safetensors")
    again = LoraTrainer(model_folder, CONFIG, seed=99, adapter=tmp_path / "adapter")
    again.load_optimizer(tmp_path / "optimizer.safetensors")
    assert again.steps == 2
    one, other = trainer.update(samples, 50, 1.0), again.update(samples, 50, 1.0)
    assert one == other
    for (_, left), (_, right) in zip(trainer._trained, again._trained, strict=True):
        assert torch.equal(left, right)
