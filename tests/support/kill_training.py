"""Runs training in forked children and kills them, at random moments and between the writes of a checkpoint.

    python kill_training.py FOLDER MODEL KILLS

A process of its own, because a test process has threads that must not be forked. Prints one JSON line: the folders of
runs that were killed again and again until they had finished, and how often each was.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lmgraph.optimize import Lab
from lmgraph_optimizers.mmgrpo import training
from lmgraph_optimizers.mmgrpo.base_model import BaseModel
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer
from support.tiny_training import OPTIONS, TrainableScript, train, write_program

POINTS: list[tuple[Any, str]] = [
    (training, "write_step"),
    (training, "drop_others"),
    (BaseModel, "save_adapter"),
    (LoraTrainer, "save_optimizer"),
    (LoraTrainer, "update"),
    (Lab, "publish_adapter"),
    (Lab, "checkpoint"),
    (Lab, "log"),
]
STEPS = {**OPTIONS, "steps": 4}


def main() -> None:
    folder, model, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    rng = random.Random(20)
    began = time.monotonic()
    assert wait(start(folder / "whole", model, None)) == 0
    whole = time.monotonic() - began
    finished: dict[str, int] = {}
    run = made = here = 0
    while made < kills or here:
        name = f"cut-{run}"
        at_point = rng.random() < 0.5 and made < kills
        child = start(folder / name, model, rng.randint(1, 24) if at_point else None)
        if not at_point and made < kills:
            time.sleep(rng.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
        if wait(child) == 0:
            finished[name] = here
            run, here = run + 1, 0
        else:
            made += 1
            here += 1
    print(json.dumps(finished))


def start(folder: Path, model: Path, kill_at: int | None) -> int:
    """Fork a child that trains in ``folder``; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        if kill_at is not None:
            die_at(kill_at)
        program = write_program(folder / "program", demos=False)
        asyncio.run(train(program, model, folder, STEPS, engine=TrainableScript(model)))
    except BaseException as error:  # the child must not go on as the parent
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def die_at(count: int) -> None:
    """Kill this process when ``count`` of the points, before or after each, have been passed."""
    passed = 0

    def pass_point() -> None:
        nonlocal passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            pass_point()
            result = function(*arguments, **options)
            pass_point()
            return result

        return wrapped

    for owner, name in POINTS:
        setattr(owner, name, around(getattr(owner, name)))


def wait(child: int) -> int:
    """0 where it finished, the signal's negative number where it was killed. Raises: AssertionError where it failed."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"training ended with {code}"
    return code


if __name__ == "__main__":
    main()
