"""The trainer against plain per-call forward passes: same log-probabilities, loss and gradients."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.utils.save_and_load import load_peft_weights

from lmgraph_optimizers.mmgrpo.base_model import BaseModel
from lmgraph_optimizers.mmgrpo.batch import TrainingSample, is_forced, weigh
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
from lmgraph_optimizers.mmgrpo.loss import importance_weights, k3, surrogate
from lmgraph_optimizers.mmgrpo.mixed import MixedLinear
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer
from lmgraph_optimizers.mmgrpo.trie import build_trie, micro_batches, trie_size, unique_sequences
from support.tiny_model import make_adapter, make_tiny_model
from support.training import make_sample, pack_allowed, ragged_samples

# The samples' logprobs are made up.
CONFIG = MmgrpoConfig(precision="float32", rank=4, alpha=8, max_gap=1e9)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


@pytest.fixture
def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers normalises in float32 whatever the model is in; its rounding would be all that these tests see."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = (
            self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        )
        return scaled

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def perturbed(folder: Path, config: MmgrpoConfig, dtype: torch.dtype = torch.float32) -> LoraTrainer:
    """LoRA starts at a zero update; give B some values so that the adapter takes part in what is compared."""
    trainer = LoraTrainer(BaseModel(folder, config, dtype=dtype), config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in trainer._trained:
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return trainer


class Plain:
    """The same model by one ordinary forward pass a call: transformers' own attention and PEFT's own layers."""

    def __init__(self, folder: Path, trainer: LoraTrainer, work: Path) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        trainer.base.save_adapter(trainer.name, work / "adapter", "m")
        dtype = trainer._trained[0][1].dtype
        base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        self.model: Any = PeftModel.from_pretrained(base, work / "adapter", is_trainable=True)
        self.model.to(dtype)

    def logprobs(self, sample: TrainingSample) -> torch.Tensor:
        call = sample.call
        ids = torch.tensor([*call.prompt_ids, *call.completion_ids])
        logits = self.model(input_ids=ids[None]).logits[0] / call.temperature
        start = len(call.prompt_ids)
        rows = []
        for offset, token in enumerate(call.completion_ids):
            row = logits[start - 1 + offset]
            if call.allowed is not None:
                packed = zlib.decompress(call.allowed[offset])
                may = torch.tensor([bool(packed[v // 8] >> v % 8 & 1) for v in range(len(row))])
                row = row.masked_fill(~may, -torch.inf)
            rows.append(torch.log_softmax(row, -1)[token])
        return torch.stack(rows)

    def loss(self, samples: list[TrainingSample], config: MmgrpoConfig) -> torch.Tensor:
        total = torch.zeros((), dtype=next(self.model.parameters()).dtype)
        for sample in samples:
            log_pi = self.logprobs(sample)
            log_mu = torch.tensor(sample.call.logprobs, dtype=log_pi.dtype)
            behaviour, weights = log_mu, torch.full_like(log_pi, sample.weight)
            if sample.call.allowed is not None:
                chosen = torch.tensor([not is_forced(packed) for packed in sample.call.allowed])
                weights = weights * chosen
            plain_weights = weights
            if config.mismatch == "tis":
                behaviour = log_pi.detach()
                weights = weights * importance_weights(behaviour, log_mu)
            terms = surrogate(
                log_pi, behaviour, torch.full_like(log_pi, sample.advantage),
                clip_low=config.clip_low, clip_high=config.clip_high, dual_clip=config.dual_clip,
            )  # fmt: skip
            total = total - (weights * terms).sum()
            if config.kl:
                with torch.no_grad(), self.model.disable_adapter():
                    reference = self.logprobs(sample)
                total = total + config.kl * (plain_weights * k3(log_pi, reference)).sum()
        return total

    def gradients(self) -> dict[str, torch.Tensor]:
        return {
            name.replace(".default.", "."): parameter.grad.clone()
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }


def gradients_of(trainer: LoraTrainer, samples: list[TrainingSample]) -> tuple[Any, dict[str, torch.Tensor]]:
    got: dict[str, torch.Tensor] = {}
    trainer._optimizer.step = lambda: got.update(  # type: ignore[method-assign, misc]
        {name: p.grad.clone() for name, p in trainer._trained if p.grad is not None}
    )
    return trainer.update(samples), got


VARIANTS: list[dict[str, Any]] = [
    {},
    {"micro_tokens": 1},
    {"micro_tokens": 40},
    {"aggregation": "sequence", "micro_tokens": 40},
    {"aggregation": "module"},
    {"mismatch": "tis", "micro_tokens": 40},
    {"kl": 0.1, "micro_tokens": 40},
    {"kl": 0.1, "recompute": "always"},
]


@pytest.mark.parametrize("masks", [False, True], ids=["free", "constrained"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_loss_and_gradient_equal_the_plain_ones(
    model_folder: Path,
    tmp_path: Path,
    exact_norms: None,
    options: dict[str, Any],
    dtype: torch.dtype,
    masks: bool,
) -> None:
    config = CONFIG.model_copy(update={**options, "max_grad_norm": 1e9})
    trainer = perturbed(model_folder, config, dtype)
    samples = weigh(ragged_samples(masks=masks, temperature=0.7), config.aggregation)
    plain = Plain(model_folder, trainer, tmp_path)
    expected_loss = plain.loss(samples, config)
    expected_loss.backward()  # type: ignore[no-untyped-call]
    expected = plain.gradients()
    stats, got = gradients_of(trainer, samples)
    tolerance = TOLERANCE[dtype]
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in expected.values()))
    assert stats.loss == pytest.approx(float(expected_loss.detach()), rel=tolerance, abs=tolerance)
    assert stats.grad_norm == pytest.approx(norm, rel=10 * tolerance)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, atol=tolerance * norm, rtol=tolerance * 100)


@pytest.mark.parametrize("masks", [False, True], ids=["free", "constrained"])
def test_trie_logprobs_equal_plain_ones(model_folder: Path, tmp_path: Path, masks: bool) -> None:
    trainer = perturbed(model_folder, CONFIG, torch.float64)
    samples = ragged_samples(masks=masks, temperature=0.7)
    plain = Plain(model_folder, trainer, tmp_path)
    trie = build_trie(unique_sequences(samples), trainer.base.device)
    logprobs_N, entropies_N = trainer.base.logprobs(trie, trainer.name)
    seen = 0
    for where, chosen in trie.segments:
        for one in chosen:
            torch.testing.assert_close(logprobs_N[where], plain.logprobs(one), atol=1e-9, rtol=1e-9)
            seen += 1
    assert seen == len(samples)
    assert bool((entropies_N >= 0).all())
    plain_tokens = sum(len(one.call.prompt_ids) + len(one.call.completion_ids) - 1 for one in samples)
    assert trie.size == trie_size(unique_sequences(samples)) < plain_tokens / 2


def test_an_output_layer_that_does_more_takes_the_long_way(model_folder: Path, tmp_path: Path) -> None:
    trainer = perturbed(model_folder, CONFIG, torch.float64)
    trie = build_trie(unique_sequences(ragged_samples(masks=True)), trainer.base.device)
    short, entropy = trainer.base.logprobs(trie, trainer.name)
    trainer.base._plain_head = False
    long, same_entropy = trainer.base.logprobs(trie, trainer.name)
    torch.testing.assert_close(short, long, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(entropy, same_entropy, atol=1e-10, rtol=1e-10)


def check_one_sequence(folder: Path, tolerance: float, dtype: torch.dtype = torch.float64) -> None:
    """The trainer's log-probabilities of one sample are those of transformers' own attention."""
    from transformers import AutoModelForCausalLM

    base = BaseModel(folder, CONFIG, dtype=dtype)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    sample = make_sample(list(range(10, 25)), [4, 5, 6], 1.0)
    logprobs_N, _ = base.logprobs(build_trie(unique_sequences([sample]), base.device), None)
    ids = torch.tensor([*sample.call.prompt_ids, *sample.call.completion_ids])
    expected = torch.log_softmax(plain(input_ids=ids[None]).logits[0], -1)[14:17].gather(1, ids[15:, None])[:, 0]
    torch.testing.assert_close(logprobs_N.double(), expected.detach().double(), atol=tolerance, rtol=tolerance)


def test_a_sliding_window_hides_what_is_further_away(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=5, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = MistralForCausalLM(config)
    model.save_pretrained(tmp_path / "model")
    check_one_sequence(tmp_path / "model", 1e-9)


def test_sinks_take_a_share_of_the_weights(tmp_path: Path) -> None:
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, sliding_window=5, max_position_embeddings=64, initializer_range=0.2,
        num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = GptOssForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(parameter, std=2.0)
    model.save_pretrained(tmp_path / "model")
    check_one_sequence(tmp_path / "model", 1e-5, torch.float32)  # the products of its experts know no float64


def test_mixed_products_and_their_gradient() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(24, 16)
    with torch.no_grad():
        plain.weight.copy_(plain.weight.bfloat16())
    mixed = MixedLinear(plain)
    x_NI = torch.randn(5, 24, requires_grad=True)
    same_NI = x_NI.detach().bfloat16().float().requires_grad_()
    gradient_NO = torch.randn(5, 16).bfloat16().float()
    found, expected = mixed(x_NI), plain(same_NI)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.02, rtol=2**-7)
    found.backward(gradient_NO)
    expected.backward(gradient_NO)
    assert x_NI.grad is not None
    torch.testing.assert_close(x_NI.grad, same_NI.grad, atol=0.02, rtol=2**-7)
    assert mixed.weight.grad is None


def test_mixed_trains_what_float32_trains(model_folder: Path, tmp_path: Path) -> None:
    """Base weights are rounded, adapters are not, and the logprobs stay near."""
    sample = make_sample(list(range(10, 25)), [4, 5, 6], 1.0)
    logprobs: dict[str, torch.Tensor] = {}
    for precision in ("float32", "mixed"):
        base = BaseModel(model_folder, MmgrpoConfig(precision=precision, rank=4, alpha=8))
        parameters = base.add_adapter("shared", seed=0)
        assert {parameter.dtype for _, parameter in parameters} == {torch.float32}
        trie = build_trie(unique_sequences([sample]), base.device)
        logprobs_N, _ = base.logprobs(trie, "shared")
        logprobs_N.sum().backward()
        assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for _, parameter in parameters)
        base.save_adapter("shared", tmp_path / precision, "tiny")
        logprobs[precision] = logprobs_N.detach()
    assert 0 < (logprobs["mixed"] - logprobs["float32"]).abs().max() < 0.1
    for name, tensor in load_peft_weights(str(tmp_path / "mixed")).items():
        assert tensor.dtype == torch.float32, name


def test_one_example_by_hand() -> None:
    """Two calls of one group, N = 3, ratios 1, 2 and 0.2."""
    log_pi = torch.log(torch.tensor([0.5, 0.5, 0.1], dtype=torch.float64))
    log_mu = torch.log(torch.tensor([0.5, 0.25, 0.5], dtype=torch.float64))
    options = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0}
    up, down = torch.ones(3, dtype=torch.float64), -torch.ones(3, dtype=torch.float64)
    assert surrogate(log_pi, log_mu, up, **options).tolist() == pytest.approx([1.0, 1.28, 0.2])
    assert surrogate(log_pi, log_mu, down, **options).tolist() == pytest.approx([-1.0, -2.0, -0.8])
    far = torch.log(torch.tensor([0.9])), torch.log(torch.tensor([0.1]))  # ratio 9: the dual clip holds it at 3
    assert float(surrogate(*far, -torch.ones(1), **options)) == pytest.approx(-3.0)
    samples = [make_sample([7], [3, 4], 0.5), make_sample([7], [5], -0.5)]
    assert [sample.weight for sample in weigh(samples, "batch")] == pytest.approx([1 / 3, 1 / 3])
    assert [sample.weight for sample in weigh(samples, "sequence")] == pytest.approx([1 / 4, 1 / 2])
    assert importance_weights(log_pi, log_mu).tolist() == pytest.approx([1.0, 2.0, 0.2])
    assert k3(log_pi, log_pi).tolist() == [0.0, 0.0, 0.0]
    assert float(k3(torch.log(torch.tensor(0.5)), torch.log(torch.tensor(0.25)))) == pytest.approx(
        0.5 + math.log(2) - 1
    )


def test_modules_weigh_the_same_down_to_a_floor() -> None:
    long = make_sample([7], list(range(3, 203)), 1.0, module="Long")
    short = make_sample([7], [3, 4], 1.0, module="Short")
    by_name = {one.call.module: one.weight for one in weigh([long, short], "module")}
    assert by_name["Long"] == pytest.approx(1 / 2 / 200)
    assert by_name["Short"] == pytest.approx(1 / 2 / 64), "two tokens do not weigh as much as two hundred"


def test_forced_tokens_are_not_counted() -> None:
    sample = make_sample([7], [3, 4, 5], 1.0, allowed=[pack_allowed({3}), pack_allowed({4, 9}), pack_allowed({5})])
    assert sample.tokens == 1
    assert weigh([sample], "batch")[0].weight == 1.0


def test_later_minibatches_are_clipped_against_the_policy_that_began_the_batch(model_folder: Path) -> None:
    config = CONFIG.model_copy(update={"mismatch": "tis", "learning_rate": 0.05, "warmup": 0})
    trainer = perturbed(model_folder, config)
    samples = weigh(ragged_samples(), "batch")
    old = trainer.policy(samples)
    first, second = trainer.update(samples, old), trainer.update(samples, old)
    assert first.clipped == 0.0
    assert second.clipped > 0.0, "the ratio is to pi_old and no longer 1"


def test_micro_batches_keep_to_their_size_and_lose_nothing() -> None:
    sequences = unique_sequences(ragged_samples())
    batches = list(micro_batches(sequences, 40))
    assert [one for batch in batches for one in batch] == sequences
    assert len(batches) > 1
    for batch in batches:
        assert len(batch) == 1 or build_trie(batch, torch.device("cpu")).size <= 40
        assert len(batch) == 1 or sum(len(one.completion_ids) for one in batch) <= 40


@pytest.mark.parametrize("where", ["advantage", "sampler", "weights"])
def test_what_is_not_finite_leaves_the_adapter_bit_for_bit(model_folder: Path, where: str) -> None:
    trainer = perturbed(model_folder, CONFIG)
    trainer.update(weigh(ragged_samples(), "batch"))
    bad = make_sample([5, 6, 7], [8, 9], float("nan") if where == "advantage" else 1.0)
    if where == "sampler":
        bad = make_sample([5, 6, 7], [8, 9], 1.0, logprobs=[-1.0, float("nan")])
    if where == "weights":  # a NaN in the model: one logit, and so all of them
        next(iter(trainer.base.model.parameters())).data[8] = float("nan")
    before = {name: parameter.detach().clone() for name, parameter in trainer._trained}
    moments = {name: value.clone() for name, value in moments_of(trainer).items()}
    stats = trainer.update(weigh([*ragged_samples(), bad], "batch"))
    assert stats.skipped
    assert all(torch.equal(before[name], parameter) for name, parameter in trainer._trained)
    assert all(torch.equal(moments[name], value) for name, value in moments_of(trainer).items())


def moments_of(trainer: LoraTrainer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in trainer._trained
        for key, value in trainer._optimizer.state[parameter].items()
    }


def test_adapters_share_a_base_and_nothing_else(model_folder: Path, tmp_path: Path) -> None:
    base = BaseModel(model_folder, CONFIG)
    one = LoraTrainer(base, CONFIG, name="Label", seed=1)
    other = LoraTrainer(base, CONFIG, name="Act.step", seed=2)
    samples = weigh(ragged_samples(), "batch")
    alone = LoraTrainer(BaseModel(model_folder, CONFIG), CONFIG, name="Label", seed=1)
    untouched = {name: parameter.detach().clone() for name, parameter in other._trained}
    for trainer in (one, alone, one, alone):
        trainer.update(samples)
    for (name, mine), (_, lonely) in zip(one._trained, alone._trained, strict=True):
        assert torch.equal(mine, lonely), f"{name}: another adapter on the base changes nothing"
    assert all(torch.equal(untouched[name], parameter) for name, parameter in other._trained)
    other.update(samples)
    for trainer in (one, other):
        base.save_adapter(trainer.name, tmp_path / trainer.name, "some-model")
        assert {path.name for path in (tmp_path / trainer.name).iterdir()} == {
            "adapter_config.json", "adapter_model.safetensors"
        }  # fmt: skip


def test_saved_adapters_are_loaded_by_peft_itself(model_folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = BaseModel(model_folder, CONFIG)
    LoraTrainer(base, CONFIG, name="First", seed=1)
    trainer = LoraTrainer(base, CONFIG, name="Second.step", seed=2)
    samples = weigh(ragged_samples(), "batch")
    for _ in range(3):
        trainer.update(samples)
    base.save_adapter("Second.step", tmp_path / "adapter", "some-model")
    plain: Any = AutoModelForCausalLM.from_pretrained(model_folder)
    loaded: Any = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    sample = samples[0].call
    ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
    expected = torch.log_softmax(loaded(input_ids=ids).logits[0, len(sample.prompt_ids) - 1], -1)
    trie = build_trie(unique_sequences(samples[:1]), base.device)
    logprobs_N, _ = base.logprobs(trie, "Second.step")
    assert float(logprobs_N[0].detach()) == pytest.approx(float(expected[sample.completion_ids[0]].detach()), abs=1e-5)


def test_training_goes_on_from_an_adapter(model_folder: Path, tmp_path: Path) -> None:
    start = make_adapter(model_folder, tmp_path / "start")
    trainer = LoraTrainer(BaseModel(model_folder, CONFIG), CONFIG, name="x", seed=0, start=start)
    assert max(float(p.detach().abs().max()) for name, p in trainer._trained if "lora_B" in name) > 0.01
    trainer.base.save_adapter("x", tmp_path / "copy", "m")
    from safetensors.torch import load_file

    one, other = (load_file(tmp_path / part / "adapter_model.safetensors") for part in ("start", "copy"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.filterwarnings("error:.*remote file.*", "error:.*config file.*")
def test_adapter_and_optimizer_state_survive_a_checkpoint(model_folder: Path, tmp_path: Path) -> None:
    samples = weigh(ragged_samples(), "batch")
    trainer = LoraTrainer(BaseModel(model_folder, CONFIG), CONFIG, seed=3)
    for _ in range(2):
        trainer.update(samples)
    trainer.base.save_adapter(trainer.name, tmp_path / "adapter", "some-model")
    assert str(model_folder) not in (tmp_path / "adapter" / "adapter_config.json").read_text()
    trainer.save_optimizer(tmp_path / "optimizer.safetensors")
    again = LoraTrainer(BaseModel(model_folder, CONFIG), CONFIG, seed=99, start=tmp_path / "adapter")
    again.load_optimizer(tmp_path / "optimizer.safetensors")
    assert again.steps == 2
    one, other = trainer.update(samples), again.update(samples)
    assert one == other
    for (_, left), (_, right) in zip(trainer._trained, again._trained, strict=True):
        assert torch.equal(left, right)
