"""A program whose rewards vary under a tiny random model, and runs of mmgrpo on it: seconds each, on one thread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmgraph.compiler.compile import compile_path
from lmgraph.engines.local import open_local_engine
from lmgraph.evaluate import make_task
from lmgraph.optimize import OptimizeRun, StageSpec, optimize
from lmgraph.program import Demo, Program
from lmgraph.runtime import Runtime
from lmgraph.runtime.limits import Budget
from lmgraph.testing import ScriptedEngine

PROGRAM = '''edition 1

record Row { words: list[str]  long: bool }

module Say(word: str) -> (text: str) {
  """Say it."""
  max_tokens: 40
}

module Join(texts: list[str]) -> (text: str) { max_tokens: 80 JOIN }

flow Talk(words: list[str]) -> (texts: list[str], text: str) {
  texts = [Say(word=w).text for w in words]
  joined = Join(texts)
  return (texts, text=joined.text)
}

dataset rows: Row = jsonl "rows.jsonl" { split: { train: 6, dev: 2 } }
metric long(gold: Row, pred: Talk.out) -> bool = pred.text > "m" or len(pred.texts) > 2
objective talk { flow: Talk  data: rows  metric: long }
'''
ANSWERS = ("no", "yes", "maybe so", "all of it", "zebra", "music")
OPTIONS: dict[str, Any] = {
    "steps": 3, "examples": 3, "samples": 6, "temperature": 1.0, "learning_rate": 1e-3, "rank": 4,
}  # fmt: skip


def write_program(
    folder: Path, *, join: str = "", before: str = "", text: str = PROGRAM, demos: bool = True
) -> Program:
    """The program, with demos for `Say`; ``join`` are more settings of `Join`, ``before`` more declarations."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"words": ["alpha", "beta", "gamma"][: 1 + i % 3], "long": True} for i in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "program.lmg"
    path.write_text(text.replace("JOIN", join).replace("edition 1", f"edition 1\n{before}"))
    program = Program.default(compile_path(path).require(), folder)
    if not demos:
        return program
    given = (Demo({"word": "one"}, {"text": "One <|im_end|> more"}), Demo({"word": "two"}, {"text": "Two"}))
    return program.with_params(program.params.with_module("Say", demos=given))


class TrainableScript(ScriptedEngine):
    """A scripted sampler in front of a tiny model: calls take no time and are the same in every run."""

    def __init__(self, model: Path, answers: Sequence[str] | Exception = ANSWERS, **options: Any) -> None:
        super().__init__({"": answers}, **options)
        self.model_folder = model


async def train(
    program: Program,
    model: Path,
    folder: Path,
    options: dict[str, Any],
    *,
    calls: int | None = None,
    engine: Any = None,
    lms: dict[str, Any] | None = None,
) -> OptimizeRun:
    """One mmgrpo stage with one thread; a study that is in ``folder`` already is continued."""
    mine = engine is None and lms is None
    engine = open_local_engine(str(model), dtype="float32", threads=1) if mine else engine
    async with Runtime(everything=engine, lms=lms) as runtime:
        done = await optimize(
            program,
            [StageSpec("mmgrpo", options)],
            runtime=runtime,
            task=make_task(program),
            output=folder / "out",
            study_folder=folder / "study",
            budget=Budget(calls=calls),
        )
    if mine:
        await engine.aclose()
    return done
