"""Runs a search in forked children and kills them, at random moments and around the writes of a checkpoint.

    python kill_search.py FOLDER OPTIMIZER KILLS

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmgraph.evaluate import make_task
from lmgraph.optimize import Lab, StageSpec, compose, optimize, study
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from lmgraph_optimizers.prompt.search import load_optuna
from support.scripted import KIND_OF, LABELS, sort_program

POINTS: list[tuple[Any, str]] = [
    (Lab, "checkpoint"),
    (Lab, "log"),
    (study, "write_json"),
    (study.Study, "finish_stage"),
    (compose.artifact, "save"),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "prompt": {"trials": 8, "minibatch": 3, "full_every": 3, "demo_sets": 3, "max_demos": 2, "instructions": 5},
    "demos": {"max_demos": 2, "candidates": 4},
}


def main() -> None:
    folder, optimizer, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if optimizer == "prompt":
        load_optuna()  # here, so that no child spends its time on it
    program = sort_program(folder / "program")
    rng = random.Random(20)
    began = time.monotonic()
    assert wait(start(folder / "whole", program, optimizer, None)) == 0
    whole = time.monotonic() - began
    finished: dict[str, int] = {}
    run = made = here = 0
    while made < kills or here:
        name = f"cut-{run}"
        at_point = rng.random() < 0.5 and made < kills
        child = start(folder / name, program, optimizer, rng.randint(1, 40) if at_point else None)
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


def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
    """The longer the system turn and the more demos, the more words are known; by seed where it samples."""
    if "You improve one step" in prompt:
        return ["Say the kind.", "Decide what kind of thing the word names.", "", "Look at the word and name its kind."]
    word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
    known = len(prompt) // 40 % 5 + prompt.count("assistant\n")
    return [KIND_OF.get(word, LABELS[0]) if len(word) % 5 < known else LABELS[0], *LABELS]


def start(folder: Path, program: Program, optimizer: str, kill_at: int | None) -> int:
    """Fork a child that searches in ``folder``; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        if kill_at is not None:
            die_at(kill_at)
        asyncio.run(work(folder, program, optimizer))
    except BaseException as error:  # the child must not go on as the parent
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


async def work(folder: Path, program: Program, optimizer: str) -> None:
    async with Runtime(everything=ScriptedEngine(answer, latency=0.001)) as runtime:
        await optimize(
            program,
            [StageSpec(optimizer, OPTIONS[optimizer])],
            runtime=runtime,
            task=make_task(program),
            output=folder / "out",
            study_folder=folder / "study",
        )


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
    assert code in (0, -signal.SIGKILL), f"the search ended with {code}"
    return code


if __name__ == "__main__":
    main()
