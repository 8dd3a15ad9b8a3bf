"""The local engine beside transformers' `generate`: the same model, prompts, dtype and threads, in one process.

    python bench/engine.py [--model smollm2-135m] [--threads 1] [--dtype float32] [--repeats 3] [--cases 1,8,32,8x8]

Prompts are those that programs/intent renders for its test rows. Cases `1`, `8` and `32` are that many different
prompts without demos; `8x8` is a training step: 8 prompts with 8 demos each in front, 8 samples of each, which
`generate` gets as 64 rows. All write a fixed number of tokens, and each repeat has prompts of its own. `lmgraph` keeps
no key-values from batch to batch, so it shares only what the prompts of one batch have in common; `warm` keeps those
of earlier batches, which had other rows. Both decode for a while first, because the engine goes over to large memory
pages only then (docs/decisions/0006-embedded-engine.md); the time of that is not counted.

The ways take turns, so that a slower moment of the machine meets them all, and the first turn of each case is not
counted. Ratios and tokens a second are of the median processor time of the whole process, which leaves out the share
of the wall time that other processes took; what they do to caches and memory remains in it.

With `--dtype mixed` transformers runs in bfloat16, which reads and multiplies as little.

Floors are the least a decode step can take, by the bytes of the weights and by the operations, at the speeds this
process measures first: a plain read of memory, and a product of large matrices. They leave the prompt out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

import lmgraph
from lmgraph.engines.local import open_local_engine
from lmgraph.engines.local.engine import LocalEngine
from lmgraph.program import Demo
from lmgraph.runtime.engine import GenerateRequest, Generation, SamplingParams

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "programs" / "intent"
DEMOS = 8


@dataclass(frozen=True)
class Case:
    name: str
    prompts: int
    samples: int
    demos: int
    new_tokens: int
    temperature: float


CASES = {
    "1": Case("1", 1, 1, 0, 32, 0.0),
    "8": Case("8", 8, 1, 0, 32, 0.0),
    "32": Case("32", 32, 1, 0, 32, 0.0),
    "8x8": Case("8x8", 8, 8, DEMOS, 12, 1.0),
}

SETTLE = Case("settle", 1, 1, 0, 160, 0.0)
"""What the engines decode before anything is measured."""


@dataclass
class Times:
    """Seconds of the repeats of one way."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of the whole process: what is left of the wall time when other processes' share is taken out."""

    def add(self, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


async def render_prompts(engine: LocalEngine, demos: int) -> list[list[int]]:
    """The prompts that programs/intent makes of its test rows, with its first training rows as demos."""
    program = lmgraph.compile_file(PROGRAM / "program.lmg")
    rows = [json.loads(line) for line in (PROGRAM / "data" / "test.jsonl").read_text("utf-8").splitlines()]
    shown = [json.loads(line) for line in (PROGRAM / "data" / "train.jsonl").read_text("utf-8").splitlines()][:demos]
    examples = tuple(Demo({"text": row["text"]}, {"intent": row["intent"]}) for row in shown)
    program = program.with_params(program.params.with_module("Classify", demos=examples))
    prompts: list[list[int]] = []
    answer = [*engine.tokenizer.encode(rows[0]["intent"]), engine.stop_token_ids[0]]

    async def record(request: GenerateRequest) -> Generation:
        prompts.append(list(request.prompt_ids))
        return Generation(answer, [0.0] * len(answer), "stop")

    generate, engine.generate = engine.generate, record  # type: ignore[method-assign]
    async with lmgraph.Runtime(everything=engine) as runtime:
        for row in rows:
            await runtime.run(program, {"text": row["text"]})
    engine.generate = generate  # type: ignore[method-assign]
    return prompts


def run_engine(engine: LocalEngine, case: Case, prompts: list[list[int]]) -> None:
    async def run() -> None:
        requests = [
            GenerateRequest(prompt, SamplingParams(case.new_tokens, case.temperature, seed=seed, stop_token_ids=()))
            for prompt in prompts
            for seed in range(case.samples)
        ]
        answers = await asyncio.gather(*(engine.generate(request) for request in requests))
        assert all(len(answer.token_ids) == case.new_tokens for answer in answers)

    asyncio.run(run())


def run_transformers(model: Any, case: Case, prompts: list[list[int]]) -> None:
    rows = [prompt for prompt in prompts for _ in range(case.samples)]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    sampling = {"do_sample": True, "temperature": case.temperature, "top_k": 0} if case.temperature else {}
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=case.new_tokens,
            min_new_tokens=case.new_tokens,
            **({"do_sample": False} | sampling),
        )
    assert output.shape == (len(rows), width + case.new_tokens)


def floors(model: Any) -> dict[str, float]:
    """What the machine can do in this process, and what the model asks of it for a token."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    dtype = next(model.parameters()).dtype
    vector = torch.ones(64_000_000)
    left, right = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)

    def best(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(5):
            started = time.process_time()
            work()
            seconds.append(time.process_time() - started)
        return min(seconds)

    return {
        "bytes_a_second": vector.numel() * 4 / best(vector.sum),
        "operations_a_second": 2 * 1024**3 / best(lambda: left @ right),
        "weight_bytes": weights * torch.finfo(dtype).bits / 8,
        "operations_a_token": 2.0 * weights,
    }


def floor_seconds(case: Case, machine: dict[str, float]) -> float:
    """The least a decode step takes; operations and reads go on at once."""
    rows = case.prompts * case.samples
    return max(
        machine["weight_bytes"] / machine["bytes_a_second"],
        rows * machine["operations_a_token"] / machine["operations_a_second"],
    )


def main() -> None:
    options = argparse.ArgumentParser(description="The local engine beside transformers' generate.")
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--dtype", choices=("float32", "bfloat16", "mixed"), default="float32")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--cases", default=",".join(CASES))
    options.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "engine.json")
    chosen = options.parse_args()

    torch.set_num_threads(chosen.threads)
    transformers.logging.set_verbosity_error()
    same: dict[str, Any] = {"dtype": chosen.dtype, "threads": chosen.threads, "device": "cpu"}
    engines = {
        "lmgraph": open_local_engine(chosen.model, prefix_cache_mb=0, **same),
        "warm": open_local_engine(chosen.model, **same),
    }
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        engines["lmgraph"].model_folder, dtype=torch.float32 if chosen.dtype == "float32" else torch.bfloat16
    ).eval()
    machine = floors(model)
    rendered = {demos: asyncio.run(render_prompts(engines["lmgraph"], demos)) for demos in (0, DEMOS)}

    for engine in engines.values():
        run_engine(engine, SETTLE, rendered[0][-1:])

    report: dict[str, Any] = {}
    print(f"{'case':>5} {'prompt':>6} {'new':>4}  {'way':12} {'seconds':>8} {'cpu s':>8} {'tokens/s':>9}  ratio")
    for name in chosen.cases.split(","):
        case = CASES[name]
        times = {way: Times() for way in ("transformers", "lmgraph", "warm")}
        rows = rendered[case.demos]
        for repeat in range(chosen.repeats + 1):
            start = repeat * case.prompts
            prompts = rows[start : start + case.prompts]
            turn = {way: Times() for way in times}
            turn["transformers"].add(partial(run_transformers, model, case, prompts))
            for way, engine in engines.items():
                turn[way].add(partial(run_engine, engine, case, prompts))
            if repeat:  # the first turn warms up
                for way, taken in turn.items():
                    times[way].wall += taken.wall
                    times[way].cpu += taken.cpu
        report[name] = show(case, rows, times, machine)

    about = {
        "model": chosen.model,
        "threads": chosen.threads,
        "dtype": chosen.dtype,
        "repeats": chosen.repeats,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        **{key: float(f"{value:.3g}") for key, value in machine.items()},
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"about": about, "cases": report}, indent=2) + "\n", encoding="utf-8")
    for engine in engines.values():
        asyncio.run(engine.aclose())


def show(case: Case, rows: list[list[int]], times: dict[str, Times], machine: dict[str, float]) -> dict[str, Any]:
    """Print one case; returns what is kept of it."""
    count = case.prompts * case.samples
    tokens = statistics.mean(map(len, rows))
    base = statistics.median(times["transformers"].cpu)
    kept: dict[str, Any] = {"rows": count, "prompt_tokens": round(tokens), "new_tokens": case.new_tokens}
    for way, taken in times.items():
        wall, cpu = statistics.median(taken.wall), statistics.median(taken.cpu)
        speed = count * case.new_tokens / cpu
        print(
            f"{case.name:>5} {tokens:6.0f} {case.new_tokens:4}  {way:12} "
            f"{wall:8.2f} {cpu:8.2f} {speed:9.1f}  {base / cpu:.2f}",
            flush=True,
        )
        kept[way] = {
            "wall_seconds": [round(value, 3) for value in taken.wall],
            "cpu_seconds": [round(value, 3) for value in taken.cpu],
            "tokens_a_cpu_second": round(speed, 1),
            "ratio": round(base / cpu, 2),
        }
    floor = floor_seconds(case, machine)
    kept["floor_step_seconds"] = round(floor, 4)
    kept["floor_tokens_a_second"] = round(count / floor, 1)
    print(f"{'':19} {'decode floor':12} {'':8} {'':8} {count / floor:9.1f}")
    return kept


if __name__ == "__main__":
    main()
