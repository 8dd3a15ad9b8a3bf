"""A million inputs through `Runtime.map`: does memory stay as it is, and does the last input take what the first did?

    python bench/scale.py [--inputs 1000000] [--concurrency 64] [--store] [--json bench/results/scale.json]

One module with a scripted engine, inputs from a generator, results read one by one in their order. Memory is the
resident set of this process, read at each hundredth; the first tenth is warm-up. With --store every run goes into a
trace store, a file in a folder that is deleted at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
GROWTH = 0.05
"""Most that memory may grow after the warm-up, as a share."""
SLOWER = 1.25
"""Most that the last tenth may take, in multiples of the second: more is no linear time."""
PROGRAM = '''edition 1

module Label(text: str "a message") -> (label: "good" | "bad") {
  """Say what kind of message it is."""
  max_tokens: 8
}

flow Sort(text: str) -> (label: "good" | "bad") {
  out = Label(text=text)
  return (label=out.label)
}
'''


def megabytes() -> float:
    """The resident set now; where the system does not tell, the largest one so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


async def measure(inputs: int, concurrency: int, folder: Path, *, store: bool) -> list[tuple[float, float, float]]:
    """(seconds, seconds of CPU, megabytes) at the start and after each hundredth."""
    from lmgraph.compiler.compile import compile_path
    from lmgraph.program import Program
    from lmgraph.runtime import Runtime
    from lmgraph.testing import ScriptedEngine

    path = folder / "sort.lmg"
    path.write_text(PROGRAM, encoding="utf-8")
    program = Program.default(compile_path(path).require(), folder)
    engine = ScriptedEngine({"7": "bad", "": "good"})
    engine.requests = deque(maxlen=0)  # type: ignore[assignment]  # it would remember a million of them
    part = max(inputs // 100, 1)
    marks = [(time.perf_counter(), time.process_time(), megabytes())]

    def texts() -> Iterator[dict[str, str]]:
        for number in range(inputs):
            yield {"text": f"message number {number}"}

    position = 0
    async with Runtime(everything=engine, store=folder / "traces.db" if store else None) as runtime:
        async for trace in runtime.map(program, texts(), concurrency=concurrency):
            expected = "bad" if "7" in str(position) else "good"
            assert trace.outputs == {"label": expected}, (position, trace.outputs, trace.failure)
            position += 1
            if position % part == 0:
                marks.append((time.perf_counter(), time.process_time(), megabytes()))
    assert position == inputs, f"{position} results of {inputs} inputs"
    return marks


def report(marks: list[tuple[float, float, float]], inputs: int) -> dict[str, Any]:
    first, last = len(marks) // 10, len(marks) - 1 - len(marks) // 10
    warm, most = marks[first][2], max(memory for _, _, memory in marks[first:])
    begins = {"second_tenth": (first, 2 * first), "last_tenth": (last, len(marks) - 1)}
    times = {
        name: {"wall": round(marks[end][0] - marks[begin][0], 3), "cpu": round(marks[end][1] - marks[begin][1], 3)}
        for name, (begin, end) in begins.items()
    }
    seconds = marks[-1][0] - marks[0][0]
    return {
        "inputs": inputs,
        "seconds": round(seconds, 2),
        "inputs_a_second": round(inputs / seconds),
        "megabytes": {"start": round(marks[0][2], 1), "warm": round(warm, 1), "most": round(most, 1)},
        "growth": round(most / warm - 1, 4),
        "seconds_of": times,
        "last_to_second_cpu": round(times["last_tenth"]["cpu"] / times["second_tenth"]["cpu"], 3),
    }


def main() -> None:
    options = argparse.ArgumentParser(description="Many inputs through Runtime.map.")
    options.add_argument("--inputs", type=int, default=1_000_000)
    options.add_argument("--concurrency", type=int, default=64)
    options.add_argument("--store", action="store_true", help="keep every run in a trace store")
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    if chosen.inputs < 1000:
        raise SystemExit("--inputs must be 1,000 or more")

    with tempfile.TemporaryDirectory() as folder:
        marks = asyncio.run(measure(chosen.inputs, chosen.concurrency, Path(folder), store=chosen.store))
    found = report(marks, chosen.inputs)
    memory, parts = found["megabytes"], found["seconds_of"]
    print(f"inputs           {found['inputs']:,}{', kept in a trace store' if chosen.store else ''}")
    print(f"seconds          {found['seconds']:,.1f}, {found['inputs_a_second']:,} inputs a second")
    print(f"megabytes        {memory['warm']} after the first tenth, {memory['most']} at most: {found['growth']:+.2%}")
    for name, times in parts.items():
        print(f"{name.replace('_', ' '):16} {times['wall']:.2f} s, {times['cpu']:.2f} s of CPU")

    machine = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    default = RESULTS / ("scale-store.json" if chosen.store else "scale.json")
    target = chosen.json or default
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"machine": machine, "store": chosen.store, **found}, indent=2) + "\n", "utf-8")
    if found["growth"] > GROWTH:
        raise SystemExit(f"memory grew by {found['growth']:.1%} after the warm-up, over {GROWTH:.0%}")
    if found["last_to_second_cpu"] > SLOWER:
        raise SystemExit(f"the last tenth took {found['last_to_second_cpu']} times the CPU of the second")


if __name__ == "__main__":
    main()
