"""Programs as an optimizer may leave them, made as for the examples of the page about diagnostics."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lmgraph.program import Program

PAGE_WRITER = Path(__file__).parents[2] / "docs" / "internals" / "diagnostics.py"


def learned_on(text: str) -> Program:
    """The program ``text`` with a demo for each module, and an adapter of the model that its LM names."""
    spec = importlib.util.spec_from_file_location("diagnostics", PAGE_WRITER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program = module.learned(text)
    assert isinstance(program, Program)
    return program
