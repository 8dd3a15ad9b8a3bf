"""Reads a program's folder as its tests need it."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

PROGRAMS = Path(__file__).parents[2] / "programs"
SPLITS = ("train", "dev", "test")


def rows(program: str, split: str) -> list[dict[str, Any]]:
    text = (PROGRAMS / program / "data" / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def load(program: str, file: str) -> ModuleType:
    """A Python file of the program, under a name of its own: two programs may have equal file names."""
    spec = importlib.util.spec_from_file_location(f"{program}_{Path(file).stem}", PROGRAMS / program / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
