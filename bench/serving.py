"""A program of two modules over many inputs on one real SGLang server: wall time, the client's CPU, cached tokens.

    python -m venv .venv-peers-frameworks && .venv-peers-frameworks/bin/pip install -r bench/requirements-frameworks.txt
    python bench/serving.py [--inputs 200] [--concurrency 32] [--repeats 3] [--json bench/results/serving.json]

A server of the small model is started for it, on a CPU in bfloat16, and stopped at the end. Each side is a process of
its own, which is timed from its first input to its last answer; imports and connecting are apart. Sides take turns,
the server's prefix cache is emptied before each, and the median over the turns is reported. All sides have the same
instructions, the same four demos for each module, the same inputs, temperature 0 and at most 16 tokens an answer;
every input is two calls.

- lmgraph: `Runtime.map` on the engine `sglang`, with a trace store on disk.
- lmgraph, all at once: without the one call that goes ahead of others that begin alike.
- lmgraph, nothing kept: on a server that keeps no prefixes, which shows what it gains that prompts begin alike.
- DSPy: two `dspy.Predict` over `/v1/chat/completions` in `dspy.Parallel`, cache off. A model this small seldom writes
  the markers that its adapter asks for, and the adapter would then ask again in another form: here it takes such an
  answer as it is, so that its calls are as many as ours. Those markers make its prompts and its answers longer than
  ours; a part of the wall time follows from that.

Cached tokens are what the server says in its log: prompt tokens that it did not have to compute.

    python bench/serving.py --canned [--delay 2]

asks a server that always answers the same, from a process of its own, in place of a model: what is left is the client.
It answers at once, or after half to one and a half times `--delay` seconds: then answers come one by one, as a model's
do, while no model takes the cores and their caches.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PEERS = ROOT / ".venv-peers-frameworks" / "bin" / "python"
MODEL = "smollm2-135m"
TEXTS = ROOT / "programs" / "intent" / "data" / "train.jsonl"
CPU_SHARE = 0.2
"""Most of DSPy's client CPU that ours may take."""
TOPIC = "Read what a person said to a voice assistant. Say in two or three words what it is about, and nothing else."
REPLY = "Answer what a person said to a voice assistant. Be brief, and name the topic in your answer."
DEMOS = (
    ("play the newest album of that band from Bristol", "new music", "I play the new music from Bristol."),
    ("will it rain in Oslo on sunday afternoon", "weather", "I look up the weather in Oslo for you."),
    ("book a table for four at an Italian place tonight", "a restaurant", "I book a restaurant for four."),
    ("give the last book I read four stars out of five", "a rating", "I save the rating of your last book."),
)
MAX_TOKENS = 16
PROGRAM = f'''edition 1

module Topic(text: str) -> (topic: str) {{
  """{TOPIC}"""
  max_tokens: {MAX_TOKENS}
}}

module Reply(topic: str, text: str) -> (reply: str) {{
  """{REPLY}"""
  max_tokens: {MAX_TOKENS}
}}

flow Assist(text: str) -> (topic: str, reply: str) {{
  found = Topic(text)
  said = Reply(topic=found.topic, text)
  return (topic=found.topic, reply=said.reply)
}}
'''
SIDES = ("lmgraph", "lmgraph, all at once", "DSPy")


def inputs(count: int) -> list[str]:
    rows = [json.loads(line)["text"] for line in TEXTS.read_text("utf-8").splitlines()]
    return list(dict.fromkeys(rows))[:count]


# -- sides: one process each -----------------------------------------------------------------------------------------


async def lmgraph_side(url: str, texts: list[str], concurrency: int, *, warm_first: bool) -> dict[str, float]:
    from lmgraph.compiler.compile import compile_path
    from lmgraph.program import Demo, Program
    from lmgraph.runtime import Binding, Runtime, prepare

    if not warm_first:
        prepare.LEAST_SHARED_TOKENS = sys.maxsize
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.lmg"
        path.write_text(PROGRAM)
        program = Program.default(compile_path(path).require(), Path(folder))
        topics = tuple(Demo({"text": text}, {"topic": topic}) for text, topic, _ in DEMOS)
        replies = tuple(Demo({"topic": topic, "text": text}, {"reply": reply}) for text, topic, reply in DEMOS)
        params = program.params.with_module("Topic", demos=topics).with_module("Reply", demos=replies)
        program = program.with_params(params)
        binding = Binding.parse(f"sglang:{url}")
        async with Runtime(everything=binding, store=Path(folder) / "traces.db") as runtime:
            await runtime.bindings.engine(program.graph, "default")
            began, busy = time.perf_counter(), time.process_time()
            done = [
                trace async for trace in runtime.map(program, [{"text": t} for t in texts], concurrency=concurrency)
            ]
            wall, busy = time.perf_counter() - began, time.process_time() - busy
    return {
        "wall": wall,
        "cpu": busy,
        "calls": sum(len(trace.calls) for trace in done),
        "failed": sum(trace.failure is not None for trace in done),
        "sampled": sum(trace.completion_tokens for trace in done),
    }


def dspy_side(url: str, texts: list[str], concurrency: int) -> dict[str, float]:
    import dspy

    class Lenient(dspy.ChatAdapter):
        def parse(self, signature: Any, completion: str) -> dict[str, Any]:
            try:
                return super().parse(signature, completion)
            except Exception:  # whatever it finds wrong with it
                return dict.fromkeys(signature.output_fields, completion.strip())

    lm = dspy.LM(
        f"openai/{MODEL}", api_base=f"{url}/v1", api_key="none", cache=False, temperature=0.0, max_tokens=MAX_TOKENS
    )
    dspy.configure(lm=lm, adapter=Lenient(use_json_adapter_fallback=False))

    class Assist(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.topic = dspy.Predict(dspy.Signature("text -> topic", TOPIC))
            self.topic.demos = [dspy.Example(text=text, topic=topic) for text, topic, _ in DEMOS]
            self.reply = dspy.Predict(dspy.Signature("topic, text -> reply", REPLY))
            self.reply.demos = [dspy.Example(topic=topic, text=text, reply=reply) for text, topic, reply in DEMOS]

        def forward(self, text: str) -> Any:
            topic = self.topic(text=text).topic
            return dspy.Prediction(topic=topic, reply=self.reply(topic=topic, text=text).reply)

    assist = Assist()
    parallel = dspy.Parallel(num_threads=concurrency, disable_progress_bar=True, timeout=0)
    work = [(assist, dspy.Example(text=text).with_inputs("text")) for text in texts]
    began, busy = time.perf_counter(), time.process_time()
    done = parallel(work)
    wall, busy = time.perf_counter() - began, time.process_time() - busy
    usages = [dict(entry.get("usage") or {}) for entry in lm.history]
    return {
        "wall": wall,
        "cpu": busy,
        "calls": len(lm.history),
        "failed": sum(one is None for one in done),
        "sampled": sum(int(usage.get("completion_tokens") or usage.get("output_tokens") or 0) for usage in usages),
    }


# -- a server that answers at once -----------------------------------------------------------------------------------


def serve_canned(delay: float) -> None:
    """Answers as SGLang 0.5.23 does, whatever is asked; prints its URL, and serves until it is ended."""
    import random

    from aiohttp import web

    from lmgraph.engines.local.supply import resolve
    from lmgraph.engines.local.tokenizer import LocalTokenizer

    folder = str(resolve(MODEL))
    tokenizer = LocalTokenizer(Path(folder))
    ids = [*tokenizer.encode("a word on the weather in Oslo on sunday, and no more"), tokenizer.end_token_ids[0]]
    sampled = [[-0.0123456789 * place, token, None] for place, token in enumerate(ids)]
    usage = {"prompt_tokens": 300, "completion_tokens": len(ids), "total_tokens": 300 + len(ids)}
    said = "".join(f"[[ ## {name} ## ]]\nthe weather in Oslo\n\n" for name in ("topic", "reply", "completed"))
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    meta = {
        "finish_reason": {"type": "stop", "matched": ids[-1]}, "prompt_tokens": 300, "weight_version": "default",
        "num_retractions": 0, "input_token_logprobs": [], "output_token_logprobs": sampled, "reasoning_tokens": 0,
        "output_token_logprobs_length": len(ids), "completion_tokens": len(ids), "cached_tokens": 299,
        "e2e_latency": 0.001, "response_sent_to_client_ts": 1750000000.123456,
    }  # fmt: skip
    told: dict[str, Any] = {
        "/model_info": {"model_path": folder, "tokenizer_path": folder, "served_model_name": MODEL},
        "/server_info": {"version": "0.5.23", "enable_lora": True},
        "/v1/models": {"data": [{"id": MODEL, "max_model_len": 8192}]},
        "/v1/chat/completions": {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL,
                                 "choices": [choice], "usage": usage},
    }  # fmt: skip

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/generate":
            asked = await request.json()
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))
            text = tokenizer.decode(ids)
            return web.json_response({"text": text, "output_ids": ids, "meta_info": {"id": asked["rid"], **meta}})
        if request.path == "/tokenize":
            tokens = [tokenizer.encode_template(text) for text in (await request.json())["prompt"]]
            return web.json_response({"tokens": tokens})
        if request.path in told:
            await request.read()
            if request.method == "POST":
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))
            return web.json_response(told[request.path])
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listening, print=None, access_log=None)


@contextlib.contextmanager
def canned_server(delay: float) -> Iterator[str]:
    """Its URL."""
    command = [sys.executable, __file__, "--serve-canned", "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def real_server(*flags: str) -> Iterator[tuple[str, Path]]:
    """Its URL and its log."""
    from lmgraph.engines.sglang.launch import ServerPlan, start_server, stop_server

    server = start_server(ServerPlan(MODEL, "cpu", extra=flags), lambda stage: None, timeout_seconds=900)
    try:
        yield server.url, Path(server.log)
    finally:
        stop_server(server)


def one_side(side: str, url: str, count: int, concurrency: int) -> dict[str, float]:
    texts = inputs(count)
    if side == "DSPy":
        return dspy_side(url, texts, concurrency)
    return asyncio.run(lmgraph_side(url, texts, concurrency, warm_first=side == "lmgraph"))


# -- measuring -------------------------------------------------------------------------------------------------------


def turn(side: str, url: str, log: Path | None, count: int, concurrency: int) -> dict[str, float]:
    """``log`` is None where a canned server answers: it has no cache."""
    start = 0
    if log is not None:
        request = urllib.request.Request(f"{url}/flush_cache", method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()
        time.sleep(2)
        start = log.stat().st_size
    python = str(PEERS) if side == "DSPy" else sys.executable
    command = [
        python,
        __file__,
        "--side",
        side,
        "--url",
        url,
        "--inputs",
        str(count),
        "--concurrency",
        str(concurrency),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    lines = [line for line in told.stdout.splitlines() if line.startswith("{")]
    if told.returncode or not lines:
        raise SystemExit(f"{side} ended with {told.returncode}:\n{told.stdout[-2000:]}\n{told.stderr[-2000:]}")
    found: dict[str, float] = json.loads(lines[-1])
    found["cpu_us_a_call"] = 1e6 * found["cpu"] / found["calls"]
    if log is None:
        return found
    time.sleep(1)
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        said = file.read()
    computed = sum(map(int, re.findall(r"#new-token: (\d+)", said)))
    cached = sum(map(int, re.findall(r"#cached-token: (\d+)", said)))
    return {**found, "prompt": computed + cached, "cached": cached}


def measure(sides: list[str], url: str, log: Path | None, count: int, concurrency: int, repeats: int) -> dict[str, Any]:
    turn(sides[0], url, log, min(count, 8), concurrency)  # what a server does on its first calls alone
    turns: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            turns[side].append(turn(side, url, log, count, concurrency))
            print(f"{side}: {turns[side][-1]['wall']:.1f} s", file=sys.stderr, flush=True)
    return {
        side: {
            **{name: round(statistics.median(one[name] for one in done), 3) for name in done[0]},
            "walls": [round(one["wall"], 2) for one in done],
            "cpus": [round(one["cpu"], 3) for one in done],
        }
        for side, done in turns.items()
    }


def table(found: dict[str, Any]) -> str:
    lines = [
        "| side | wall s | client CPU s | us a call | calls | failed runs | prompt tokens | cached | sampled tokens |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for side, one in found.items():
        prompt = f"{one['prompt']:.0f} | {one['cached'] / max(one['prompt'], 1):.0%}" if "prompt" in one else "- | -"
        lines.append(
            f"| {side} | {one['wall']:.1f} | {one['cpu']:.2f} | {one['cpu_us_a_call']:.0f} | {one['calls']:.0f} |"
            f" {one['failed']:.0f} | {prompt} | {one['sampled']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--canned", action="store_true", help="no model: a server that answers at once")
    parser.add_argument("--delay", type=float, default=0.0, help="with --canned: seconds to an answer, on average")
    parser.add_argument("--json", type=Path, help="default: serving.json or serving-canned.json in bench/results")
    parser.add_argument("--serve-canned", action="store_true", help="be that server")
    parser.add_argument("--side", choices=SIDES, help="measure this side once, in this process")
    parser.add_argument("--url", help="with --side: the server")
    args = parser.parse_args()
    if args.serve_canned:
        serve_canned(args.delay)
        return
    if args.side:
        print(json.dumps(one_side(args.side, args.url, args.inputs, args.concurrency)))
        return
    sides = [side for side in SIDES if side != "DSPy" or PEERS.is_file()]
    if len(sides) < len(SIDES):
        print(f"DSPy is left out: there is no {PEERS.relative_to(ROOT)}.", file=sys.stderr)
    if args.canned:
        with canned_server(args.delay) as url:
            found = measure(sides, url, None, args.inputs, args.concurrency, args.repeats)
    else:
        with real_server() as (url, log):
            found = measure(sides, url, log, args.inputs, args.concurrency, args.repeats)
        with real_server("--disable-radix-cache") as (url, log):
            without = measure(["lmgraph"], url, log, args.inputs, args.concurrency, args.repeats)
        found["lmgraph, nothing kept"] = without["lmgraph"]
    print(table(found))
    if "DSPy" in found:
        share = found["lmgraph"]["cpu"] / found["DSPy"]["cpu"]
        print(f"\nClient CPU: {share:.2f} of DSPy's; the goal is {CPU_SHARE:g} at most.")
    machine = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    path = args.json or RESULTS / ("serving-canned.json" if args.canned else "serving.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "inputs": args.inputs, "delay": args.delay, "concurrency": args.concurrency, "repeats": args.repeats,
        "machine": machine, "sides": found,
    }  # fmt: skip
    path.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
