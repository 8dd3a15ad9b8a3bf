"""Adapters on a tiny model: merged weights compute what PEFT computes, and what does not fit is refused."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lmgraph.engines.local import open_local_engine
from lmgraph.errors import EngineRejected
from lmgraph.runtime.engine import GenerateRequest, Generation, SamplingParams
from support.tiny_model import make_adapter, make_tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from safetensors.torch import load_file, save_file  # noqa: E402

from lmgraph.engines.local.engine import LocalEngine  # noqa: E402

PROMPT = [5, 60, 7, 80, 90, 33, 12]
SAMPLED = SamplingParams(max_tokens=10, temperature=1.0, seed=3, stop_token_ids=())


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapters(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "stabilised": {"use_rslora": True},
        "patterned": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 16, "layers.1.mlp.up_proj": 1}},
    }
    return {
        name: make_adapter(model_folder, root / name, seed=seed, **chosen)
        for seed, (name, chosen) in enumerate(options.items())
    }


@pytest.fixture(params=[True, False], ids=["lean", "transformers"])
async def engine(model_folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[LocalEngine]:
    opened = open_local_engine(str(model_folder), dtype="float32", merged_adapters=2, lean=request.param)
    yield opened
    await opened.aclose()


async def sample(engine: LocalEngine, adapter: str | None) -> Generation:
    return await engine.generate(GenerateRequest(PROMPT, SAMPLED, adapter=adapter))


def peft_logprobs(model_folder: Path, adapter: Path, completion: list[int]) -> list[float]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, adapter).eval()
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(torch.tensor([PROMPT + completion])).logits[0], dim=-1)
    return [float(logprobs[len(PROMPT) - 1 + index, token]) for index, token in enumerate(completion)]


@pytest.mark.parametrize("name", ["plain", "stabilised", "patterned"])
async def test_merged_logprobs_equal_peft(
    engine: LocalEngine, model_folder: Path, adapters: dict[str, Path], name: str
) -> None:
    await engine.load_adapter(f"{name}@v1", adapters[name])
    answer = await sample(engine, f"{name}@v1")
    assert answer.logprobs == pytest.approx(peft_logprobs(model_folder, adapters[name], answer.token_ids), abs=1e-4)


async def test_the_base_is_never_changed(engine: LocalEngine, adapters: dict[str, Path]) -> None:
    before = await sample(engine, None)
    for version, name in enumerate(adapters):
        await engine.load_adapter(f"x@v{version}", adapters[name])
    mixed = await asyncio.gather(*(sample(engine, adapter) for adapter in (None, "x@v0", "x@v1", "x@v2") * 2))
    for first, second in zip(mixed[:4], mixed[4:], strict=True):
        assert first.logprobs == pytest.approx(second.logprobs, abs=1e-4)
    assert len({round(answer.logprobs[0], 4) for answer in mixed}) == 4
    for version in range(3):
        await engine.unload_adapter(f"x@v{version}")
    after = await sample(engine, None)
    assert after.token_ids == before.token_ids == mixed[0].token_ids
    assert after.logprobs == pytest.approx(before.logprobs, abs=1e-5)


async def test_rows_of_several_adapters_are_what_they_are_alone(
    engine: LocalEngine, model_folder: Path, adapters: dict[str, Path]
) -> None:
    names = [None, *adapters]
    for name in adapters:
        await engine.load_adapter(name, adapters[name])
    together = await asyncio.gather(*(sample(engine, name) for name in names * 3))
    for place, answer in enumerate(together):
        alone = await sample(engine, names[place % 4])
        assert answer.token_ids == alone.token_ids
        assert answer.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
    for name, answer in zip(names[1:], together[1:4], strict=True):
        assert name is not None
        assert answer.logprobs == pytest.approx(peft_logprobs(model_folder, adapters[name], answer.token_ids), abs=1e-4)


async def test_a_name_means_one_adapter(engine: LocalEngine, adapters: dict[str, Path], tmp_path: Path) -> None:
    await engine.load_adapter("a@v1", adapters["plain"])
    await engine.load_adapter("a@v1", adapters["plain"])
    with pytest.raises(EngineRejected, match="other weights"):
        await engine.load_adapter("a@v1", adapters["stabilised"])
    await engine.unload_adapter("a@v1")
    with pytest.raises(EngineRejected, match="not loaded"):
        await sample(engine, "a@v1")
    with pytest.raises(EngineRejected, match="not loaded"):
        await engine.unload_adapter("a@v1")


async def test_an_adapter_does_not_need_its_folder_any_more(
    engine: LocalEngine, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(adapters["plain"], tmp_path / "moved")
    await engine.load_adapter("a@v1", folder)
    shutil.rmtree(folder)
    first = await sample(engine, "a@v1")
    for name in ("stabilised", "patterned"):  # two merged copies at most: this drops the first
        await engine.load_adapter(f"{name}@v1", adapters[name])
        await sample(engine, f"{name}@v1")
    assert (await sample(engine, "a@v1")).logprobs == pytest.approx(first.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias all"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"something_new": {"a": 1}}, "something_new"),
        ({"r": "many"}, "cannot be read"),
    ],
)
async def test_configs_that_are_not_served_are_refused(
    engine: LocalEngine, adapters: dict[str, Path], tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    folder = shutil.copytree(adapters["plain"], tmp_path / "changed")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(EngineRejected, match=reason):
        await engine.load_adapter("a@v1", folder)


async def test_tensors_that_do_not_fit_are_refused(
    engine: LocalEngine, adapters: dict[str, Path], tmp_path: Path
) -> None:
    tensors = load_file(adapters["plain"] / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    changes: dict[str, dict[str, Any]] = {
        "does not fit the base": {name: torch.zeros(4, 63)},
        "not finite": {name: torch.full((4, 64), float("nan"))},
        "LoRA pairs of linear layers only": {"base_model.model.lm_head.weight": torch.zeros(2, 2)},
        "is not a linear layer": {
            "base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(4, 64),
            "base_model.model.model.layers.9.mlp.up_proj.lora_B.weight": torch.zeros(128, 4),
        },
        "shares its weight": {
            "base_model.model.lm_head.lora_A.weight": torch.zeros(4, 64),
            "base_model.model.lm_head.lora_B.weight": torch.zeros(384, 4),
        },
    }
    for index, (reason, change) in enumerate(changes.items()):
        folder = shutil.copytree(adapters["plain"], tmp_path / str(index))
        save_file({**tensors, **change}, folder / "adapter_model.safetensors")
        with pytest.raises(EngineRejected, match=reason):
            await engine.load_adapter("a@v1", folder)
    folder = shutil.copytree(adapters["plain"], tmp_path / "half")
    save_file({key: value for key, value in tensors.items() if key != name}, folder / "adapter_model.safetensors")
    with pytest.raises(EngineRejected, match="only lora_B"):
        await engine.load_adapter("a@v1", folder)
    (folder / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EngineRejected, match="safetensors"):
        await engine.load_adapter("a@v1", folder)
    with pytest.raises(EngineRejected, match=r"no PEFT adapter folder"):
        await engine.load_adapter("a@v1", tmp_path / "absent")
