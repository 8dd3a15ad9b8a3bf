"""Mutated programs against the compiler and the formatter: nothing may crash, hang or be refused without a word.

    python bench/fuzz.py [--count 20000] [--seed 1] [--first 0] [--json bench/results/fuzz.json]

Each program is compiled, and formatted where it parses, in a child process, one at a time. tests/support/mutate.py
makes them, tests/support/compiler_laws.py says what must hold. A program that breaks a law is made as small as removing
lines and tokens can make it, printed, and saved under bench/results/fuzz/. Ends with 1 if there was one. Ctrl-C ends it
with the figures so far, and --first goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.compiler_laws import TookTooLong, check_laws, time_limit  # noqa: E402
from support.mutate import Mutator  # noqa: E402
from support.real_programs import tokens_of  # noqa: E402

LIMIT_SECONDS = 5.0
"""Processor time for all that is done with one program; more is a hang."""

GRACE_SECONDS = 60.0
"""Wall time after which a child that says nothing is ended."""

SHRINK_SECONDS = 120.0
REPORT_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: str
    """`accepted`, `rejected`, `syntax error`, `crash` or `hang`."""
    fault: str = ""
    """What broke, short: equal faults are one bug."""
    details: str = ""
    codes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return self.outcome in ("crash", "hang")


def judge(text: str, root: Path | None) -> Verdict:
    started = time.process_time()
    try:
        with time_limit(LIMIT_SECONDS):
            found = check_laws(text, root)
    except TookTooLong as error:
        return Verdict("hang", _place(error), traceback.format_exc(limit=-12), seconds=LIMIT_SECONDS)
    except Exception as error:
        return Verdict("crash", f"{type(error).__name__} {_place(error)}", traceback.format_exc(limit=-12))
    outcome = "accepted" if found.accepted else "rejected" if found.parsed else "syntax error"
    return Verdict(outcome, codes=found.codes, seconds=time.process_time() - started)


def _place(error: BaseException) -> str:
    """The last function of ours that the error came through; for a broken law, the law in words."""
    if isinstance(error, AssertionError) and error.args:
        return str(error).split("\n")[0][:100]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "lmgraph" in Path(frame.filename).parts]
    return f"in {Path(ours[-1].filename).name}: {ours[-1].name}" if ours else "outside lmgraph"


class Child:
    """A process that judges programs, started anew where one has killed or hung it."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._here, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(there, self._here), daemon=True
        )
        self._process.start()
        there.close()

    def judge(self, text: str, root: Path | None) -> Verdict:
        try:
            self._here.send((text, root))
            if self._here.poll(GRACE_SECONDS):
                verdict: Verdict = self._here.recv()
                return verdict
            verdict = Verdict("hang", "without an answer")
        except (EOFError, OSError):
            self._process.join()
            verdict = Verdict("crash", f"the process ended with {self._process.exitcode}")
        self._process.kill()
        self._process.join()
        self._start()
        return verdict


def _serve(asked: Connection, parents_end: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which lets a program be finished
    parents_end.close()  # else it would stay open here, and this process would wait for a parent that is gone
    with suppress(EOFError):
        while True:
            text, root = asked.recv()
            asked.send(judge(text, root))


def shrink(text: str, fails: Callable[[str], bool]) -> str:
    """A small text that still fails: lines, then tokens, are left out as long as it does."""
    deadline = time.monotonic() + SHRINK_SECONDS
    text = "".join(_fewer(text.splitlines(keepends=True), fails, deadline))
    return "".join(_fewer(tokens_of(text), fails, deadline))


def _fewer(parts: Sequence[str], fails: Callable[[str], bool], deadline: float) -> Sequence[str]:
    size = max(1, len(parts) // 2)
    while True:
        at = 0
        before = len(parts)
        while at < len(parts) and time.monotonic() < deadline:
            fewer = [*parts[:at], *parts[at + size :]]
            if fails("".join(fewer)):
                parts = fewer
            else:
                at += size
        if time.monotonic() >= deadline or (size == 1 and len(parts) == before):
            return parts
        size = max(1, size // 2)


def main() -> None:
    options = argparse.ArgumentParser(description="Mutated programs against the compiler.")
    options.add_argument("--count", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first", type=int, default=0, help="Number of the first program.")
    options.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "fuzz.json")
    chosen = options.parse_args()

    mutator, child = Mutator(), Child()
    outcomes, codes = Counter[str](), Counter[str]()
    by_kind: dict[str, Counter[str]] = {}
    slowest = (0.0, -1)
    faults: dict[str, dict[str, Any]] = {}
    started = reported = time.monotonic()
    done = 0
    stopped = _stops_at_interrupt()
    for number in range(chosen.first, chosen.first + chosen.count):
        if stopped():
            break
        mutant = mutator.mutant(chosen.seed, number)
        verdict = child.judge(mutant.text, mutant.root)
        done += 1
        outcomes[verdict.outcome] += 1
        codes.update(verdict.codes)
        for kind in set(mutant.kinds):
            by_kind.setdefault(kind, Counter())[verdict.outcome] += 1
        slowest = max(slowest, (verdict.seconds, number))
        if verdict.bad and verdict.fault in faults:
            faults[verdict.fault]["times"] += 1
        elif verdict.bad:
            faults[verdict.fault] = _report(number, mutant.text, mutant.root, verdict, child, chosen.json)
        if time.monotonic() - reported > REPORT_EVERY or done == chosen.count:
            reported = time.monotonic()
            counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
            print(f"{done:,} of {chosen.count:,} programs in {reported - started:,.0f} s: {counts}", flush=True)

    report = {
        "seed": chosen.seed,
        "first": chosen.first,
        "programs": done,
        "real_programs": len(mutator.programs),
        "outcomes": dict(sorted(outcomes.items())),
        "by_kind_of_change": {kind: dict(sorted(counts.items())) for kind, counts in sorted(by_kind.items())},
        "codes": dict(sorted(codes.items())),
        "slowest": {"seconds": round(slowest[0], 2), "number": slowest[1]},
        "seconds": round(time.monotonic() - started),
        "faults": faults,
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{len(codes)} codes reported; the slowest program, {slowest[1]}, took {slowest[0]:.2f} s")
    if faults:
        raise SystemExit(f"{len(faults)} faults")


def _stops_at_interrupt() -> Callable[[], bool]:
    """Whether Ctrl-C was pressed: the program under way is finished, and what was found is written."""
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    return lambda: bool(pressed)


def _report(
    number: int, text: str, root: Path | None, verdict: Verdict, child: Child, json_path: Path
) -> dict[str, Any]:
    """Shrinks, prints and saves a program that broke a law."""

    def fails(smaller: str) -> bool:
        found = child.judge(smaller, root)
        return (found.outcome, found.fault) == (verdict.outcome, verdict.fault)

    small = shrink(text, fails)
    folder = json_path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / f"{verdict.outcome}-{number}.lmg"
    saved.write_text(small, encoding="utf-8", errors="surrogatepass")
    print(
        f"\n{verdict.outcome}: {verdict.fault}\n{verdict.details}\nprogram {number}, saved as {saved.name}:\n{small}\n"
    )
    where = root.relative_to(ROOT).as_posix() if root is not None else None
    kept = {name: value for name, value in asdict(verdict).items() if name in ("outcome", "fault")}
    return {**kept, "number": number, "times": 1, "program": small, "root": where}


if __name__ == "__main__":
    main()
