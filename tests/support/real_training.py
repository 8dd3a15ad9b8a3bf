"""Trains programs/intent on the real model for two steps, in a process that a test may kill.

    python real_training.py FOLDER [POINT]

Rollouts are constrained, so that an untuned model earns something. Requests run alone, on one thread, and nothing is
kept between them: so a run gives the same bits again. With POINT the process kills itself at that one of the points of
`kill_training`, and the next call goes on with what is in FOLDER.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import torch

import lmgraph
from lmgraph.engines.local import open_local_engine
from lmgraph.evaluate import make_task
from lmgraph.optimize import StageSpec, optimize
from lmgraph.runtime import Runtime
from support.kill_training import POINTS
from support.killing import die_at

PROGRAM = Path(__file__).parents[2] / "programs" / "intent" / "program.lmg"
OPTIONS = {"steps": 2, "examples": 2, "samples": 4, "redraws": 0, "decoding": "constrained"}


async def main(folder: Path) -> None:
    program = lmgraph.compile_file(PROGRAM)
    task = make_task(program)
    engine = open_local_engine(
        "smollm2-135m", dtype="float32", threads=1, max_batch=1, share_prefixes=False, prefix_cache_mb=0
    )
    async with Runtime(everything=engine) as runtime:
        await optimize(
            program, [StageSpec("mmgrpo", OPTIONS)], runtime=runtime, task=task, output=folder / "out",
            study_folder=folder / "study", dev_limit=1,
        )  # fmt: skip
    await engine.aclose()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 2:
        die_at(int(sys.argv[2]), POINTS)
    asyncio.run(main(Path(sys.argv[1])))
