"""The lean path beside transformers on tiny random models of every shape it takes, and what it leaves to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.errors import EngineUnavailable
from lmgraph.runtime.engine import GenerateRequest, Generation, SamplingParams
from support.tiny_model import CONTEXT_TOKENS, VOCABULARY_SIZE, make_tiny_model, make_tiny_tokenizer

torch = pytest.importorskip("torch")

import transformers  # noqa: E402

from lmgraph.engines.local import cascade, lean, lean_admit, linear  # noqa: E402
from lmgraph.engines.local.blocks import Blocks  # noqa: E402
from lmgraph.engines.local.engine import LocalEngine  # noqa: E402
from lmgraph.engines.local.prefix_tree import Span  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "initializer_range": 0.15,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
LEAN: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped heads, tied": ("Llama", {"tie_word_embeddings": True}),
    "one head a key, untied, biased": (
        "Llama",
        {"num_key_value_heads": 4, "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    ),
    "one key-value head": ("Llama", {"num_key_value_heads": 1}),
    "linear angles": ("Llama", {"rope_parameters": LINEAR}),
    "llama3 angles": ("Llama", {"rope_parameters": LLAMA3}),
    "yarn angles": ("Llama", {"rope_parameters": YARN}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 32}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sliding window": ("Mistral", {"sliding_window": 8}),
    "window in some layers": ("Qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "angles that change": ("Llama", {"rope_parameters": DYNAMIC}),
    "another activation": ("Llama", {"hidden_act": "gelu"}),
    "another family": ("Olmo2", {}),
    "positions that are learned": ("GPT2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT_TOKENS}),
    "angles of a part of each head": ("GPTNeoX", {}),
    "norms around one": ("Gemma", {"head_dim": 16}),
    "capped scores": ("Gemma2", {"head_dim": 16, "sliding_window": 8, "attn_logit_softcapping": 1.0}),
    "sinks and experts": (
        "GptOss",
        {"head_dim": 16, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "attention of its own": ("Bloom", {"n_layer": 2, "n_head": 4}),
}
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "a recurrent model": ("Mamba", {"state_size": 8}),
    "convolutions and attention": ("Lfm2", {"layer_types": ["conv", "full_attention"], "block_ff_dim": 96}),
    "a cache that wants more": ("Mpt", {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": CONTEXT_TOKENS}),
}


def make_model(folder: Path, family: str, changes: dict[str, Any]) -> Path:
    make_tiny_tokenizer(folder)
    config = getattr(transformers, f"{family}Config")(**(SIZES | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:  # their initial values would hide mistakes
                torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
    model.save_pretrained(folder)
    return folder


def prompts(count: int = 6, shared: int = 40) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    beginning = torch.randint(3, VOCABULARY_SIZE, (shared,), generator=generator).tolist()
    return [
        beginning + torch.randint(3, VOCABULARY_SIZE, (3 + 7 * place,), generator=generator).tolist()
        for place in range(count)
    ]


async def sample(engine: LocalEngine, some: list[list[int]], tokens: int = 10) -> list[Generation]:
    params = [SamplingParams(tokens, float(place % 2), seed=place, stop_token_ids=()) for place in range(len(some))]
    requests = [GenerateRequest(prompt, each) for prompt, each in zip(some, params, strict=True)]
    return list(await asyncio.gather(*(engine.generate(request) for request in requests)))


def check_against(folder: Path, some: list[list[int]], answers: list[Generation]) -> None:
    """Greedy tokens are transformers', and all logprobs."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for place, (prompt, answer) in enumerate(zip(some, answers, strict=True)):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer.token_ids])).logits[0, len(prompt) - 1 : -1]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        expected = [float(logprobs[index, token]) for index, token in enumerate(answer.token_ids)]
        assert answer.logprobs == pytest.approx(expected, abs=1e-4)
        if place % 2 == 0:
            assert answer.token_ids == logprobs.argmax(dim=-1).tolist()


@pytest.mark.parametrize("name", LEAN)
async def test_it_computes_what_transformers_computes(tmp_path: Path, name: str) -> None:
    folder = make_model(tmp_path / "model", *LEAN[name])
    engine = open_local_engine(str(folder), dtype="float32")
    assert engine.lean
    some = prompts()
    for _ in range(2):  # the second time from the cache
        check_against(folder, some, await sample(engine, some))
    await engine.aclose()


@pytest.mark.parametrize("name", OTHERS)
async def test_what_it_cannot_compute_is_left_to_transformers(tmp_path: Path, name: str) -> None:
    folder = make_model(tmp_path / "model", *OTHERS[name])
    engine = open_local_engine(str(folder), dtype="float32")
    assert not engine.lean
    assert engine.keeps_state
    some = prompts(3)
    check_against(folder, some, await sample(engine, some))
    await engine.aclose()


@pytest.mark.parametrize("name", WHOLE)
async def test_a_model_whose_state_cannot_be_kept_is_served_slowly(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_model(tmp_path / "model", *WHOLE[name])
    engine = open_local_engine(str(folder), dtype="float32")
    assert not engine.keeps_state
    assert "runs its whole sequence again" in caplog.text
    some = prompts(3)
    together = await sample(engine, some, tokens=5)
    check_against(folder, some, together)
    assert (await sample(engine, some[:1], tokens=5))[0].token_ids == together[0].token_ids
    await engine.aclose()


def test_a_model_that_cannot_be_run_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "model", *OTHERS["another family"])

    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("a kernel for this device")

    monkeypatch.setattr(transformers.Olmo2ForCausalLM, "forward", fail)
    with pytest.raises(EngineUnavailable, match="a kernel for this device"):
        open_local_engine(str(folder), dtype="float32")


async def test_a_lean_path_that_differs_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny_model(tmp_path / "model")
    monkeypatch.setattr(lean, "LARGEST_ERROR", -1.0)
    engine = open_local_engine(str(folder), dtype="float32")
    assert not engine.lean
    some = prompts(3)
    check_against(folder, some, await sample(engine, some))
    await engine.aclose()


def without_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmgraph.engines.local.llama.can_pack", lambda *_: False)


def without_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "_FUSED", None)


def in_short_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_admit, "LARGEST_PASS_TOKENS", 16)


@pytest.mark.parametrize("change", [without_packing, without_the_fused_kernel, in_short_passes])
async def test_every_way_through_it_computes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    change(monkeypatch)
    folder = make_tiny_model(tmp_path / "model")
    for share in (True, False):
        engine = open_local_engine(str(folder), dtype="float32", share_prefixes=share)
        assert engine.lean
        some = [*prompts(), *prompts(2, shared=300)]
        check_against(folder, some, await sample(engine, some))
        await engine.aclose()


@pytest.mark.skipif(not linear.can_pack("cpu", torch.float32), reason="torch cannot pack weights here")
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 17])
def test_packed_layers_multiply_as_plain_ones(rows: int) -> None:
    modules = [(str(size), torch.nn.Linear(64, size, bias=size != 32)) for size in (48, 32, 96)]
    x = torch.randn(rows, 64)
    with torch.inference_mode():
        expected = torch.cat([module(x) for _, module in modules], dim=1)
        for packed in (True, False):
            joined = linear.join(0, modules, torch.float32, packed=packed)
            torch.testing.assert_close(joined(x), expected, atol=1e-5, rtol=1e-5)
            assert joined.sizes == (48, 32, 96)


@pytest.mark.parametrize("attend", [cascade.attend_part, cascade.attend_part_plainly])
def test_attention_in_parts_is_attention_over_all(attend: Any) -> None:
    rows, heads, groups, size = 5, 2, 3, 16
    query = torch.randn(rows, heads, groups, size)
    shared = torch.randn(1, 2, 1, heads, 30, size)
    stacked = torch.randn(1, 2, 2, heads, 9, size)
    bias = torch.zeros(2, 9)
    bias[1, 6:] = float("-inf")
    own = torch.randn(2, rows, heads, 4, size)
    output, log_sum = attend(query, own[0], own[1], 0.3)
    followers = [[0, 2, 3], [1, 4, 4]]  # the second span has two rows
    blocks = [
        cascade.SharedBlock(shared, slice(0, rows)),
        cascade.SharedBlock(stacked, torch.tensor(followers[0] + followers[1]), bias),
    ]
    cascade.attend_shared(0, query, blocks, output, log_sum, 0.3)
    for row in range(rows):
        span, end = (0, 9) if row in followers[0] else (1, 6)
        parts = (shared[0, :, 0], stacked[0, :, span, :, :end], own[:, row])
        keys, values = torch.cat([part[0] for part in parts], dim=1), torch.cat([part[1] for part in parts], dim=1)
        whole = torch.softmax(query[row] @ keys.transpose(1, 2) * 0.3, dim=-1) @ values
        torch.testing.assert_close(output[row], whole, atol=1e-5, rtol=1e-5)


def test_a_block_holds_one_span_of_a_row_at_most() -> None:
    outer, inner, other = (Span(torch.randn(1, 2, 2, length, 8)) for length in (20, 25, 24))
    long = Span(torch.randn(1, 2, 2, 400, 8))
    rows = [[long, outer, inner], [long, outer, inner], [long, outer, other], [long, other], [long]]
    seen: list[tuple[int, torch.Tensor]] = []
    for block in Blocks().find(rows):
        tokens = torch.arange(len(rows))[block.tokens]
        for span, followers in enumerate(tokens.view(block.keys_values_L2BHSD.shape[2], -1).tolist()):
            length = block.keys_values_L2BHSD.shape[4]
            if block.bias_BS is not None:
                length = int((block.bias_BS[span] == 0).sum())
            seen += [(row, block.keys_values_L2BHSD[:, :, span, :, :length]) for row in set(followers)]
        spans_of_row = [set(row) for row in tokens.view(block.keys_values_L2BHSD.shape[2], -1).tolist()]
        assert sum(map(len, spans_of_row)) == len(set().union(*spans_of_row))
    assert len(seen) == sum(map(len, rows))
    for place, row in enumerate(rows):
        for span in row:
            assert sum(at == place and torch.equal(found, span.keys_values_L2HTD) for at, found in seen) == 1


@pytest.mark.parametrize("lean_path", [True, False])
async def test_an_adapter_of_the_output_layer_and_few_others(tmp_path: Path, lean_path: bool) -> None:
    peft = pytest.importorskip("peft")
    folder = make_model(tmp_path / "model", *LEAN["one head a key, untied, biased"])
    config = peft.LoraConfig(r=3, target_modules=["lm_head", "v_proj", "up_proj"], task_type="CAUSAL_LM")
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = peft.get_peft_model(base, config).eval()
    draw = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=draw)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    engine = open_local_engine(str(folder), dtype="float32", lean=lean_path)
    await engine.load_adapter("a@v1", tmp_path / "adapter")
    some = prompts(4)
    requests = [GenerateRequest(prompt, SamplingParams(8, 1.0, seed=1, stop_token_ids=()), "a@v1") for prompt in some]
    answers = await asyncio.gather(*(engine.generate(request) for request in requests))
    plain = await sample(engine, some, tokens=8)
    for prompt, answer in zip(some, answers, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer.token_ids])).logits[0, len(prompt) - 1 : -1]
        logprobs = torch.log_softmax(logits, dim=-1)
        expected = [float(logprobs[index, token]) for index, token in enumerate(answer.token_ids)]
        assert answer.logprobs == pytest.approx(expected, abs=1e-4)
    same = [
        one.logprobs[0] == pytest.approx(other.logprobs[0], abs=1e-3) for one, other in zip(answers, plain, strict=True)
    ]
    assert not all(same), "the adapter does something"
    await engine.aclose()
