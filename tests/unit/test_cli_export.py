"""`lmgraph export`: PEFT folders that peft loads, merged models that transformers loads and that say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lmgraph.program import AdapterRef, Program, artifact
from support.scripted import Done, run_cli
from support.tiny_model import make_adapter, make_tiny_model
from support.tiny_training import write_program

IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    return lambda *arguments, **options: run_cli(monkeypatch, capsys, *arguments, **options)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


def tuned(tmp_path: Path, model: Path, *names: str) -> Path:
    program: Program = write_program(tmp_path / "program", demos=False)
    modules = ("Say", "Join")
    for number, name in enumerate(names):
        folder = make_adapter(model, tmp_path / name, seed=number)
        ref = AdapterRef(name, 3, folder, str(model), "0" * 64)
        mine = modules if len(names) == 1 else (modules[number],)
        program = program.with_params(program.params.with_adapter(ref, mine))
    return artifact.save(program, tmp_path / "artifact")


def logits(loaded: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = loaded(input_ids=IDS).logits
    return result


def test_the_folder_that_peft_loads_and_the_model_that_transformers_loads_agree(
    tmp_path: Path, model: Path, cli: Callable[..., Done]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tuned(tmp_path, model, "shared")
    done = cli("export", folder, "-o", tmp_path / "peft")
    assert done.code == 0, done.err
    assert "shared@v3" in done.out
    assert "Join, Say" in done.out
    done = cli("export", folder, "--merge", "-o", tmp_path / "merged", "--json")
    assert done.code == 0, done.err
    (entry,) = json.loads(done.out)
    assert (entry["form"], entry["adapter"], entry["modules"]) == ("merged", "shared@v3", ["Join", "Say"])
    with_adapter: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), tmp_path / "peft")
    merged: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), logits(with_adapter), atol=1e-5, rtol=1e-5)
    base: Any = AutoModelForCausalLM.from_pretrained(model)
    assert not torch.allclose(logits(base), logits(merged), atol=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").decode([5]) is not None


def test_several_adapters_have_a_folder_each_or_one_is_chosen(
    tmp_path: Path, model: Path, cli: Callable[..., Done]
) -> None:
    folder = tuned(tmp_path, model, "Say", "Join")
    assert cli("export", folder, "-o", tmp_path / "all").code == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["Join", "Say"]
    assert cli("export", folder, "-o", tmp_path / "one", "--adapter", "Join").code == 0
    assert (tmp_path / "one" / "adapter_config.json").is_file()
    wrong = cli("export", folder, "-o", tmp_path / "none", "--adapter", "Other")
    assert wrong.code == 1
    assert "Join@v3, Say@v3" in wrong.err
    again = cli("export", folder, "-o", tmp_path / "one")
    assert again.code == 1
    assert "not empty" in again.err


def test_a_program_without_adapters_says_so(tmp_path: Path, model: Path, cli: Callable[..., Done]) -> None:
    folder = artifact.save(write_program(tmp_path / "program", demos=False), tmp_path / "artifact")
    done = cli("export", folder, "-o", tmp_path / "out")
    assert done.code == 1
    assert "has no adapters" in done.err
