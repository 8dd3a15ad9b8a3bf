"""What the optimizers add, on test rows that none of them saw: base, demos, then mmgrpo, strict and constrained.

    python bench/learning.py [--programs intent,support] [--seeds 0,1,2] [--limit 200] [--steps 30] [--table]

One JSON file a program and seed under bench/results/learning/; a cell that is there already is not run again. An
interrupted cell goes on where it was. At the end the table of all cells is printed, with means over seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from pathlib import Path
from typing import Any

import lmgraph
from lmgraph.evaluate import Task, evaluate, make_task
from lmgraph.optimize import StageSpec, optimize
from lmgraph.program import Program
from lmgraph.program.artifact import load
from lmgraph.runtime import Runtime
from lmgraph.runtime.parse import Decoding

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "learning"
DECODINGS: tuple[Decoding, ...] = ("strict", "constrained")


async def run_cell(name: str, seed: int, limit: int, steps: int) -> dict[str, Any]:
    """Optimize one program with one seed and score every stage's program on the test rows."""
    program = lmgraph.compile_file(ROOT / "programs" / name / "program.lmg")
    task = make_task(program)
    work = ROOT / ".lmgraph" / "bench" / f"{name}-{seed}"
    started = time.perf_counter()
    async with Runtime() as runtime:
        run = await optimize(
            program,
            [StageSpec("demos"), StageSpec("mmgrpo", {"steps": steps})],
            runtime=runtime,
            task=task,
            output=work / "artifact",
            study_folder=work / "study",
            seed=seed,
            status=lambda message, share: print(f"  {time.perf_counter() - started:6.0f} s  {message}", flush=True),
        )
        optimized = time.perf_counter() - started
        stages = {}
        for record in run.stages:
            scores = await test_scores(load(Path(record.artifact)), task, runtime, limit)
            stages[record.name] = {
                "test": scores,
                "dev": record.dev,
                "calls": record.calls,
                "tokens": record.tokens,
                "seconds": record.seconds,
                "notes": record.notes,
                "curves": record.details.get("curves", {}),
            }
    return {
        "program": name,
        "seed": seed,
        "steps": steps,
        "optimize_seconds": round(optimized, 1),
        "machine": f"{platform.machine()}, {platform.system()}",
        "stages": stages,
    }


async def test_scores(program: Program, task: Task, runtime: Runtime, limit: int) -> dict[str, Any]:
    scores = {}
    for decoding in DECODINGS:
        result = await evaluate(program, runtime=runtime, task=task, split="test", limit=limit, decoding=decoding)
        print(f"    test {decoding}: {result.interval}", flush=True)
        scores[decoding] = result.to_data(rows=False)
    return scores


def table(cells: list[dict[str, Any]]) -> str:
    lines = ["| program | seed | decoding | base | demos | demos, mmgrpo | rows | minutes |", "|" + " --- |" * 8]
    for name in sorted({cell["program"] for cell in cells}):
        mine = [cell for cell in cells if cell["program"] == name]
        for decoding in DECODINGS:
            means: dict[str, list[float]] = {}
            for cell in mine:
                texts = []
                for stage in ("start", "demos", "mmgrpo"):
                    score = cell["stages"][stage]["test"][decoding]
                    means.setdefault(stage, []).append(score["score"])
                    texts.append(f"{score['score']:.3f} [{score['low']:.3f}, {score['high']:.3f}]")
                rows = cell["stages"]["start"]["test"][decoding]["rows"]
                minutes = f"{cell['optimize_seconds'] / 60:.1f}"
                lines.append(f"| {name} | {cell['seed']} | {decoding} | {' | '.join(texts)} | {rows} | {minutes} |")
            averages = " | ".join(f"**{sum(scores) / len(scores):.3f}**" for scores in means.values())
            lines.append(f"| {name} | mean | {decoding} | {averages} | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores of base, demos and mmgrpo on test rows.")
    parser.add_argument("--programs", default="intent,support")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--limit", type=int, default=200, help="test rows to score")
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps of mmgrpo")
    parser.add_argument("--table", action="store_true", help="run nothing: print the table of the cells that are there")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in [] if options.table else options.seeds.split(","):
        for name in options.programs.split(","):
            path = RESULTS / f"{name}-{seed}.json"
            if path.exists():
                continue
            print(f"== {name}, seed {seed}", flush=True)
            cell = asyncio.run(run_cell(name, int(seed), options.limit, options.steps))
            path.write_text(json.dumps(cell, indent=1) + "\n")
    print(table([json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]))


if __name__ == "__main__":
    main()
