"""Training on the real small model, killed and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faults.test_mmgrpo_kill import outcome

pytestmark = [pytest.mark.model, pytest.mark.slow]

DRIVER = Path(__file__).parents[1] / "support" / "real_training.py"
KILLS = (9, 22)
"""Points of a checkpoint that a run dies at: one in its first step, one in its second."""


def train(folder: Path, point: int | None = None) -> int:
    environment = {**os.environ, "PYTHONPATH": str(DRIVER.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(DRIVER), str(folder), *([] if point is None else [str(point)])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def test_two_kills_change_nothing(tmp_path: Path) -> None:
    assert train(tmp_path / "whole") == 0
    assert [train(tmp_path / "cut", point) for point in KILLS] == [-signal.SIGKILL] * 2
    assert train(tmp_path / "cut") == 0
    whole, cut = outcome(tmp_path / "whole"), outcome(tmp_path / "cut")
    assert any(step["groups that train"] > 0 for step in whole["steps"]), "or there is nothing to compare"
    assert cut["params"] == whole["params"], "the adapters are the same to the bit"
    assert cut["curves"] == whole["curves"]
    assert [step["step"] for step in cut["steps"]] == [1, 2], "no step is in the log twice"
    assert [step["updates"] for step in cut["steps"]] == [step["updates"] for step in whole["steps"]]
