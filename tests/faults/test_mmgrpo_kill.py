"""SIGKILL at random moments: a resumed run comes to what an unbroken one comes to, and counts nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmgraph.program.artifact import load
from lmgraph.program.params import params_hash
from support.tiny_model import make_tiny_model

DRIVER = Path(__file__).parents[1] / "support" / "kill_training.py"
KILLS = 20


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    environment = {**os.environ, "PYTHONPATH": str(DRIVER.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path), str(model), str(KILLS)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    finished: dict[str, int] = json.loads(done.stdout)
    assert sum(finished.values()) >= KILLS
    whole = outcome(tmp_path / "whole")
    assert [step["step"] for step in whole["steps"]] == [1, 2, 3, 4]
    for name in finished:
        cut = outcome(tmp_path / name)
        assert cut["params"] == whole["params"], name
        assert cut["curves"] == whole["curves"], name
        seen = [step["step"] for step in cut["steps"]]
        assert sorted(set(seen)) == seen, "no step is in the log twice"
        by_step = {step["step"]: step for step in whole["steps"]}
        for step in cut["steps"]:
            assert step["rows"] == by_step[step["step"]]["rows"], "the rows of a step are the same"
            assert step["updates"] == by_step[step["step"]]["updates"]
        left = sorted(path.name for path in (tmp_path / name / "study" / "work").iterdir())
        assert left == [], "a finished stage leaves no checkpoint"
        assert len(list((tmp_path / name / "study" / "adapters").glob("shared@*"))) <= 4


def outcome(folder: Path) -> dict[str, Any]:
    study = json.loads((folder / "study" / "study.json").read_text("utf-8"))
    lines = (folder / "study" / "events.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return {
        "params": params_hash(load(folder / "study" / "stages" / "1-mmgrpo").params),
        "curves": study["stages"][1]["details"]["curves"],
        "steps": [event for event in events if event["event"] == "step"],
    }
