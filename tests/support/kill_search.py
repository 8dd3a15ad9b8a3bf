"""Runs a search in forked children and kills them, at random moments and around the writes of a checkpoint.

    python kill_search.py FOLDER OPTIMIZER KILLS

Prints one JSON line: the folders of runs that were killed until they had finished, and how often each was.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmgraph.evaluate import make_task
from lmgraph.optimize import Lab, StageSpec, compose, optimize, study
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from lmgraph_optimizers.prompt.search import load_optuna
from lmgraph_optimizers.reflect.evolve import load_gepa
from support.killing import Point, kill_and_resume
from support.scripted import KIND_OF, LABELS, sort_program

POINTS: list[Point] = [
    (Lab, "checkpoint"),
    (Lab, "log"),
    (study, "write_json"),
    (study.Study, "finish_stage"),
    (compose.artifact, "save"),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "prompt": {"trials": 8, "minibatch": 3, "full_every": 3, "demo_sets": 3, "max_demos": 2, "instructions": 5},
    "demos": {"max_demos": 2, "candidates": 4},
    "reflect": {"steps": 8, "minibatch": 2, "score_rows": 6, "feedback_rows": 6},
}


def main() -> None:
    folder, optimizer, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if optimizer == "prompt":
        load_optuna()  # here, so that no child spends its time on it
    if optimizer == "reflect":
        load_gepa()
    program = sort_program(folder / "program")

    def work(folder: Path) -> None:
        asyncio.run(search(folder, program, optimizer))

    print(json.dumps(kill_and_resume(work, folder, kills, POINTS, 40)))


def answer(prompt: str, request: GenerateRequest) -> Sequence[str]:
    """The longer the system turn and the more demos, the more words are known; by seed where it samples."""
    if "You improve one step" in prompt or "You improve the instruction" in prompt:
        longer = [f"Say the kind of the word{', and look at it' * times}." for times in range(8)]
        return ["Decide what kind of thing the word names.", "", *longer]
    word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
    known = len(prompt) // 40 % 5 + prompt.count("assistant\n")
    return [KIND_OF.get(word, LABELS[0]) if len(word) % 5 < known else LABELS[0], *LABELS]


async def search(folder: Path, program: Program, optimizer: str) -> None:
    async with Runtime(everything=ScriptedEngine(answer, latency=0.001), store=folder / "traces.db") as runtime:
        await optimize(
            program,
            [StageSpec(optimizer, OPTIONS[optimizer])],
            runtime=runtime,
            task=make_task(program),
            output=folder / "out",
            study_folder=folder / "study",
        )


if __name__ == "__main__":
    main()
