"""How much of what was sampled trains where calls fail now and then: ragged groups as they are, truncated, filled.

    python bench/groups_kept.py [--rows 40] [--samples 12] [--seed 0]

A program of three modules in a row is run with 0, 5 and 10 % of all calls failing to parse, 12 rollouts a row, by a
scripted engine, and its traces are grouped as mmgrpo groups them. A failed call ends its run, so later modules miss it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import zlib
from pathlib import Path
from typing import Any

import lmgraph
from lmgraph.evaluate import Rollout, RolloutPlan, make_task, rollouts
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine
from lmgraph_optimizers.mmgrpo.advantages import RunningScale
from lmgraph_optimizers.mmgrpo.batch import make_batch
from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig

RESULT = Path(__file__).parent / "results" / "groups_kept.json"
MODES = ("mask", "truncate", "fill")
MODULES = ("Extract", "Rank", "Answer")
PROGRAM = """edition 1

record Row { text: str  best: int }

module Extract(text: str) -> (number: int) {}
module Rank(number: int) -> (rank: int) {}
module Answer(rank: int, text: str) -> (best: int) {}

flow Chain(text: str) -> (best: int) {
  found = Extract(text)
  ranked = Rank(number=found.number)
  out = Answer(rank=ranked.rank, text)
  return (best=out.best)
}

dataset rows: Row = jsonl "rows.jsonl"
metric close(gold: Row, pred: Chain.out) -> bool = gold.best == pred.best
objective exact { flow: Chain  data: rows  metric: close }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Share of groups and tokens that train under mask, truncate and fill.")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--samples", type=int, default=12, help="rollouts a row, as in arXiv:2508.04660")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    found = [
        {"failures": share, "ragged": ragged, **figures(done, ragged, options.seed)}
        for share in (0.0, 0.05, 0.1)
        for done in [asyncio.run(sample(share, options.rows, options.samples, options.seed))]
        for ragged in MODES
    ]
    print(table(found))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {"rows": options.rows, "samples": options.samples, "seed": options.seed}
    options.json.write_text(json.dumps({**settings, "results": found}, indent=1) + "\n")


async def sample(share: float, rows: int, samples: int, seed: int) -> list[Rollout]:
    """Traces of every row; each call fails with probability ``share``, by its own seed."""

    def answer(prompt: str, request: GenerateRequest) -> str:
        rng = random.Random(zlib.crc32(prompt.encode()) ^ request.sampling.seed ^ seed)
        return "none" if rng.random() < share else str(rng.randrange(3))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps({"text": f"row {row}", "best": row % 3}) for row in range(rows)]
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "program.lmg").write_text(PROGRAM)
        program = lmgraph.compile_file(folder / "program.lmg")
        task = make_task(program)
        examples = [example for split in task.splits.values() for example in split]
        async with Runtime(everything=ScriptedEngine(answer)) as runtime:
            return await rollouts(
                runtime, program, task, examples, RolloutPlan("strict", 1.0, samples, seed, phase="train")
            )


def figures(done: list[Rollout], ragged: Any, seed: int) -> dict[str, Any]:
    """Shares of what could train: tokens in groups that train, and (row, module) pairs with a group that trains."""
    config = MmgrpoConfig(ragged=ragged)
    batch = make_batch(done, MODULES, config, format_return=0.0, scale=RunningScale(), rng=random.Random(seed))
    calls = [call for one in done for call in one.trace.calls]
    sampled = sum(len(call.completion_ids) for call in calls)
    trained = {id(one.call): one.call for one in batch.samples if one.advantage != 0.0}
    rows = {one.example.id for one in done}
    return {
        "tokens": sum(len(call.completion_ids) for call in trained.values()) / sampled,
        "groups": batch.trained_groups / (len(rows) * len(MODULES)),
        **{name: batch.modules[name].trained_groups / len(rows) if name in batch.modules else 0.0 for name in MODULES},
        "copied_tokens": batch.copies,
        "failed_runs": sum(one.trace.failure is not None for one in done) / len(done),
    }


def table(found: list[dict[str, Any]]) -> str:
    lines = [
        f"| failing calls | failed runs | ragged | tokens that train | groups that train | {' | '.join(MODULES)} |",
        "|" + " --- |" * (5 + len(MODULES)),
    ]
    for one in found:
        modules = " | ".join(f"{one[name]:.0%}" for name in MODULES)
        lines.append(
            f"| {one['failures']:.0%} | {one['failed_runs']:.0%} | {one['ragged']} | {one['tokens']:.1%} |"
            f" {one['groups']:.1%} | {modules} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
