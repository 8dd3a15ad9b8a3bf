"""How long compiling takes, beside lark's own parse of the same text: the same grammar, lexer and options, into lark's
own Tree. Both in one run, on programs of 1,000 and 10,000 lines.

    python bench/compile.py [--runs 7] [--json bench/results/compile.json]

Prints a table and writes the same as JSON: medians of several runs in seconds of processor time, the ratio to lark's
own parse, the time of ten times as many lines, and what each phase takes. Ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lark

from lmgraph.compiler import compile as compiler
from lmgraph.compiler import kept
from lmgraph.source import Source
from lmgraph.syntax.parser import LARK_OPTIONS
from lmgraph_grammar import grammar_text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.large_program import many_parts, one_flow  # noqa: E402

SHAPES: dict[str, Callable[[int], str]] = {"many parts": many_parts, "one flow": one_flow}
LINES = (1_000, 10_000)
PHASES: dict[str, tuple[Any, str]] = {
    "parse": (kept, "parse"),
    "check": (compiler, "check_program"),
    "lints": (compiler, "lint"),
    "lower": (compiler, "lower_program"),
    "verify": (kept, "verify"),
}
"""The functions that a compilation spends its time in, and where they are looked up."""

MOST_TIMES_LARK = 2.0
MOST_TIMES_SHORTER = 12.0
"""Goals: a whole compilation takes at most this many times lark's own parse, and ten times as many lines at most this
many times as long."""


def seconds_of(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started


@contextmanager
def timed_phases(taken: dict[str, float]) -> Iterator[None]:
    """Adds to ``taken`` the seconds that each phase takes while this is open."""
    originals = {place: getattr(*place) for place in PHASES.values()}

    def timed(phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            started = time.process_time()
            try:
                return work(*arguments, **named)
            finally:
                taken[phase] = taken.get(phase, 0.0) + time.process_time() - started

        return run

    for phase, place in PHASES.items():
        setattr(*place, timed(phase, originals[place]))
    try:
        yield
    finally:
        for place, original in originals.items():
            setattr(*place, original)


def compiled(source: Source) -> None:
    found = compiler.compile_source(source, root=None)
    assert found.graph is not None, [one.primary.message for one in found.diagnostics[:3]]


def measure(text: str, plain: lark.Lark, runs: int) -> dict[str, Any]:
    """Medians of ``runs`` runs; the two kinds take turns, so that both see the same machine."""
    source = Source("program.lmg", text)
    compiled(source)
    plain.parse(text)
    lark_seconds, compile_seconds = [], []
    for _ in range(runs):
        lark_seconds.append(seconds_of(lambda: plain.parse(text)))
        compile_seconds.append(seconds_of(lambda: compiled(source)))
    phases: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for _ in range(runs):
        taken: dict[str, float] = {}
        gc.collect()
        with timed_phases(taken):
            compiled(source)
        for phase, seconds in taken.items():
            phases[phase].append(seconds)
    lark_median, compile_median = statistics.median(lark_seconds), statistics.median(compile_seconds)
    return {
        "lines": text.count("\n"),
        "characters": len(text),
        "lark": round(lark_median, 4),
        "compile": round(compile_median, 4),
        "times_lark": round(compile_median / lark_median, 2),
        "phases": {phase: round(statistics.median(seconds), 4) for phase, seconds in phases.items()},
    }


def main() -> None:
    options = argparse.ArgumentParser(description="Seconds to compile, beside lark's own parse.")
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "compile.json")
    chosen = options.parse_args()

    plain = lark.Lark(grammar_text(), **LARK_OPTIONS)
    results: dict[str, Any] = {}
    missed: list[str] = []
    print(f"{'':10} {'lines':>6} {'lark':>7} {'compile':>8} {'ratio':>6}   " + " ".join(f"{one:>7}" for one in PHASES))
    for shape, program in SHAPES.items():
        rows = [measure(program(lines), plain, chosen.runs) for lines in LINES]
        for row in rows:
            phases = " ".join(f"{seconds:7.3f}" for seconds in row["phases"].values())
            both = f"{row['lark']:7.3f} {row['compile']:8.3f} {row['times_lark']:6.2f}"
            print(f"{shape:10} {row['lines']:6,} {both}   {phases}")
            if row["times_lark"] > MOST_TIMES_LARK:
                missed.append(f"{shape}, {row['lines']:,} lines: {row['times_lark']} times lark's own parse")
        shorter, longer = rows
        growth = longer["compile"] / shorter["compile"] / (longer["lines"] / shorter["lines"] / 10)
        print(f"{shape:10} ten times as many lines take {growth:.1f} times as long")
        if growth > MOST_TIMES_SHORTER:
            missed.append(f"{shape}: ten times as many lines take {growth:.1f} times as long")
        results[shape] = {"programs": rows, "ten_times_the_lines": round(growth, 2)}

    machine = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    goals = {"times_lark": MOST_TIMES_LARK, "ten_times_the_lines": MOST_TIMES_SHORTER}
    report = {"unit": "seconds", "lark": lark.__version__, "goals": goals, "machine": machine, "shapes": results}
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if missed:
        raise SystemExit("goals missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
