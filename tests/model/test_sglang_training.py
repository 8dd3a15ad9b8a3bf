"""mmgrpo with its rollouts on a real SGLang server: adapters are loaded there as they are trained here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch

from lmgraph.compiler.compile import compile_path
from lmgraph.engines.sglang import open_sglang_engine
from lmgraph.evaluate import make_task
from lmgraph.optimize import StageSpec, optimize
from lmgraph.program import Program
from lmgraph.program.artifact import load
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest, SamplingParams
from support.real_logprobs import reference_model, scored, widest

pytestmark = [pytest.mark.model, pytest.mark.slow]

STEPS = 3
NATS = 1e-3
PROGRAM = '''edition 1

record Row { word: str }

module Say(word: str) -> (text: str) {
  """Write a few words about it."""
  max_tokens: 12
}

module Shorten(text: str) -> (short: str) { max_tokens: 12 }

flow Talk(word: str) -> (text: str, short: str) {
  said = Say(word)
  out = Shorten(text=said.text)
  return (text=said.text, short=out.short)
}

dataset rows: Row = jsonl "rows.jsonl" { split: { train: 6, dev: 2 } }
metric even(gold: Row, pred: Talk.out) -> float = py "tools:even"
objective talk { flow: Talk  data: rows  metric: even }
'''
TOOLS = """def even(gold, pred):
    return (len(pred["text"]) % 2 == 0) / 2 + (len(pred["short"]) % 2 == 0) / 2
"""
OPTIONS = {"steps": STEPS, "examples": 2, "samples": 4, "redraws": 1, "learning_rate": 1e-3, "warmup": 0}


def write_program(folder: Path) -> Program:
    """A program whose scores differ between nearly any two samples, so that every step trains."""
    folder.mkdir()
    words = ("bread", "rain", "a chair", "music", "the sea", "paper", "stone", "tea")
    (folder / "rows.jsonl").write_text("".join(json.dumps({"word": word}) + "\n" for word in words))
    (folder / "tools.py").write_text(TOOLS)
    (folder / "program.lmg").write_text(PROGRAM)
    return Program.default(compile_path(folder / "program.lmg").require(), folder)


async def test_three_steps_on_the_server_and_the_trainer_agrees_at_each(sglang_url: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    program = write_program(tmp_path / "program")
    folder = str(tmp_path / "adapters")
    engine = await asyncio.to_thread(open_sglang_engine, "", urls=(sglang_url,), adapter_folder=folder)
    async with Runtime(everything=engine) as runtime:
        run = await optimize(
            program, [StageSpec("mmgrpo", OPTIONS)], runtime=runtime, task=make_task(program),
            output=tmp_path / "out", study_folder=tmp_path / "study",
        )  # fmt: skip
    stage = run.stages[1]
    curves = stage.details["curves"]
    assert all(groups > 0 for groups in curves["groups that train"])
    assert len(curves["largest gap"]) == STEPS
    assert 0 < max(curves["largest gap"]) < NATS, "the server samples with the very weights that are trained"
    assert curves["calls outside the band"] == [0.0] * STEPS
    assert "largest gap" in (tmp_path / "out" / "report.md").read_text("utf-8")

    trained = load(tmp_path / "study" / "stages" / "1-mmgrpo")
    (adapter,) = trained.params.adapters.values()
    assert adapter.version == STEPS
    await engine.load_adapter("trained@v1", adapter.folder)
    ids = engine.tokenizer.encode_template("<|im_start|>user\n") + engine.tokenizer.encode("Write about glass.")
    request = GenerateRequest(ids, SamplingParams(max_tokens=12, temperature=1.0), "trained@v1")
    done = await asyncio.gather(*(engine.generate(request) for _ in range(4)))
    with_it, without = reference_model(engine.model_folder, adapter.folder), reference_model(engine.model_folder)
    assert max(widest(one.logprobs, scored(with_it, ids, one)) for one in done) < NATS
    assert max(widest(one.logprobs, scored(without, ids, one)) for one in done) > NATS, "or it has learned nothing"
    await engine.unload_adapter("trained@v1")
    await engine.aclose()
