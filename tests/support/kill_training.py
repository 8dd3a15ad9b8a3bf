"""Runs training in forked children and kills them, at random moments and between the writes of a checkpoint.

    python kill_training.py FOLDER MODEL KILLS

Prints one JSON line: the folders of runs that were killed until they had finished, and how often each was.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import torch

from lmgraph.optimize import Lab
from lmgraph_optimizers.mmgrpo import training
from lmgraph_optimizers.mmgrpo.base_model import BaseModel
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer
from support.killing import Point, kill_and_resume
from support.tiny_training import OPTIONS, TrainableScript, train, write_program

POINTS: list[Point] = [
    (training, "write_step"),
    (training, "drop_others"),
    (BaseModel, "save_adapter"),
    (LoraTrainer, "save_optimizer"),
    (LoraTrainer, "update"),
    (Lab, "publish_adapter"),
    (Lab, "checkpoint"),
    (Lab, "log"),
]
STEPS = {**OPTIONS, "steps": 4, "max_gap": 1e9}  # the script makes its logprobs up


def main() -> None:
    folder, model, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)

    def work(folder: Path) -> None:
        program = write_program(folder / "program", demos=False)
        asyncio.run(train(program, model, folder, STEPS, engine=TrainableScript(model)))

    print(json.dumps(kill_and_resume(work, folder, kills, POINTS, 24)))


if __name__ == "__main__":
    main()
