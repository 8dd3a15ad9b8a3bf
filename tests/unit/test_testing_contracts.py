"""The public doubles: the scripted engine keeps the engine contract, and both checks see what is broken."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from lmgraph.errors import ContextOverflow, EngineError, EngineRejected
from lmgraph.evaluate import Task
from lmgraph.optimize import Lab, OptimizerConfig, OptimizeResult
from lmgraph.program import Program
from lmgraph.runtime.engine import (
    AdapterEngine,
    Choices,
    Engine,
    GenerateRequest,
    Generation,
    JsonSchema,
    Regex,
    SamplingParams,
)
from lmgraph.testing import ByteTokenizer, Reply, ScriptedEngine, check_engine, check_optimizer
from lmgraph_optimizers.demos import Demos

PROMPT = ByteTokenizer().encode_template("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")


def request(**sampling: Any) -> GenerateRequest:
    return GenerateRequest(PROMPT, SamplingParams(**{"max_tokens": 32, **sampling}))


async def text(engine: ScriptedEngine, **sampling: Any) -> str:
    return engine.tokenizer.decode((await engine.generate(request(**sampling))).token_ids)


async def test_the_scripted_engine_keeps_the_contract() -> None:
    await check_engine(ScriptedEngine({"": ["blue", "a very long story about the colours of the sea", "red"]}))
    await check_engine(ScriptedEngine({"": "blue"}, latency=0.001, token_exact=False, constrains=False))


async def test_it_is_an_engine_with_adapters() -> None:
    engine = ScriptedEngine({"": "x"})
    assert isinstance(engine, Engine)
    assert isinstance(engine, AdapterEngine)


async def test_tables_functions_replies_and_faults() -> None:
    assert await text(ScriptedEngine({"bye": "no", "hello": "yes", "": "else"})) == "yes"
    assert await text(ScriptedEngine(lambda prompt, asked: prompt.partition("user\n")[2][:5])) == "hello"
    with pytest.raises(EngineRejected, match="no answer for: hello"):
        await text(ScriptedEngine({"bye": "no"}))
    with pytest.raises(EngineError, match="fire"):
        await text(ScriptedEngine({"": EngineError("fire")}))
    reply = Reply("ab", "length", (-0.1, -0.2, -0.3))
    assert await ScriptedEngine({"": reply}).generate(request()) == Generation(
        [97, 98, 257], [-0.1, -0.2, -0.3], "length"
    )


async def test_seeds_choose_and_greedy_takes_the_first() -> None:
    engine = ScriptedEngine({"": ["one", "two", "three"]})
    assert {await text(engine, temperature=0.0, seed=seed) for seed in range(20)} == {"one"}
    assert {await text(engine, temperature=1.0, seed=seed) for seed in range(40)} == {"one", "two", "three"}
    assert await text(engine, temperature=1.0, seed=7) == await text(engine, temperature=1.0, seed=7)


async def test_long_answers_are_cut_and_long_prompts_refused() -> None:
    cut = await ScriptedEngine({"": "abcdef"}).generate(request(max_tokens=4))
    assert (cut.finish_reason, len(cut.token_ids), len(cut.logprobs)) == ("length", 4, 4)
    with pytest.raises(ContextOverflow):
        await ScriptedEngine({"": "x"}, context_length=len(PROMPT) + 31).generate(request())


async def test_constraints_hold_whatever_the_script_says() -> None:
    engine = ScriptedEngine({"": "purple"})
    assert await text(engine, constraint=Choices(("red", "green"))) in ("red", "green")
    assert await text(engine, constraint=Regex("-?[0-9]+")) == "0"
    schema = '{"type": "object", "properties": {"a": {"enum": ["x"]}, "b": {"type": "array", "items": {}}}}'
    assert await text(engine, constraint=JsonSchema(schema)) == '{"a": "x", "b": []}'
    assert await text(ScriptedEngine({"": "red"}), constraint=Choices(("red", "green"))) == "red"


async def test_it_remembers_what_it_was_asked() -> None:
    engine = ScriptedEngine({"": "x"}, latency=0.01)
    await asyncio.gather(*(engine.generate(request(seed=seed)) for seed in range(5)))
    assert [asked.sampling.seed for asked in engine.requests] == list(range(5))
    assert engine.most_at_once == 5
    assert engine.under_way == 0
    assert "<|im_start|>user\nhello<|im_end|>" in engine.prompts[0]


class _NoLogprobs(ScriptedEngine):
    async def generate(self, request: GenerateRequest) -> Generation:
        generation = await super().generate(request)
        return Generation(generation.token_ids, [], generation.finish_reason)


class _Careless(ScriptedEngine):
    async def generate(self, request: GenerateRequest) -> Generation:
        generation = await super().generate(request)
        return Generation(generation.token_ids, generation.logprobs, "length")


class _Unseeded(ScriptedEngine):
    calls = 0

    async def generate(self, request: GenerateRequest) -> Generation:
        self.calls += 1
        generation = await super().generate(request)
        return Generation([97 + self.calls % 20, 257], [-1.0, -1.0], "stop") if generation else generation


class _NeverCloses(ScriptedEngine):
    async def aclose(self) -> None:
        return


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (_NoLogprobs, "one logprob a token"),
        (_Careless, "finish_reason `length`"),
        (_Unseeded, "at most max_tokens|equal requests"),
        (_NeverCloses, "closed engine"),
    ],
)
async def test_a_broken_engine_is_seen(kind: type[ScriptedEngine], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        await check_engine(kind({"": "blue"}))


async def test_demos_keeps_the_optimizer_contract() -> None:
    await check_optimizer(Demos, {"max_demos": 2, "candidates": 3})


class _Base:
    name: ClassVar[str] = "base"
    Config: ClassVar[type[OptimizerConfig]] = OptimizerConfig

    def __init__(self, config: OptimizerConfig) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        await lab.evaluate(program, task.train[:4])
        return OptimizeResult(program)


class _ChangesGraph(_Base):
    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        from dataclasses import replace

        return OptimizeResult(replace(program, graph=replace(program.graph, name="mine")))


class _ByClock(_Base):
    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        import time

        await lab.evaluate(program, task.train[:4])
        return OptimizeResult(program.with_params(program.params.with_module("Classify", instruction=str(time.time()))))


class _Forgetful(_Base):
    """Its result depends on how many calls it made, and it keeps no checkpoint of them."""

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        marker = lab.folder / "been-here"
        words = "again" if marker.exists() else "first"
        marker.touch()
        for row in task.train[:8]:
            await lab.evaluate(program, [row])
        return OptimizeResult(program.with_params(program.params.with_module("Classify", instruction=words)))


class _Greedy(_Base):
    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        lab.runtime.meter.budget = type(lab.runtime.meter.budget)()
        return await super().optimize(program, task, lab)


async def test_a_well_behaved_optimizer_passes() -> None:
    await check_optimizer(_Base)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (_ChangesGraph, "graph is never changed"),
        (_ByClock, "equal seeds"),
        (_Forgetful, "interrupted after"),
        (_Greedy, "no call beyond the budget"),
        (object, "it has a name"),
    ],
)
async def test_a_broken_optimizer_is_seen(kind: type[Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        await check_optimizer(kind)
