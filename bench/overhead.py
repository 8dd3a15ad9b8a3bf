"""What a framework adds to a call: one chain of three modules, without a model, microseconds a node.

    python -m venv .venv-peers-frameworks && .venv-peers-frameworks/bin/pip install -r bench/requirements-frameworks.txt
    python bench/overhead.py [--seconds 0.5] [--repeats 15] [--json bench/results/overhead.json]
    python bench/overhead.py --profile

--profile shows which part of lmgraph the time of "on disk" goes to, by Python's profiler.

Every side runs the same chain, a text in and a text out of each node (question, query, answer, verdict), with a
language model that answers at once, one run after another. Each side is a process of its own; they take turns of equal
length, so that what else the machine does meets all of them, and each begins with caches as cold as the others'. The
median over the turns is reported: of wall time, and of the process's CPU.

- lmgraph: `Runtime.run` of a compiled program: prompts rendered to token ids, sampling, parsing by type, a trace of
  every call in memory; "on disk" keeps them in a trace store (SQLite), too. Token ids come from a table, so that
  tokenisation is apart: it is measured on the same texts with the tokenizer of the small model, and printed below.
- by hand: the floor of "on disk": the same rows in the same tables, written by a loop that knows the chain.
- DSPy: three `dspy.Predict`, called and awaited (`acall`); its adapter writes the prompts and parses, its history is
  on, as is the default; its cache is off, since it would answer in place of the model.
- LangGraph: a compiled graph of three nodes, `ainvoke`. It has no prompts and keeps nothing unless told to: its nodes
  format a text and strip the answer. "kept" has an in-memory checkpointer, which records the state after each step.
- Haystack: an async pipeline of three components that do the same as LangGraph's nodes; its tracing is off, as is the
  default.
- asyncio: three awaits that do the same as LangGraph's nodes, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypedDict

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PEERS = ROOT / ".venv-peers-frameworks" / "bin" / "python"
NODES = 3
PROFILED_RUNS = 2700
GOAL = 50.0
"""Microseconds a node, with traces on disk."""
TIMES_UNDER_DSPY = 8.0
QUESTIONS = [f"What is the capital of Austria, and since when? ({number})" for number in range(50)]
QUERY, ANSWER, VERDICT = "capital of Austria since", "Vienna, since 1918.", "right: Vienna is the capital of Austria"
PROGRAM = '''edition 1

module Rewrite(question: str "what a person asks") -> (query: str "a few words to search for") {
  """Turn the question into a search query."""
  max_tokens: 64
}

module Answer(query: str "a few words to search for") -> (answer: str "one sentence") {
  """Answer the query in one sentence."""
  max_tokens: 64
}

module Judge(answer: str "one sentence") -> (verdict: str "right, wrong or unclear, and why") {
  """Say whether the answer can be right."""
  max_tokens: 64
}

flow Chain(question: str) -> (verdict: str) {
  rewritten = Rewrite(question=question)
  answered = Answer(query=rewritten.query)
  judged = Judge(answer=answered.answer)
  return (verdict=judged.verdict)
}
'''

Run = Callable[[str], Awaitable[str]]
"""A run of the chain, from the question to the verdict."""


# -- lmgraph ---------------------------------------------------------------------------------------------------------


class Table:
    """A tokenizer that has seen every text before: its ids come from a table."""

    fingerprint = "table"

    def __init__(self) -> None:
        self.ids: dict[str, list[int]] = {}
        self._texts: dict[tuple[int, ...], str] = {}

    def encode(self, text: str) -> list[int]:
        found = self.ids.get(text)
        if found is None:
            start = 1000 * len(self.ids)
            found = self.ids[text] = list(range(start, start + len(text) // 4 + 1))
            self._texts[tuple(found)] = text
        return found

    def encode_template(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, token_ids: Any) -> str:
        return self._texts[tuple(token_ids)]

    def render_chat(self, messages: Any) -> str:
        turns = [f"<|im_start|>{one.role}\n{one.content}<|im_end|>\n" for one in messages]
        return "".join(turns) + "<|im_start|>assistant\n"


class AtOnce:
    """An engine that knows the three answers."""

    name = "at-once"
    model_id = "no-model"
    stop_token_ids = (0,)
    context_length = 4096
    token_exact = honours_seed = constrains = True

    def __init__(self) -> None:
        from lmgraph.runtime.engine import Generation

        self.tokenizer = Table()
        self._generation = Generation
        texts = {"Chain/rewritten": QUERY, "Chain/answered": ANSWER, "Chain/judged": VERDICT}
        self._ids = {key: self.tokenizer.encode(text) for key, text in texts.items()}

    async def generate(self, request: Any) -> Any:
        ids = self._ids[request.request_id]
        return self._generation(list(ids), [-0.25] * len(ids), "stop")

    async def aclose(self) -> None:
        """Nothing is open."""


def compiled(folder: Path) -> Any:
    from lmgraph.compiler.compile import compile_path
    from lmgraph.program import Program

    path = folder / "chain.lmg"
    path.write_text(PROGRAM, encoding="utf-8")
    return Program.default(compile_path(path).require(), folder)


async def lmgraph_run(stack: AsyncExitStack, folder: Path, *, on_disk: bool) -> Run:
    from lmgraph.runtime import Runtime

    program = compiled(folder)
    runtime = await stack.enter_async_context(
        Runtime(everything=AtOnce(), store=folder / "traces.db" if on_disk else None)
    )

    async def run(question: str) -> str:
        trace = await runtime.run(program, {"question": question})
        return str(trace.require()["verdict"])

    return run


def by_hand(folder: Path) -> Run:
    """The rows of the chain, and nothing else: what a program that was written for them would do."""
    import sqlite3
    import struct

    from lmgraph.runtime.store_rows import ADD_CALL, ADD_RUN, ADD_SETTINGS
    from lmgraph.runtime.store_schema import SCHEMA
    from lmgraph.runtime.store_writer import MOST

    db = sqlite3.connect(folder / "by-hand.db")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(SCHEMA)
    static, answers = list(range(90)), {"query": QUERY, "answer": ANSWER, "verdict": VERDICT}
    runs: list[Any] = []
    calls: list[Any] = []

    async def run(question: str) -> str:
        run_id, text = f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}", question
        for name, answer in answers.items():
            prompt, completion = [*static, *range(len(text) // 4), 1, 2, 3], list(range(len(answer) // 4 + 1))
            logprobs, now = [-0.25] * len(completion), time.time()
            calls.append((
                run_id, 0, f"Chain/{name}", 0, 0, f"Chain/{name}", name, "default", "at-once", "no-model", None,
                "t" * 64,
                struct.pack(f"<{len(prompt)}i", *prompt), struct.pack(f"<{len(completion)}i", *completion),
                struct.pack(f"<{len(logprobs)}d", *logprobs), 0.0, 1, 1, "stop", answer, f'{{"text":"{text}"}}',
                f'{{"{name}":"{answer}"}}', None, "[]", 0, now, 0.0, 0.0, 0.0, 0.0,
            ))  # fmt: skip
            text = answer.strip()
        runs.append((
            run_id, "p", "Chain", "", "run", 0, "", 0, f'{{"question":"{question}"}}', f'{{"verdict":"{text}"}}', None,
            None, 3, 300, 30, time.time(), 0.0,
        ))  # fmt: skip
        if len(runs) == MOST:
            with db:
                db.executemany(ADD_RUN, runs)
                db.executemany(ADD_SETTINGS, [(one[0], "constrained", None, 0, "", 0, 0) for one in runs])
                db.executemany(ADD_CALL, calls)
            runs.clear()
            calls.clear()
        return text

    return run


async def tokenisation(folder: Path, repeats: int) -> dict[str, float] | None:
    """Microseconds a node of what `lmgraph` tokenises: a node's own values, and its answer back to text."""
    try:
        from lmgraph.engines.local.supply import resolve
        from lmgraph.engines.local.tokenizer import LocalTokenizer
    except ImportError:
        return None
    engine = AtOnce()
    from lmgraph.runtime import Runtime

    async with Runtime(everything=engine) as runtime:
        before = None
        for question in QUESTIONS:
            await runtime.run(compiled(folder), {"question": question})
            before = before or set(engine.tokenizer.ids)
    given = [text for text in engine.tokenizer.ids if text.startswith(("question: ", "query: ", "answer: "))]
    tokenizer = LocalTokenizer(resolve("smollm2-135m"))
    answers = [tokenizer.encode(text) for text in (QUERY, ANSWER, VERDICT)]
    encode, decode = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        for text in given:
            tokenizer.encode(text)
        middle = time.perf_counter()
        for _ in range(20):
            for ids in answers:
                tokenizer.decode(ids)
        encode.append((middle - began) / len(given) * 1e6)
        decode.append((time.perf_counter() - middle) / 60 * 1e6)
    return {"encode": round(statistics.median(encode), 1), "decode": round(statistics.median(decode), 1)}


# -- peers -----------------------------------------------------------------------------------------------------------


async def answer_at_once(prompt: str, answer: str) -> str:
    return answer


def asyncio_run() -> Run:
    async def run(question: str) -> str:
        query = (await answer_at_once(f"Turn the question into a search query.\nquestion: {question}", QUERY)).strip()
        answer = (await answer_at_once(f"Answer the query in one sentence.\nquery: {query}", ANSWER)).strip()
        return (await answer_at_once(f"Say whether the answer can be right.\nanswer: {answer}", VERDICT)).strip()

    return run


def dspy_run(*, awaited: bool) -> Run:
    import dspy
    from dspy.lm15 import Message, Response, TextPart, Usage

    fields = {"query": QUERY, "answer": ANSWER, "verdict": VERDICT}

    def respond(request: Any) -> Any:
        asked = request.messages[-1].parts[0].text
        name = next(name for name in fields if f"the field `[[ ## {name} ## ]]`" in asked)
        parts = (TextPart(f"[[ ## {name} ## ]]\n{fields[name]}\n\n[[ ## completed ## ]]"),)
        return Response(None, "no-model", Message("assistant", parts), "stop", Usage(100, 10))

    class Engine:
        def complete(self, request: Any) -> Any:
            return respond(request)

        def close(self) -> None:
            """Nothing is open."""

    class AsyncEngine:
        async def complete(self, request: Any) -> Any:
            return respond(request)

        async def aclose(self) -> None:
            """Nothing is open."""

    dspy.configure(lm=dspy.LM("openai/no-model", engine=Engine(), async_engine=AsyncEngine(), cache=False))
    rewrite = dspy.Predict(dspy.Signature("question -> query", "Turn the question into a search query."))
    reply = dspy.Predict(dspy.Signature("query -> answer", "Answer the query in one sentence."))
    judge = dspy.Predict(dspy.Signature("answer -> verdict", "Say whether the answer can be right."))

    async def called(question: str) -> str:
        query = rewrite(question=question).query
        return str(judge(answer=reply(query=query).answer).verdict)

    async def run(question: str) -> str:
        query = (await rewrite.acall(question=question)).query
        answer = (await reply.acall(query=query)).answer
        return str((await judge.acall(answer=answer)).verdict)

    return run if awaited else called


class State(TypedDict, total=False):
    question: str
    query: str
    answer: str
    verdict: str


def langgraph_run(*, kept: bool) -> Run:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, StateGraph

    async def rewrite(state: State) -> State:
        prompt = f"Turn the question into a search query.\nquestion: {state['question']}"
        return {"query": (await answer_at_once(prompt, QUERY)).strip()}

    async def reply(state: State) -> State:
        prompt = f"Answer the query in one sentence.\nquery: {state['query']}"
        return {"answer": (await answer_at_once(prompt, ANSWER)).strip()}

    async def judge(state: State) -> State:
        prompt = f"Say whether the answer can be right.\nanswer: {state['answer']}"
        return {"verdict": (await answer_at_once(prompt, VERDICT)).strip()}

    builder = StateGraph(State)
    for name, node in (("rewrite", rewrite), ("reply", reply), ("judge", judge)):
        builder.add_node(name, node)
    for one, other in ((START, "rewrite"), ("rewrite", "reply"), ("reply", "judge"), ("judge", END)):
        builder.add_edge(one, other)
    graph = builder.compile(checkpointer=InMemorySaver() if kept else None)
    numbers = iter(range(10**9))

    async def run(question: str) -> str:
        config: Any = {"configurable": {"thread_id": str(next(numbers))}} if kept else None
        return str((await graph.ainvoke({"question": question}, config))["verdict"])

    return run


def haystack_run() -> Run:
    from haystack import Pipeline, component

    def node(given: str, gives: str, instruction: str, answer: str) -> Any:
        @component
        class Node:
            def __init__(self) -> None:
                component.set_input_types(self, **{given: str})
                component.set_output_types(self, **{gives: str})

            def run(self, **values: str) -> dict[str, str]:
                raise AssertionError("the pipeline is run asynchronously")

            async def run_async(self, **values: str) -> dict[str, str]:
                prompt = f"{instruction}\n{given}: {values[given]}"
                return {gives: (await answer_at_once(prompt, answer)).strip()}

        return Node()

    pipeline = Pipeline()
    pipeline.add_component("rewrite", node("question", "query", "Turn the question into a search query.", QUERY))
    pipeline.add_component("reply", node("query", "answer", "Answer the query in one sentence.", ANSWER))
    pipeline.add_component("judge", node("answer", "verdict", "Say whether the answer can be right.", VERDICT))
    pipeline.connect("rewrite.query", "reply.query")
    pipeline.connect("reply.answer", "judge.answer")

    async def run(question: str) -> str:
        return str((await pipeline.run_async({"rewrite": {"question": question}}))["judge"]["verdict"])

    return run


# -- measuring -------------------------------------------------------------------------------------------------------

OURS = ("lmgraph, on disk", "lmgraph, in memory", "by hand, on disk", "asyncio")
OTHERS = ("DSPy", "DSPy, awaited", "LangGraph", "LangGraph, kept", "Haystack")


async def made(side: str, stack: AsyncExitStack, folder: Path) -> Run:
    match side:
        case "lmgraph, on disk" | "lmgraph, in memory":
            return await lmgraph_run(stack, folder, on_disk=side.endswith("disk"))
        case "by hand, on disk":
            return by_hand(folder)
        case "asyncio":
            return asyncio_run()
        case "DSPy" | "DSPy, awaited":
            return dspy_run(awaited=side.endswith("awaited"))
        case "LangGraph" | "LangGraph, kept":
            return langgraph_run(kept=side.endswith("kept"))
        case _:
            return haystack_run()


async def serve(side: str, seconds: float) -> None:
    """Measure once for each line of standard input."""
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            run = await made(side, stack, Path(folder))

            async def turn() -> list[float]:
                """Wall time and CPU, microseconds a node."""
                runs, began, busy = 0, time.perf_counter(), time.process_time()
                while (wall := time.perf_counter() - began) < seconds:
                    for question in QUESTIONS:
                        verdict = await run(question)
                        assert verdict == VERDICT, verdict
                    runs += len(QUESTIONS)
                return [one / runs / NODES * 1e6 for one in (wall, time.process_time() - busy)]

            await turn()
            print(json.dumps("ready"), flush=True)
            for _ in sys.stdin:
                print(json.dumps(await turn()), flush=True)


def started(side: str, seconds: float) -> subprocess.Popen[str]:
    python = str(PEERS) if side in OTHERS else sys.executable
    environment = {**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False", "LANGSMITH_TRACING": "false"}
    command = [python, __file__, "--side", side, "--seconds", str(seconds)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, cwd=ROOT
    )


def said(process: subprocess.Popen[str], side: str) -> Any:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            return json.loads(line)
        except ValueError:  # what a package prints
            continue
    raise SystemExit(f"{side} ended without a figure; see above")


def measure(sides: list[str], seconds: float, repeats: int) -> dict[str, dict[str, Any]]:
    processes = {side: started(side, seconds) for side in sides}
    found: dict[str, list[list[float]]] = {side: [] for side in sides}
    try:
        for side, process in processes.items():
            said(process, side)
        for _ in range(repeats):
            for side, process in processes.items():
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                found[side].append(said(process, side))
    finally:
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    return {
        side: {
            "wall": round(statistics.median(wall for wall, _ in turns), 1),
            "cpu": round(statistics.median(busy for _, busy in turns), 1),
            "lowest": round(min(wall for wall, _ in turns), 1),
            "highest": round(max(wall for wall, _ in turns), 1),
            "turns": [round(wall, 1) for wall, _ in turns],
        }
        for side, turns in found.items()
    }


PARTS = {
    "store.py": "rows of the trace store", "store_rows.py": "rows of the trace store",
    "store_writer.py": "SQLite", "calls.py": "one call: request and record", "run.py": "one call: request and record",
    "asking.py": "one call: request and record", "limits.py": "one call: request and record",
    "engine.py": "one call: request and record", "prompt.py": "prompt", "parse.py": "parse", "values.py": "parse",
    "seeds.py": "seeds", "execute.py": "executor", "scope.py": "executor", "expressions.py": "executor",
    "overhead.py": "the bench itself",
}  # fmt: skip
"""By file; what else there is are parts of a run: its inputs, options, trace."""


async def profile(runs: int) -> dict[str, float]:
    """The share of each part in the time of `lmgraph, on disk`. What C code takes counts for the file that calls it."""
    import cProfile
    import pstats

    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            run = await lmgraph_run(stack, Path(folder), on_disk=True)
            for question in QUESTIONS:
                await run(question)
            profiler = cProfile.Profile()
            profiler.enable()
            for number in range(runs):
                await run(QUESTIONS[number % len(QUESTIONS)])
            profiler.disable()
    shares: dict[str, float] = {}
    stats: Any = pstats.Stats(profiler)
    for (file, _, _), (_, _, own, _, callers) in stats.stats.items():
        built_in = file == "~" or file.startswith("<")
        taken = [(caller[0], times[2]) for caller, times in callers.items()] if built_in else [(file, own)]
        for source, seconds in taken:
            part = PARTS.get(Path(source).name, "the run around the calls")
            shares[part] = shares.get(part, 0.0) + seconds
    whole = sum(shares.values())
    return {part: round(seconds / whole, 3) for part, seconds in sorted(shares.items(), key=lambda one: -one[1])}


def main() -> None:
    options = argparse.ArgumentParser(description="Microseconds a node, without a model.")
    options.add_argument("--seconds", type=float, default=0.5, help="length of a turn")
    options.add_argument("--repeats", type=int, default=15, help="turns of each side")
    options.add_argument("--only", help="sides whose names begin so")
    options.add_argument("--json", type=Path, default=RESULTS / "overhead.json")
    options.add_argument("--profile", action="store_true", help="where the time goes, and nothing else")
    options.add_argument("--side", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.side is not None:
        asyncio.run(serve(chosen.side, chosen.seconds))
        return
    if chosen.profile:
        for part, share in asyncio.run(profile(PROFILED_RUNS)).items():
            print(f"{part:32} {share:6.1%}")
        return

    sides = [*OURS, *OTHERS] if PEERS.exists() else list(OURS)
    if len(sides) == len(OURS):
        print(f"no {PEERS.relative_to(ROOT)}: the peers are left out (see the docstring)", file=sys.stderr)
    sides = [side for side in sides if side.startswith(chosen.only or "")]
    found = measure(sides, chosen.seconds, chosen.repeats)
    with tempfile.TemporaryDirectory() as folder:
        tokens = asyncio.run(tokenisation(Path(folder), chosen.repeats))

    ours = found.get("lmgraph, on disk", {}).get("wall")
    print(f"{'microseconds a node':22} {'wall':>8} {'cpu':>8} {'lowest':>8} {'highest':>8} {'x lmgraph':>10}")
    for side, row in found.items():
        times = f"{row['wall'] / ours:10.2f}" if ours else ""
        print(f"{side:22} {row['wall']:8.1f} {row['cpu']:8.1f} {row['lowest']:8.1f} {row['highest']:8.1f} {times}")
    if tokens is not None:
        print(f"tokenisation of a node, apart: {tokens['encode']} to encode, {tokens['decode']} to decode")
    machine = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    report = {
        "unit": "microseconds a node", "nodes": NODES, "goal": GOAL, "seconds": chosen.seconds,
        "repeats": chosen.repeats,
        "machine": machine, "sides": found, "tokenisation": tokens,
    }  # fmt: skip
    if not chosen.only:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if ours is not None and ours > GOAL:
        raise SystemExit(f"lmgraph with traces on disk takes {ours} us a node, over the goal of {GOAL}")
    slow = found.get("DSPy", {}).get("wall")
    if ours is not None and slow is not None and slow < TIMES_UNDER_DSPY * ours:
        raise SystemExit(f"lmgraph is {slow / ours:.1f} times under DSPy, and the goal is {TIMES_UNDER_DSPY}")


if __name__ == "__main__":
    main()
