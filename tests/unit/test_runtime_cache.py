"""The response cache: equal requests are answered once, never wrongly, and whatever lies on the disk."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError
from lmgraph.program import AdapterRef, Program
from lmgraph.runtime import Budget, Meter, ResponseCache, RunIdentity, RunOptions, Runtime, Trace
from lmgraph.runtime.cache import CachedAnswers
from lmgraph.runtime.engine import Choices, GenerateRequest, Generation, SamplingParams
from lmgraph.testing import Reply, ScriptedEngine
from support.scripted import program_from, run_cli, sort_program, write_engine_plugin, write_sort_program

ONE = """
edition 1

module Say(word: str) -> (said: str) {
  max_tokens: 64
}

flow Talk(word: str) -> (said: str) {
  out = Say(word=word)
  return (said=out.said)
}
"""


def engine_of(answers: Sequence[str] = ("a", "b", "c", "d"), **options: object) -> ScriptedEngine:
    return ScriptedEngine({"": answers}, **options)  # type: ignore[arg-type]


def talk(folder: Path) -> Program:
    return program_from(folder / "program", ONE)


async def run(
    program: Program, engine: ScriptedEngine, cache: ResponseCache | Path | None, options: RunOptions | None = None
) -> Trace:
    async with Runtime(everything=engine, cache=cache) as runtime:
        return await runtime.run(program, {"word": "hi"}, options=options)


async def test_a_call_is_answered_once(tmp_path: Path) -> None:
    program, engine, cache = talk(tmp_path), engine_of(), ResponseCache(tmp_path / "cache")
    first = await run(program, engine, cache)
    second = await run(program, engine, cache)
    assert len(engine.requests) == 1
    assert (cache.hits, cache.misses) == (1, 1)
    assert [first.calls[0].source, second.calls[0].source] == ["engine", "cache"]
    same = {"source": "engine", "started": 0.0, "seconds": 0.0}
    assert replace(first.calls[0], **same) == replace(second.calls[0], **same)  # type: ignore[arg-type]
    assert first.outputs == second.outputs


async def test_it_outlives_the_process(tmp_path: Path) -> None:
    await run(talk(tmp_path), engine_of(), tmp_path / "cache")
    silent = ScriptedEngine({})
    trace = await run(talk(tmp_path), silent, tmp_path / "cache")
    assert trace.outputs == {"said": "a"}
    assert silent.requests == []


async def test_without_one_nothing_is_kept(tmp_path: Path) -> None:
    engine = engine_of()
    await run(talk(tmp_path), engine, None)
    await run(talk(tmp_path), engine, None)
    assert len(engine.requests) == 2


async def test_a_run_may_leave_it_out(tmp_path: Path) -> None:
    engine = engine_of()
    for _ in range(2):
        await run(talk(tmp_path), engine, tmp_path / "cache", RunOptions(cache="off"))
    assert len(engine.requests) == 2


async def test_a_hit_is_no_call_for_the_budget(tmp_path: Path) -> None:
    engine, meter = engine_of(), Meter(Budget(calls=1))
    async with Runtime(everything=engine, cache=tmp_path / "cache", meter=meter) as runtime:
        for _ in range(5):
            await runtime.run(talk(tmp_path), {"word": "hi"})
    assert meter.calls == 1


async def test_sampled_calls_are_told_apart_by_their_seeds(tmp_path: Path) -> None:
    engine, cache = engine_of(), ResponseCache(tmp_path / "cache")
    program = talk(tmp_path)
    seen = {}
    for seed in range(8):
        seen[seed] = (await run(program, engine, cache, RunOptions(temperature=1.0, seed=seed))).outputs
    assert cache.hits == 0
    for seed in range(8):
        assert (await run(program, engine, cache, RunOptions(temperature=1.0, seed=seed))).outputs == seen[seed]
    assert cache.hits == 8
    place = RunIdentity(rollout=1)
    await run(program, engine, cache, RunOptions(temperature=1.0, identity=place))
    assert cache.misses == 9, "another rollout is another sample"


async def test_greedy_calls_are_alike_under_every_seed(tmp_path: Path) -> None:
    engine = engine_of()
    for seed in range(3):
        await run(talk(tmp_path), engine, tmp_path / "cache", RunOptions(seed=seed))
    assert len(engine.requests) == 1


async def test_sampled_calls_of_engines_without_seeds_are_kept_only_where_asked(tmp_path: Path) -> None:
    engine, cache = engine_of(), ResponseCache(tmp_path / "cache")
    engine.honours_seed = False
    for _ in range(2):
        await run(talk(tmp_path), engine, cache, RunOptions(temperature=1.0))
    assert (len(engine.requests), cache.hits + cache.misses) == (2, 0)
    for _ in range(2):
        await run(talk(tmp_path), engine, cache, RunOptions(temperature=1.0, cache="all"))
    assert (len(engine.requests), cache.hits) == (3, 1)


async def test_another_prompt_adapter_model_or_setup_is_a_miss(tmp_path: Path) -> None:
    program = sort_program(tmp_path / "program")
    cache = ResponseCache(tmp_path / "cache")

    async def ask(program: Program, model: str = "m", setup: ResponseCache = cache) -> None:
        async with Runtime(everything=engine_of(["tool"], model_id=model), cache=setup) as runtime:
            await runtime.run(program, {"word": "saw"})

    def adapted(version: int, sha: str) -> Program:
        ref = AdapterRef("shared", version, tmp_path / "adapter", "m", sha * 64)
        return program.with_params(program.params.with_adapter(ref, ("Classify",)))

    await ask(program)
    await ask(program)
    assert (cache.hits, cache.misses) == (1, 1)
    instructed = program.with_params(program.params.with_module("Classify", instruction="Other words."))
    for other in (instructed, adapted(1, "a"), adapted(2, "a"), adapted(1, "b")):
        await ask(other)
    await ask(program, model="another")
    assert (cache.hits, cache.misses) == (1, 6)
    bf16 = ResponseCache(tmp_path / "cache", setup={"scripted": {"dtype": "bfloat16"}})
    await ask(program, setup=bf16)
    assert bf16.hits == 0


def request(prompt: Sequence[int] = (1, 2, 3), **sampling: object) -> GenerateRequest:
    return GenerateRequest(list(prompt), SamplingParams(**sampling))  # type: ignore[arg-type]


def test_everything_that_decides_an_answer_is_in_its_name(tmp_path: Path) -> None:
    cache, engine = ResponseCache(tmp_path), engine_of()
    requests = [
        request(),
        request((1, 2)),
        request((1, 2, 3, 4)),
        request(max_tokens=7),
        request(temperature=0.5),
        request(temperature=0.5, seed=1),
        request(temperature=0.5, top_p=0.5),
        request(temperature=0.5, top_k=5),
        request(stop_token_ids=(4,)),
        request(constraint=Choices(("a", "b"))),
        request(constraint=Choices(("a,b",))),
        replace(request(), adapter="x@v1"),
    ]
    assert len({cache.name(engine, one) for one in requests}) == len(requests)
    assert cache.name(engine, request(seed=1)) == cache.name(engine, request(seed=2))
    assert cache.name(engine, replace(request(), request_id="another")) == cache.name(engine, request())


def test_an_answer_comes_back_whole_and_as_a_copy(tmp_path: Path) -> None:
    answers, engine = CachedAnswers(ResponseCache(tmp_path)), engine_of()
    rng = random.Random(1)
    said = Generation(
        [0, 2**31 - 1, 7],
        [-rng.random() * 10.0**-power for power in (0, 17, 300)],
        "length",
        cached_tokens=5,
        allowed=[b"", b"\x00\xff", b"abc"],
        prefill_seconds=1.0,
    )
    answers.keep(engine, request(), said)
    known = answers.find(engine, request())
    assert known is not None
    assert known.generation == Generation(said.token_ids, said.logprobs, "length", allowed=said.allowed)
    known.generation.token_ids.append(99)
    again = answers.find(engine, request())
    assert again is not None
    assert again.generation.token_ids == said.token_ids


def test_an_aborted_answer_is_not_kept(tmp_path: Path) -> None:
    answers, engine = CachedAnswers(ResponseCache(tmp_path)), engine_of()
    answers.keep(engine, request(), Generation([1], [-1.0], "abort"))
    assert answers.find(engine, request()) is None


def test_other_weights_in_the_same_folder_are_a_miss(tmp_path: Path) -> None:
    class Trainable(ScriptedEngine):
        model_folder = tmp_path / "model"

    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    before = ResponseCache(tmp_path / "cache").name(Trainable({}), request())
    assert ResponseCache(tmp_path / "cache").name(Trainable({}), request()) == before
    weights.write_bytes(b"others")
    assert ResponseCache(tmp_path / "cache").name(Trainable({}), request()) != before


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_no_damage_is_ever_read(tmp_path: Path) -> None:
    cache, engine = ResponseCache(tmp_path), engine_of()
    answers = CachedAnswers(cache)
    said = Generation([5, 6, 7], [-0.25, -0.5, -1.0], "stop")
    rng = random.Random(3)
    for trial in range(300):
        answers.keep(engine, request(), said)
        (path,) = files(tmp_path)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        if trial % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        elif trial % 3 == 1:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        else:
            damaged += b" "
        path.write_bytes(damaged)
        assert answers.find(engine, request()) is None
        assert files(tmp_path) == [], "what is damaged is deleted"
    assert cache.damaged == 300


def test_an_answer_under_another_name_is_a_miss(tmp_path: Path) -> None:
    cache, engine = ResponseCache(tmp_path), engine_of()
    answers = CachedAnswers(cache)
    answers.keep(engine, request((1,)), Generation([1], [-1.0], "stop"))
    answers.keep(engine, request((2,)), Generation([2], [-2.0], "stop"))
    one, two = files(tmp_path)
    shutil.copy(one, two)
    found = [answers.find(engine, request((number,))) for number in (1, 2)]
    right = [known and known.generation.token_ids for known in found]
    assert sorted(map(str, right)) in (["None", "[1]"], ["None", "[2]"])
    assert cache.damaged == 1


async def test_a_disk_that_takes_nothing_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ResponseCache(tmp_path / "cache")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    trace = await run(talk(tmp_path), engine_of(), cache)
    assert trace.outputs == {"said": "a"}
    assert cache.unwritten == 1
    assert files(tmp_path / "cache") == []


async def test_a_folder_that_vanishes_fails_no_run(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file now", encoding="utf-8")
    assert (await run(talk(tmp_path), engine_of(), cache)).outputs == {"said": "a"}


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        ResponseCache(tmp_path / "file" / "cache")


async def test_failed_calls_are_asked_again(tmp_path: Path) -> None:
    broken = ScriptedEngine({"": Reply("", finish_reason="abort")})
    cache = ResponseCache(tmp_path / "cache")
    assert (await run(talk(tmp_path), broken, cache)).failure is not None
    assert (await run(talk(tmp_path), engine_of(), cache)).outputs == {"said": "a"}


WRITER = """
import sys
from pathlib import Path
from lmgraph.runtime.cache import CachedAnswers, ResponseCache
from lmgraph.runtime.engine import GenerateRequest, Generation, SamplingParams
from lmgraph.testing import ScriptedEngine

answers, engine = CachedAnswers(ResponseCache(Path(sys.argv[1]))), ScriptedEngine({})
wrong = 0
for turn in range(200):
    number = turn % 20
    request = GenerateRequest([number], SamplingParams())
    known = answers.find(engine, request)
    if known is not None:
        wrong += known.generation.token_ids != [number] * 50
    answers.keep(engine, request, Generation([number] * 50, [-0.5] * 50, "stop"))
sys.exit(wrong)
"""


def test_two_processes_share_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    workers = [subprocess.Popen(command) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    cache, engine = ResponseCache(tmp_path / "cache"), ScriptedEngine({})
    for number in range(20):
        known = CachedAnswers(cache).find(engine, GenerateRequest([number], SamplingParams()))
        assert known is not None
        assert known.generation.token_ids == [number] * 50
    assert cache.damaged == 0
    assert len(files(tmp_path / "cache")) == 20, "nothing half written is left"


def test_run_and_eval_use_it_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = write_sort_program(tmp_path / "program")
    monkeypatch.syspath_prepend(write_engine_plugin(tmp_path / "plugin"))
    monkeypatch.chdir(tmp_path)
    ask = ("run", program, "--word", "saw", "--engine", "words", "--json")

    def data(*arguments: object) -> Any:
        return json.loads(run_cli(monkeypatch, capsys, *arguments).out)

    assert data(*ask)["cached_calls"] == 0
    assert not (tmp_path / ".lmgraph" / "cache").exists()
    assert [data(*ask, "--cache")["cached_calls"] for _ in range(2)] == [0, 1]
    score = ("eval", program, "--engine", "words", "--json", "--cache")
    first, second = (data(*score) for _ in range(2))
    assert second["cached_calls"] == second["calls"] == 6
    assert [row["score"] for row in first["results"]] == [row["score"] for row in second["results"]]
    shown = run_cli(monkeypatch, capsys, *score[:-2], "--cache").out
    assert "6 calls answered from .lmgraph/cache" in shown


class _Elsewhere(ScriptedEngine):
    urls = ("https://models.example.com/v1",)


async def test_another_machine_has_answers_of_its_own(tmp_path: Path) -> None:
    """Else whether it is asked would tell what a model on this machine was asked, with private values it may be."""
    program, here, there = talk(tmp_path), engine_of(("a",)), _Elsewhere({"": ("b",)})
    cache = ResponseCache(tmp_path / "cache")
    assert (await run(program, here, cache)).outputs == {"said": "a"}
    assert (await run(program, there, cache)).outputs == {"said": "b"}
    assert (await run(program, there, cache)).calls[0].source == "cache"
    assert (await run(program, here, cache)).outputs == {"said": "a"}
    assert (len(here.requests), len(there.requests)) == (1, 1)
