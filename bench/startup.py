"""How long `lmgraph` takes to start: wall time of whole processes, each a fresh one.

    python bench/startup.py [--runs 15] [--json bench/results/startup.json]

Prints a table and writes the same as JSON. `python -c pass` shows what the interpreter alone takes. The first run of
a command is reported apart: it compiles Python to byte code, as the first start after an installation from source does.
The byte code lies in a folder of its own for each command, so that machines that keep none are measured alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LMGRAPH = str(Path(sys.executable).with_name("lmgraph"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "lmgraph --help": [LMGRAPH, "--help"],
    "lmgraph compile programs/intent/program.lmg": [LMGRAPH, "compile", "programs/intent/program.lmg"],
    # What the client of a server loads before its first call; and the same by the class that knows all tokenizers.
    "LocalTokenizer": [
        sys.executable, "-c",
        "from lmgraph.engines.local.supply import resolve; from lmgraph.engines.local.tokenizer import LocalTokenizer;"
        "LocalTokenizer(resolve('smollm2-135m'))",
    ],
    "transformers.AutoTokenizer": [
        sys.executable, "-c",
        "from lmgraph.engines.local.supply import resolve; from transformers import AutoTokenizer;"
        "AutoTokenizer.from_pretrained(resolve('smollm2-135m'))",
    ],
}  # fmt: skip
LIMIT_SECONDS = 0.5
"""What the lmgraph commands must stay under, by their median."""


def seconds_of(command: list[str], cache: str) -> float:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds


def measure(command: list[str], runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        first = seconds_of(command, cache)
        times = [seconds_of(command, cache) for _ in range(runs)]
    return {
        "first": round(first, 3),
        "min": round(min(times), 3),
        "median": round(statistics.median(times), 3),
        "max": round(max(times), 3),
        "runs": runs,
    }


def main() -> None:
    options = argparse.ArgumentParser(description="Wall time of lmgraph's start.")
    options.add_argument("--runs", type=int, default=15)
    options.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "startup.json")
    chosen = options.parse_args()

    results = {name: measure(command, chosen.runs) for name, command in COMMANDS.items()}
    width = max(map(len, results))
    print(f"{'seconds':{width}}  {'first':>6} {'min':>6} {'median':>6} {'max':>6}   ({chosen.runs} runs each)")
    for name, row in results.items():
        print(f"{name:{width}}  {row['first']:6.3f} {row['min']:6.3f} {row['median']:6.3f} {row['max']:6.3f}")

    machine = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"unit": "seconds", "limit": LIMIT_SECONDS, "machine": machine, "commands": results}
    chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    slow = [name for name, row in results.items() if name.startswith("lmgraph") and row["median"] > LIMIT_SECONDS]
    if slow:
        raise SystemExit(f"over {LIMIT_SECONDS} s: {', '.join(slow)}")


if __name__ == "__main__":
    main()
