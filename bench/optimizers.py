"""What instruction and demo search find with the same number of LM calls: lmgraph's demos and prompt beside DSPy's
BootstrapFewShotWithRandomSearch and MIPROv2, on programs/intent and the small model.

    python -m venv .venv-peers-frameworks && .venv-peers-frameworks/bin/pip install -r bench/requirements-frameworks.txt
    python bench/optimizers.py [--seeds 0,1,2] [--test 200] [--dev 50] [--shares 0.25,1] [--only dspy]

DSPy runs in an environment of its own and asks the same engine over an OpenAI-compatible endpoint that this script
serves: same weights, chat template and temperature. Every call that the engine gets counts, but for the scoring of
test rows. lmgraph's optimizers then run with a budget of `--shares` of the calls that DSPy's random search took. All
choose by the same dev rows, writing freely, and are scored on the same test rows, which none of them reads: strictly,
and lmgraph's also held to the labels. A run that is in the results is not made again. Prints a table, with the calls
that reached DSPy's score, and writes bench/results/optimizers.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "optimizers.json"
PEERS = ROOT / ".venv-peers-frameworks" / "bin" / "python"
PROGRAM = ROOT / "programs" / "intent" / "program.lmg"
MODEL = "smollm2-135m"
PEER_MAX_TOKENS = 64
"""DSPy's form of an answer takes more tokens than the label alone, which has 12 in the program."""
MOST_DEMOS = 4
"""Worked examples in a prompt, for all."""
DSPY = ("dspy-random-search", "dspy-miprov2")
OURS = ("demos", "prompt", "demos,prompt")


def options(stage: str, calls: float) -> dict[str, Any]:
    """Settings of a stage that has about so many calls."""
    many = calls > 400
    if stage == "demos":  # two more candidates are not drawn; halving takes a little over half of all pairs with rows
        candidates = 12 if many else 6
        rows = max(8, min(100, int(calls / (0.53 * (candidates + 2)))))
        return {"max_demos": MOST_DEMOS, "candidates": candidates, "score_rows": rows}
    trials = 24 if many else 10
    rows = max(8, min(64, int(calls / (trials / 2 + 3))))
    return {
        "max_demos": MOST_DEMOS, "score_rows": rows, "minibatch": rows // 2, "trials": trials, "demo_sets": trials // 2,
    }  # fmt: skip


async def ours(stages: str, seed: int, calls: int, train: int, dev: int, test: int) -> dict[str, Any]:
    """One optimize run of lmgraph on a budget of calls, scored on test rows under both decodings."""
    from dataclasses import replace

    import lmgraph
    from lmgraph.evaluate import evaluate, make_task
    from lmgraph.optimize import StageSpec, optimize
    from lmgraph.runtime import Budget, Meter, Runtime

    program = lmgraph.compile_file(PROGRAM)
    task = make_task(program)
    splits = {**task.splits, "train": task.train[:train], "dev": task.dev[:dev], "test": task.split("test")[:test]}
    task = replace(task, splits=splits)
    names = stages.split(",")
    share = (calls - 2 * dev) / len(names)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        async with Runtime() as runtime:
            run = await optimize(
                program, [StageSpec(name, options(name, share)) for name in names], runtime=runtime, task=task,
                output=Path(folder) / "out", study_folder=Path(folder) / "study", budget=Budget(calls=calls), seed=seed,
                decoding="strict",
                status=lambda message, share: print(f"  {message}", flush=True),
            )  # fmt: skip
            seconds = time.perf_counter() - began
            runtime.meter = Meter()  # the test rows are no part of the budget
            scores = {}
            for decoding in ("constrained", "strict"):
                found = await evaluate(run.program, runtime=runtime, task=task, split="test", decoding=decoding)
                scores[decoding] = found.score
        kept = [record for record in run.stages if record.kept][-1]
        return {
            "calls": sum(record.calls for record in run.stages),
            "tokens": sum(record.tokens for record in run.stages),
            "seconds": round(seconds, 1),
            "dev": kept.dev["score"],
            "test": scores,
            "stopped": run.stopped,
            "notes": [note for record in run.stages for note in record.notes],
        }


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, dict[str, int]]]:
    """The engine behind OpenAI's chat completions: (base URL, what it was asked: calls and tokens)."""
    from aiohttp import web

    from lmgraph.engines.local import open_local_engine
    from lmgraph.errors import EngineError
    from lmgraph.runtime.engine import ChatMessage, GenerateRequest, SamplingParams

    engine = open_local_engine(MODEL)
    spent = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0}

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        turns = [ChatMessage(turn["role"], turn["content"]) for turn in body["messages"]]
        prompt = engine.tokenizer.encode_template(engine.tokenizer.render_chat(turns))
        most = body.get("max_completion_tokens") or body.get("max_tokens") or PEER_MAX_TOKENS
        room = engine.context_length - len(prompt)
        sampling = SamplingParams(
            max_tokens=max(1, min(most, room)), temperature=body.get("temperature") or 0.0, seed=spent["calls"]
        )
        spent["calls"] += 1
        try:
            made = await engine.generate(GenerateRequest(prompt, sampling))
        except EngineError as error:
            return web.json_response({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)
        spent["prompt_tokens"] += len(prompt)
        spent["completion_tokens"] += len(made.token_ids)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(made.token_ids)}
        message = {"role": "assistant", "content": engine.tokenizer.decode(made.token_ids)}
        return web.json_response(
            {
                "id": "chat", "object": "chat.completion", "created": int(time.time()), "model": MODEL,
                "choices": [{"index": 0, "message": message, "finish_reason": made.finish_reason}],
                "usage": {**usage, "total_tokens": sum(usage.values())},
            }
        )  # fmt: skip

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/v1/spent", lambda request: _json(spent))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/v1", spent
    finally:
        await runner.cleanup()
        await engine.aclose()


async def _json(data: Any) -> Any:
    from aiohttp import web

    return web.json_response(data)


async def peer(name: str, seed: int, train: int, dev: int, test: int) -> dict[str, Any]:
    """One of DSPy's optimizers, in its own environment."""
    import lmgraph
    from lmgraph.evaluate import make_task

    program = lmgraph.compile_file(PROGRAM)
    task = make_task(program)
    module = program.graph.module("Classify")
    label = module.outputs[0].type
    given = {
        "name": name, "seed": seed, "instruction": module.instruction,
        "labels": {member.label: member.description for member in label.members},
        "train": [dict(row.values) for row in task.train[:train]],
        "dev": [dict(row.values) for row in task.dev[:dev]],
        "test": [dict(row.values) for row in task.split("test")[:test]],
    }  # fmt: skip
    async with served() as (url, _):
        environment = {**os.environ, "OPENAI_API_KEY": "none", "PYTHONHASHSEED": "0"}
        with tempfile.TemporaryDirectory() as folder:
            data, out = Path(folder) / "given.json", Path(folder) / "found.json"
            data.write_text(json.dumps(given))
            process = await asyncio.create_subprocess_exec(
                str(PEERS), __file__, "--peer", url, str(data), str(out),
                env={**environment, "DSPY_CACHEDIR": folder, "HOME": folder}, cwd=folder,
            )  # fmt: skip
            code = await process.wait()
            if code or not out.exists():
                return {"failed": f"its process ended with {code}"}
            found: dict[str, Any] = json.loads(out.read_text())
            return found


def run_dspy(url: str, given: dict[str, Any]) -> dict[str, Any]:
    """In DSPy's environment: compile, then score on the test rows."""
    import random
    from typing import Literal
    from urllib.request import urlopen

    import dspy

    def spent() -> dict[str, int]:
        with urlopen(f"{url}/spent") as answer:
            found: dict[str, int] = json.load(answer)
            return found

    random.seed(given["seed"])
    lm = dspy.LM(
        f"openai/{MODEL}", api_base=url, api_key="none", temperature=0.0, max_tokens=PEER_MAX_TOKENS, num_retries=0
    )
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)  # an equal question is asked once
    dspy.configure(lm=lm)
    labels = given["labels"]
    told = "; ".join(f"{label}: {text}" for label, text in labels.items())
    signature = dspy.Signature(
        {
            "text": (str, dspy.InputField(desc="the request")),
            "intent": (Literal[tuple(labels)], dspy.OutputField(desc=f"the intent of the request. {told}")),
        },
        given["instruction"],
    )  # fmt: skip
    rows = {
        split: [dspy.Example(**row).with_inputs("text") for row in given[split]] for split in ("train", "dev", "test")
    }

    def exact(gold: Any, pred: Any, trace: Any = None) -> bool:
        return bool(gold.intent == getattr(pred, "intent", None))

    score = dspy.Evaluate(
        devset=rows["test"], metric=exact, num_threads=32, display_progress=False, max_errors=10**6, failure_score=0.0
    )  # fmt: skip
    base = dspy.Predict(signature)
    began = time.perf_counter()
    if given["name"] == "dspy-random-search":
        optimizer = dspy.BootstrapFewShotWithRandomSearch(
            metric=exact, max_bootstrapped_demos=MOST_DEMOS, max_labeled_demos=MOST_DEMOS, num_candidate_programs=7,
            num_threads=32, max_errors=10**6,
        )  # fmt: skip
        arguments = {"trainset": rows["train"], "valset": rows["dev"]}
    else:
        optimizer = dspy.MIPROv2(
            metric=exact, auto="light", max_bootstrapped_demos=MOST_DEMOS, max_labeled_demos=MOST_DEMOS,
            seed=given["seed"], num_threads=32, max_errors=10**6,
        )  # fmt: skip
        arguments = {"trainset": rows["train"], "valset": rows["dev"]}
    failed = None
    try:
        tuned = optimizer.compile(base, **arguments)
    except Exception as error:
        failed, tuned = f"{type(error).__name__}: {str(error)[:300]}", base
    took = spent()
    found = {
        "calls": took["calls"], "tokens": took["prompt_tokens"] + took["completion_tokens"],
        "seconds": round(time.perf_counter() - began, 1), "dev": getattr(tuned, "score", None),
        "version": dspy.__version__, "failed": failed,
    }  # fmt: skip
    if failed is None:
        found["test"] = {"strict": score(tuned).score / 100}
    return found


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())["runs"]) if path.exists() else {}


def write(path: Path, runs: dict[str, Any], about: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**about, "runs": runs}, indent=1) + "\n")


def table(runs: dict[str, Any]) -> str:
    lines = ["| optimizer | seed | budget | calls | tokens | dev | test strict | test constrained | seconds |"]
    lines.append("|" + " --- |" * 9)
    for run in runs.values():
        if run.get("failed"):
            cells = [run["optimizer"], run["seed"], "", run.get("calls", ""), run.get("tokens", ""), run["failed"][:60]]
            lines.append("| " + " | ".join(map(str, [*cells, "", "", ""])) + " |")
            continue
        test = {name: f"{value:.3f}" for name, value in run["test"].items()}
        dev = "" if run["dev"] is None else f"{run['dev']:.3f}"
        cells = [run["optimizer"], run["seed"], run.get("budget", ""), run["calls"], run["tokens"], dev]
        cells += [test["strict"], test.get("constrained", ""), run["seconds"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def reached(runs: dict[str, Any]) -> list[str]:
    """For each run of DSPy's with a score, the fewest calls with which one of lmgraph's scored at least as much."""
    told = []
    for theirs in runs.values():
        if theirs["optimizer"] not in DSPY or theirs.get("failed"):
            continue
        score, calls = theirs["test"]["strict"], theirs["calls"]
        good = [
            (one["calls"], one["optimizer"])
            for one in runs.values()
            if one["optimizer"] in OURS and one["seed"] == theirs["seed"] and one["test"]["strict"] >= score
        ]
        found = "none did" if not good else f"{min(good)[1]} did with {min(good)[0]} ({min(good)[0] / calls:.0%})"
        told.append(f"{theirs['optimizer']}, seed {theirs['seed']}: {score:.3f} after {calls} calls; {found}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description="Optimizers beside DSPy's, at the same number of calls.")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--train", type=int, default=200, help="training rows for all")
    parser.add_argument("--dev", type=int, default=50, help="rows that all choose by")
    parser.add_argument("--test", type=int, default=200, help="rows that none reads")
    parser.add_argument("--shares", default="0.25,1", help="of the calls of DSPy's random search")
    parser.add_argument("--calls", type=int, help="in place of the calls that DSPy's random search took")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only", help="one of dspy-random-search, dspy-miprov2, demos, prompt; or dspy; or ours")
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        url, data, out = given.peer
        Path(out).write_text(json.dumps(run_dspy(url, json.loads(Path(data).read_text()))))
        return
    runs = read(given.results)
    rows = (given.train, given.dev, given.test)
    about = {
        "program": "intent", "model": MODEL, "train": given.train, "dev": given.dev, "test": given.test,
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
    }  # fmt: skip

    def wanted(name: str, family: str) -> bool:
        return given.only in (None, name, family)

    def done(name: str, seed: int, make: Any, **details: Any) -> None:
        key = " ".join(map(str, [name, seed, *details.values()]))
        if key not in runs:
            print(f"{key} ...", flush=True)
            runs[key] = {"optimizer": name, "seed": seed, **details, **asyncio.run(make)}
            write(given.results, runs, about)
        else:
            make.close()

    for seed in map(int, given.seeds.split(",")):
        for name in DSPY:
            if wanted(name, "dspy"):
                done(name, seed, peer(name, seed, *rows))
        random_search = runs.get(f"{DSPY[0]} {seed}", {})
        calls = given.calls or random_search.get("calls")
        if calls is None:
            print(f"seed {seed}: DSPy's random search did not run; give its calls with --calls", file=sys.stderr)
            continue
        for name in OURS:
            for share in map(float, given.shares.split(",")):
                if wanted(name, "ours"):
                    budget = round(calls * share)
                    done(name, seed, ours(name, seed, budget, *rows), budget=budget)
    print(table(runs))
    print(*reached(runs), sep="\n")


if __name__ == "__main__":
    main()
