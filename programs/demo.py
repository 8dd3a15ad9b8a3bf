"""lmgraph from end to end on a real small model, by the commands a person would type.

    make demo          (or: .venv/bin/python programs/demo.py)

Compiles programs/intent, scores it on rows that no optimizer sees, optimizes it, scores every stage on the same rows,
and prints one table. Nothing here is special: each line after a `$` can be typed as it stands.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LMGRAPH = Path(sys.executable).with_name("lmgraph")
PROGRAM = "programs/intent/program.lmg"
STAGES = {"start": "base", "demos": "after demos", "mmgrpo": "after mmgrpo"}
"""Stage names of `lmgraph optimize`, and what the table calls them."""
DECODINGS = ("strict", "constrained")


@dataclass(frozen=True)
class Row:
    """One line of the table: one program, scored on the test rows under both decodings."""

    name: str
    scores: dict[str, dict[str, Any]]
    """By decoding: what `lmgraph eval --json` printed."""
    calls: int
    """Made by the optimizer's stage; none for the program as written."""
    seconds: float


def command(*arguments: str, show: bool = False) -> str:
    """Runs one `lmgraph` command, echoes it, and returns what it printed. Its progress goes to the terminal."""
    print(f"\n$ lmgraph {shlex.join(arguments)}", flush=True)
    done = subprocess.run([str(LMGRAPH), *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout, end="")
        raise SystemExit(done.returncode)
    if show:
        print(done.stdout, end="")
    return done.stdout


def score(program: str, decoding: str, limit: int) -> dict[str, Any]:
    """The program's score on the first ``limit`` test rows."""
    printed = command("eval", program, "--split", "test", "--limit", str(limit), "--decoding", decoding, "--json")
    result: dict[str, Any] = json.loads(printed)
    failed = sum(result["failures"].values())
    print(f"  {interval(result)}   {result['rows']} rows, {failed} failed, {result['seconds']:.0f} s")
    return result


def optimize(output: str, seconds: int, steps: int) -> dict[str, Any]:
    """Demos, then weights, within a time budget, from the beginning each time. A short setting, for a first look."""
    limits = ("--mmgrpo.steps", str(steps), "--dev-limit", "60", "--budget", f"seconds={seconds}", "--fresh")
    printed = command("optimize", PROGRAM, "--with", "demos,mmgrpo", *limits, "--output", output, "--json")
    result: dict[str, Any] = json.loads(printed)
    if result["stopped"]:
        print(f"  stopped early: {result['stopped']}")
    return result


def interval(result: dict[str, Any]) -> str:
    return f"{result['score']:.2f} [{result['low']:.2f}, {result['high']:.2f}]"


def table(rows: list[Row]) -> str:
    head = ("", *DECODINGS, "calls", "seconds")
    lines = [head]
    for row in rows:
        spent = (str(row.calls), f"{row.seconds:.0f}") if row.calls else ("", "")
        lines.append((row.name, *(interval(row.scores[decoding]) for decoding in DECODINGS), *spent))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    options = argparse.ArgumentParser(description="lmgraph from end to end on a small model.")
    options.add_argument("--limit", type=int, default=100, help="test rows to score (default 100)")
    options.add_argument("--seconds", type=int, default=360, help="budget of optimize in seconds (default 360)")
    options.add_argument("--steps", type=int, default=20, help="training steps of mmgrpo (default 20)")
    options.add_argument("--output", default=".lmgraph/demo", help="folder of the artifact")
    chosen = options.parse_args()
    started = time.monotonic()

    command("compile", PROGRAM, "--emit", "text", show=True)
    base = {decoding: score(PROGRAM, decoding, chosen.limit) for decoding in DECODINGS}
    optimized = optimize(chosen.output, chosen.seconds, chosen.steps)

    rows = []
    for stage in optimized["stages"]:
        name = stage["name"]
        scores = (
            base
            if name == "start"
            else {decoding: score(stage["program"], decoding, chosen.limit) for decoding in DECODINGS}
        )
        rows.append(Row(STAGES.get(name, name), scores, stage["calls"], stage["seconds"]))

    total = base["strict"]["rows"]
    print(f"\nScore on {total} test rows, with 95 % intervals. Optimizers saw none of these rows.")
    print("strict: the model writes freely and must be exact. constrained: it can write labels only.")
    print("calls and seconds: what the optimizer spent on that stage.\n")
    print(table(rows))
    print(f"\nartifact  {optimized['artifact']}")
    print(f"trace     {optimized['trace']}")
    print(f"report    {optimized['report']}")
    print(f"\nAll of it took {(time.monotonic() - started) / 60:.1f} minutes. Try it:")
    print(f'  .venv/bin/lmgraph run {optimized["artifact"]} --text "is it going to rain in Oslo tonight"')


if __name__ == "__main__":
    main()
