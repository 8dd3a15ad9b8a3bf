"""The class that reads a tokenizer is remembered: the second time is the same tokenizer, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.tiny_model import make_tiny_tokenizer

pytest.importorskip("transformers")

import transformers

from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.engines.local.tokenizer_class import load_tokenizer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMGRAPH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    make_tiny_tokenizer(made)
    return made


def declare(folder: Path, cls: str, model_type: str) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": cls}))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def refuse(*given: Any, **options: Any) -> Any:
    raise AssertionError("AutoTokenizer was asked")


# A class of its own, one set aside because the file is of bytes, one that does not exist, and plain ones.
DECLARED = [
    ("Qwen2Tokenizer", "qwen2"), ("LlamaTokenizer", "llama"), ("NoSuchTokenizer", "llama"),
    ("PreTrainedTokenizerFast", "llama"), ("TokenizersBackend", "smollm3"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "model_type"), DECLARED)
def test_the_second_time_is_the_same_tokenizer(
    cls: str, model_type: str, home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(folder, cls, model_type)
    first = load_tokenizer(folder)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    again = load_tokenizer(folder)
    assert type(again) is type(first)
    assert again.backend_tokenizer.to_str() == first.backend_tokenizer.to_str()
    assert (again.eos_token_id, again.model_max_length) == (first.eos_token_id, first.model_max_length)
    turns = [{"role": "user", "content": "a<|im_end|>b"}]
    assert again.apply_chat_template(turns, tokenize=False) == first.apply_chat_template(turns, tokenize=False)


def test_the_second_time_imports_no_torch(home: Path, folder: Path) -> None:
    first = LocalTokenizer(folder).fingerprint
    script = (
        "import sys; from pathlib import Path; from lmgraph.engines.local.tokenizer import LocalTokenizer;"
        "print(LocalTokenizer(Path(sys.argv[1])).fingerprint, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "LMGRAPH_HOME": str(home)}
    told = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [first, "False"]


@pytest.mark.parametrize("text", [b"", b"AutoModel", b"NoSuchClass", b"models", b"\xff\xfe", b"../x"])
def test_what_names_no_tokenizer_is_passed_over_and_mended(text: bytes, home: Path, folder: Path) -> None:
    first = LocalTokenizer(folder).fingerprint
    [known] = (home / "tokenizers").iterdir()
    good = known.read_bytes()
    known.write_bytes(text)
    assert LocalTokenizer(folder).fingerprint == first
    assert known.read_bytes() == good


def test_a_changed_folder_is_chosen_for_anew(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_tokenizer(folder)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    load_tokenizer(folder)
    declare(folder, "Qwen2Tokenizer", "qwen2")
    with pytest.raises(AssertionError, match="AutoTokenizer was asked"):
        load_tokenizer(folder)


def test_a_home_that_cannot_be_written_costs_time_only(home: Path, folder: Path) -> None:
    home.write_text("a file where the folder should be")
    assert LocalTokenizer(folder).fingerprint == LocalTokenizer(folder).fingerprint
