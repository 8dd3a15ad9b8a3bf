"""What stages of optimizers add, on test rows that none of them saw: a grid of programs, arms and seeds, resumable.

    python bench/study.py --programs intent,support --stages demos,mmgrpo --seeds 0,1,2 --limit 200
    python bench/study.py --stages demos,mmgrpo --set mmgrpo.grouping=paper --arm paper --programs support
    python bench/study.py --grid bench/grids/adapters.toml --jobs 2
    python bench/study.py --table

An arm is a list of stages with their options. Each (program, arm, seed) is a cell: one process, one JSON file under
bench/results/study/. A cell whose file is there is not run again; one that was interrupted goes on where it was. Every
stage's program is scored on test rows under strict and under constrained decoding, because a small model gains a lot
from constraints alone. At the end the table of all cells is printed.

Arms of one program and seed that begin with the same stages share them: the second arm goes on from what the stages of
the first one left. It would have computed the same, for random numbers depend on the seed and the stage only.

A grid file has `programs`, `seeds`, `limit`, `skip` (test rows passed over, by program), and `[[arm]]` tables: `name`,
`stages`, `options` ("mmgrpo.steps" = 30, "local.dtype" = "mixed"), a `[defaults]` table with options of all arms, and
`[options.PROGRAM]` tables with options of all arms of one program.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, TypeAlias

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
WORK = ROOT / ".lmgraph" / "study"
DECODINGS = ("strict", "constrained")
T_975 = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Quantiles of Student's t, by degrees of freedom: of means over two to ten seeds."""


_Seeds: TypeAlias = dict[int, dict[str, Any]]
"""Cells of one program and arm, by seed."""


@dataclass(frozen=True, slots=True)
class Cell:
    program: str
    """A folder of programs/, or the path of a .lmg file."""
    arm: str
    stages: tuple[str, ...]
    seed: int
    limit: int | None = 200
    dev_limit: int | None = None
    skip: int = 0
    """Test rows passed over before those that are scored."""
    options: dict[str, Any] = field(default_factory=dict)
    """By `optimizer.option`, and `local.option` for the engine."""

    @property
    def file(self) -> Path:
        title = re.sub(r"[^\w.-]+", "-", f"{self.program_title}-{self.arm}-{self.seed}")
        return RESULTS / "study" / f"{title}.json"

    @property
    def program_title(self) -> str:
        path = Path(self.program)
        return path.parent.name if path.name == "program.lmg" else path.stem

    @property
    def source(self) -> Path:
        path = Path(self.program)
        return path if path.suffix == ".lmg" else ROOT / "programs" / self.program / "program.lmg"

    @property
    def work(self) -> Path:
        return WORK / self.file.stem

    @property
    def decoding(self) -> Literal["strict", "constrained"]:
        """How stages are compared on dev rows: as they train, where one does."""
        return "constrained" if self.options.get("mmgrpo.decoding") == "constrained" else "strict"

    def options_of(self, stage: str) -> dict[str, Any]:
        return {key.partition(".")[2]: value for key, value in self.options.items() if key.startswith(f"{stage}.")}

    @property
    def done(self) -> bool:
        return self.file.exists()


def default_arm(stages: tuple[str, ...]) -> str:
    return "+".join(stages)


async def run_cell(cell: Cell) -> dict[str, Any]:
    """Optimize one program with one seed and score every stage's program on the test rows."""
    import lmgraph
    from lmgraph.evaluate import evaluate, make_task
    from lmgraph.optimize import StageSpec, optimize
    from lmgraph.optimize.compose import models_used, study_key
    from lmgraph.runtime import Runtime

    program = lmgraph.compile_file(cell.source)
    task = make_task(program)
    task = replace(task, splits={**task.splits, "test": task.split("test")[cell.skip :]})
    stages = [StageSpec(name, cell.options_of(name)) for name in cell.stages]
    started = time.perf_counter()
    found: dict[str, Any] = {}
    async with Runtime(engine_options={"local": cell.options_of("local")}) as runtime:
        models = models_used(program, task, runtime)
        key = study_key(
            program, task, stages, seed=cell.seed, decoding=cell.decoding, models=models, dev_limit=cell.dev_limit
        )
        take_shared_stages(cell, program.hash, key)
        run = await optimize(
            program, stages, runtime=runtime, task=task, output=cell.work / "artifact",
            study_folder=cell.work / "study", seed=cell.seed, decoding=cell.decoding, dev_limit=cell.dev_limit,
            status=lambda message, share: say(cell, started, message),
        )  # fmt: skip
        for number, record in enumerate(run.stages):
            stage = lmgraph.load(record.artifact)
            scores = {}
            for decoding in DECODINGS:
                # A program is scored once: arms share their start, and a stage may change nothing.
                engine = "".join(f"-{value}" for value in cell.options_of("local").values())
                known = WORK / "scores" / f"{stage.hash}-{decoding}-{cell.skip}-{cell.limit}{engine}.json"
                if not known.exists():
                    result = await evaluate(
                        stage, runtime=runtime, task=task, split="test", limit=cell.limit, decoding=decoding
                    )
                    write_json(known, result.to_data(rows=False))
                scores[decoding] = json.loads(known.read_text())
                say(cell, started, f"test {record.name}, {decoding}: {scores[decoding]['score']:.3f}")
            name = record.name if record.name not in found else f"{record.name} {number}"
            found[name] = {
                "test": scores, "dev": record.dev, "kept": record.kept, "calls": record.calls,
                "tokens": record.tokens, "seconds": record.seconds, "notes": record.notes,
                "curves": record.details.get("curves", {}),
            }  # fmt: skip
    return {
        **{key: value for key, value in asdict(cell).items() if key != "program"},
        "program": cell.program_title,
        "optimize_seconds": round(sum(record.seconds for record in run.stages), 1),
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "stages": found,
    }


def take_shared_stages(cell: Cell, program_hash: str, key: str) -> None:
    """Begin with the finished stages of another arm of this program and seed, where it has the same first stages."""
    from lmgraph.optimize.study import FORMAT

    about = {
        "program": program_hash, "seed": cell.seed, "dev_limit": cell.dev_limit, "decoding": cell.decoding,
        "engine": cell.options_of("local"),
    }  # fmt: skip
    stages = [[name, cell.options_of(name)] for name in cell.stages]
    mine = cell.work / "study" / "study.json"
    if mine.exists():
        return
    best: list[Any] = []
    donor = mine
    for path in sorted(WORK.glob("*/about.json")):
        other = json.loads(path.read_text())
        theirs = path.parent / "study" / "study.json"
        if {key: other.get(key) for key in about} != about or not theirs.exists():
            continue
        records = json.loads(theirs.read_text())["stages"]
        pairs = zip(stages, other["stages"], records[1:], strict=False)
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        if len(records[: same + 1]) > len(best):
            best, donor = records[: same + 1], theirs
    write_json(cell.work / "about.json", {**about, "stages": stages})
    if best:
        for part in ("stages", "work", "adapters"):
            (mine.parent / part).mkdir(parents=True, exist_ok=True)
        spent = {unit: sum(record.get(unit, 0) for record in best) for unit in ("calls", "tokens", "seconds", "usd")}
        shared = {"start", *(f"{number}-{name}" for number, (name, _) in enumerate(stages[: len(best) - 1], 1))}
        events = (donor.parent / "events.jsonl").read_text("utf-8").splitlines(keepends=True)
        kept = (line for line in events if json.loads(line)["stage"] in shared)
        (mine.parent / "events.jsonl").write_text("".join(kept), encoding="utf-8")
        write_json(mine, {"format": FORMAT, "key": key, "stages": best, "spent": spent, "finished": False})


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)


def say(cell: Cell, started: float, message: str) -> None:
    print(f"{cell.file.stem} {time.perf_counter() - started:6.0f} s  {message}", flush=True)


def run_all(cells: list[Cell], jobs: int) -> int:
    """Each cell in a process of its own, ``jobs`` at a time; how many failed. The others go on."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Threads that wait sleep, unless told otherwise: spinning is faster on a machine that does nothing else.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": str(threads)}

    def run(cell: Cell) -> int:
        command = [sys.executable, __file__, "--cell", json.dumps(asdict(cell))]
        return subprocess.run(command, env=environment, check=False).returncode

    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(run, cells))
    for cell, code in zip(cells, codes, strict=True):
        if code:
            print(f"{cell.file.stem} failed with {code}; run the same command to go on", file=sys.stderr)
    return sum(code != 0 for code in codes)


def read_cells() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((RESULTS / "study").glob("*.json"))]


def table(cells: list[dict[str, Any]]) -> str:
    """One table for each list of stages: a row a seed, then the mean over seeds with its 95 % interval."""
    shapes = sorted({tuple(cell["stages"]) for cell in cells})
    return "\n\n".join(_table([c for c in cells if tuple(c["stages"]) == shape], shape) for shape in shapes)


def _table(cells: list[dict[str, Any]], stages: tuple[str, ...]) -> str:
    lines = [
        f"| program | arm | seed | decoding | {' | '.join(stages)} | last step adds"
        " | rows | calls | tokens | minutes |",
        "|" + " --- |" * (9 + len(stages)),
    ]
    for program, arm in sorted({(cell["program"], cell["arm"]) for cell in cells}):
        mine = [cell for cell in cells if (cell["program"], cell["arm"]) == (program, arm)]
        for decoding in DECODINGS:
            scores: dict[str, list[float]] = {stage: [] for stage in stages}
            for cell in mine:
                tests = [cell["stages"][stage]["test"][decoding] for stage in stages]
                for stage, test in zip(stages, tests, strict=True):
                    scores[stage].append(test["score"])
                texts = " | ".join(f"{test['score']:.3f} [{test['low']:.3f}, {test['high']:.3f}]" for test in tests)
                gain = tests[-1]["score"] - tests[-2]["score"]
                minutes = cell["optimize_seconds"] / 60
                lines.append(
                    f"| {program} | {arm} | {cell['seed']} | {decoding} | {texts} | {gain:+.3f} | {tests[0]['rows']} |"
                    f" {total(cell, 'calls'):,} | {total(cell, 'tokens'):,} | {minutes:.1f} |"
                )
            means = " | ".join(f"**{over_seeds(values)}**" for values in scores.values())
            gains = [last - before for before, last in zip(scores[stages[-2]], scores[stages[-1]], strict=True)]
            lines.append(
                f"| {program} | {arm} | mean of {len(mine)} | {decoding} | {means} | {over_seeds(gains)} | | | | |"
            )
    return "\n".join(lines)


def comparison(cells: list[dict[str, Any]], arms: list[str]) -> str:
    """What each of ``arms`` gives, program by program: the program of its last stage that was kept, on test rows."""
    lines = [
        "| program | arm | seeds | strict | over the start | over `prompt` | constrained | calls | tokens | minutes |",
        "|" + " --- |" * 10,
    ]
    for program in sorted({cell["program"] for cell in cells if cell["arm"] in arms}):
        of_arm = {arm: {c["seed"]: c for c in cells if (c["program"], c["arm"]) == (program, arm)} for arm in arms}
        alone = next((found for found in of_arm.values() if found and _is_prompt_alone(found)), {})
        starts = {seed: cell for found in of_arm.values() for seed, cell in found.items()}
        lines.append(_line(program, "the start", starts, {}, stage="start"))
        lines += [_line(program, arm, found, alone) for arm, found in reversed(of_arm.items()) if found]
    return "\n".join(lines)


def _line(program: str, title: str, found: _Seeds, alone: _Seeds, stage: str | None = None) -> str:
    seeds = sorted(found)

    def score(of: _Seeds, seed: int, decoding: str = "strict", at: str | None = stage) -> float:
        name = at or next(n for n in reversed(of[seed]["stages"]) if of[seed]["stages"][n]["kept"])
        return float(of[seed]["stages"][name]["test"][decoding]["score"])

    strict, held = (over_seeds([score(found, seed, decoding) for seed in seeds]) for decoding in DECODINGS)
    gains = over_seeds([score(found, seed) - score(found, seed, at="start") for seed in seeds])
    both = [seed for seed in seeds if seed in alone and found is not alone]
    more = over_seeds([score(found, seed) - score(alone, seed) for seed in both]) if both else ""
    spent = [f"{sum(total(found[seed], unit) for seed in seeds) / len(seeds):,.0f}" for unit in ("calls", "tokens")]
    minutes = f"{sum(found[seed]['optimize_seconds'] for seed in seeds) / len(seeds) / 60:.1f}"
    if stage:
        gains, spent, minutes = "", ["", ""], ""
    return f"| {' | '.join([program, title, ', '.join(map(str, seeds)), strict, gains, more, held, *spent, minutes])} |"


def _is_prompt_alone(found: _Seeds) -> bool:
    return list(next(iter(found.values()))["stages"]) == ["start", "prompt"]


def total(cell: dict[str, Any], unit: str) -> int:
    """Of all stages, the scoring of their dev rows included; that of the test rows is not."""
    return sum(stage[unit] for stage in cell["stages"].values())


def over_seeds(values: list[float]) -> str:
    """A mean with its t interval over seeds: what another seed would do, the same rows given."""
    count = len(values)
    mean = sum(values) / count
    if count < 2 or count > len(T_975):
        return f"{mean:.3f}"
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = T_975[count - 1] * deviation / math.sqrt(count)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def plan(options: argparse.Namespace) -> list[Cell]:
    grid = tomllib.loads(options.grid.read_text()) if options.grid else {}
    programs = options.programs.split(",") if options.programs else grid.get("programs", ["intent", "support"])
    seeds = [int(seed) for seed in options.seeds.split(",")] if options.seeds else grid.get("seeds", [0, 1, 2])
    limit, dev_limit = grid.get("limit", options.limit), grid.get("dev_limit", options.dev_limit)
    skip = grid.get("skip", {})
    given = [text.partition("=") for text in options.set]
    arms = grid.get("arm") or [
        {
            "name": options.arm,
            "stages": options.stages.split(","),
            "options": {key: value_of(text) for key, _, text in given},
        }
    ]
    cells = []
    for seed in seeds:
        for program in programs:
            for arm in arms:
                stages = tuple(arm["stages"])
                name = arm.get("name") or default_arm(stages)
                skipped = skip.get(program, options.skip)
                of_program = grid.get("options", {}).get(program, {})
                options_given = {**grid.get("defaults", {}), **of_program, **arm.get("options", {})}
                cells.append(Cell(program, name, stages, seed, limit, dev_limit, skipped, options_given))
    return cells


def value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description="A resumable grid of programs, stages of optimizers and seeds.")
    parser.add_argument(
        "--programs", help="folders of programs/, or .lmg files; default: the grid's, or intent,support"
    )
    parser.add_argument("--stages", default="demos,mmgrpo", help="optimizers in order")
    parser.add_argument(
        "--set", action="append", default=[], metavar="OPTIMIZER.OPTION=VALUE", help="an option; repeat"
    )
    parser.add_argument("--arm", help="what to call these stages with these options; default: their names")
    parser.add_argument("--seeds", help="default: the grid's, or 0,1,2")
    parser.add_argument("--limit", type=int, default=200, help="test rows to score")
    parser.add_argument("--skip", type=int, default=0, help="test rows to pass over first")
    parser.add_argument("--dev-limit", type=int, help="dev rows that stages are compared on")
    parser.add_argument("--grid", type=Path, help="a TOML file in place of the other flags")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time; they share the cores")
    parser.add_argument("--table", action="store_true", help="run nothing: print the table of the cells that are there")
    parser.add_argument(
        "--compare", action="store_true", help="run nothing: print what the arms of the grid give, in one table"
    )
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        data = json.loads(options.cell)
        cell = Cell(**{**data, "stages": tuple(data["stages"])})
        result = asyncio.run(run_cell(cell))
        write_json(cell.file, result)
        return
    if options.set and not options.arm:
        parser.error("options change what an arm is: give it a name with --arm")
    if options.compare:
        cells = plan(options)
        arms, programs = list(dict.fromkeys(c.arm for c in cells)), {c.program_title for c in cells}
        print(comparison([cell for cell in read_cells() if cell["program"] in programs], arms))
        return
    waiting = [] if options.table else [cell for cell in plan(options) if not cell.done]
    failed = run_all(waiting, options.jobs)
    print(table(read_cells()))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
