"""What tests of the SGLang engine share: a tiny tokenizer's folder, an engine on doubles, and requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmgraph.engines.sglang import open_sglang_engine
from lmgraph.engines.sglang.engine import SglangEngine
from lmgraph.runtime.engine import GenerateRequest, SamplingParams
from support.http_double import HttpDouble
from support.tiny_model import VOCABULARY_SIZE, make_tiny_tokenizer

PROMPT = [5, 6, 7, 8, 9, 10]


def tiny_folder(folder: Path) -> Path:
    """A model folder with a tokenizer and a config, and no weights: servers have those."""
    folder.mkdir(parents=True)
    make_tiny_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY_SIZE, "eos_token_id": 2}))
    return folder


def adapter_folder(folder: Path, weights: bytes = b"weights") -> Path:
    """What counts as an adapter for the client: it never looks into the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def connect(*doubles: HttpDouble, **options: Any) -> SglangEngine:
    return open_sglang_engine("", urls=tuple(double.url for double in doubles), **options)


def request(prompt: list[int] | None = None, adapter: str | None = None, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(prompt or PROMPT, SamplingParams(**{"max_tokens": 16, **sampling}), adapter)
