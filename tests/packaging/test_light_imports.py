"""Starting `lmgraph`, and compiling, import nothing heavy: bench/startup.py holds the times, this test the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = [
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "numpy",
    "scipy",
    "tokenizers",
    "huggingface_hub",
    "gguf",
    "aiohttp",
    "matplotlib",
]

SCRIPT = """
import json, sys
sys.argv = ["lmgraph", *json.loads(sys.argv[1])]
from lmgraph.cli.app import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code or 0
sys.stderr.write("\\n" + json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def imported_by(*arguments: str) -> set[str]:
    """Top-level names in `sys.modules` after `lmgraph ARGUMENTS` has ended well."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stdout + done.stderr
    return set(names)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["compile", "programs/intent/program.lmg"],
        ["compile", "programs/support/program.lmg"],
        ["fmt", "--check", "programs/intent/program.lmg"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    assert not imported_by(*arguments) & set(HEAVY)


def test_help_needs_no_parser() -> None:
    assert "lark" not in imported_by("--help")


def test_the_package_itself_is_light() -> None:
    script = "import sys, json, lmgraph; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(json.loads(done.stdout)) & set(HEAVY)
