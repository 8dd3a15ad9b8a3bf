"""Programs, data and an engine plug-in for tests without a model: everything answers in milliseconds."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from lmgraph.compiler.compile import compile_path
from lmgraph.program import Program

LABELS = ("fruit", "tool", "animal")
WORDS = {
    "fruit": ("apple", "pear", "plum", "cherry", "fig", "grape", "melon", "peach"),
    "tool": ("hammer", "saw", "drill", "file", "wrench", "plane", "chisel", "pliers"),
    "animal": ("cat", "horse", "mouse", "owl", "salmon", "tiger", "wolf", "yak"),
}
KIND_OF = {word: kind for kind, words in WORDS.items() for word in words}

SORT = """
edition 1

enum Kind { fruit  tool  animal }

record Word {
  word: str "the word"
  kind: Kind
}

module Classify(word: str "one word") -> (kind: Kind "what it names") {
  \"\"\"Name the kind of thing.\"\"\"
  max_tokens: 16
}

flow Sort(word: str) -> (kind: Kind) {
  out = Classify(word=word)
  return (kind=out.kind)
}

dataset words: Word = jsonl "words.jsonl" {
  split: { train: 12, dev: 6, test: 6 }
  seed: 3
}

metric exact(gold: Word, pred: Sort.out) -> bool = gold.kind == pred.kind

objective accuracy {
  flow: Sort
  data: words
  metric: exact
  range: [0, 1]
}
"""

BRANCH = SORT.replace(
    "flow Sort(word: str) -> (kind: Kind) {\n  out = Classify(word=word)\n  return (kind=out.kind)\n}",
    """module Rare(word: str) -> (kind: Kind) {
  \"\"\"Look at a word that is empty.\"\"\"
  max_tokens: 16
}

flow Sort(word: str) -> (kind: Kind) {
  var kind: Kind = Kind.fruit
  if word == "" {
    rare = Rare(word=word)
    kind := rare.kind
  } else {
    out = Classify(word=word)
    kind := out.kind
  }
  return (kind)
}""",
)
"""Its module Rare is never called: no row has an empty word."""

ENGINE = '''
"""An engine that answers from the word in the prompt; a demo in the prompt helps. LATENCY is in seconds."""

import asyncio
import os
import time

from lmgraph.testing import ScriptedEngine, last_user_turn

WORDS = {words}
LABELS = {labels}


def open_engine(model):
    def answer(prompt, request):
        if model == "silent":
            return "no label at all"
        word = last_user_turn(prompt).partition("word: ")[2].partition("\\n")[0]
        helped = prompt.count("assistant\\n") > 1 or len(word) % 2 == 0
        return [WORDS.get(word, LABELS[0]) if helped else LABELS[0], *LABELS]

    class Stuck(ScriptedEngine):
        async def aclose(self):
            await asyncio.to_thread(time.sleep, 60)

    latency = float(os.environ.get("LATENCY", "0"))
    kind = Stuck if model == "stuck" else ScriptedEngine
    return kind(answer, model_id=model, latency=latency, constrains=model != "silent")
'''.replace("{words}", repr(KIND_OF)).replace("{labels}", repr(LABELS))


def sort_rows() -> list[dict[str, str]]:
    return [{"word": WORDS[kind][position], "kind": kind} for position in range(8) for kind in LABELS]


def write_sort_program(folder: Path, source: str = SORT) -> Path:
    """`sort.lmg` with its data in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "words.jsonl", sort_rows())
    path = folder / "sort.lmg"
    path.write_text(dedent(source).lstrip(), encoding="utf-8")
    return path


def write_rows(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def program_from(folder: Path, source: str, name: str = "program.lmg") -> Program:
    """A program compiled from text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(dedent(source).lstrip(), encoding="utf-8")
    return Program.default(compile_path(path).require(), folder)


def sort_program(folder: Path) -> Program:
    path = write_sort_program(folder)
    return Program.default(compile_path(path).require(), folder)


def write_distribution(folder: Path, name: str, module: str, text: str, group: str, points: dict[str, str]) -> Path:
    """What an installed distribution looks like on the path: a module and its metadata with entry points."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_engine_plugin(folder: Path) -> Path:
    """A distribution that registers the engine kind `words`."""
    points = {"words": "words_engine:open_engine"}
    return write_distribution(folder, "words-engine", "words_engine", ENGINE, "lmgraph.engines", points)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def run_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object, stdin: str | None = None
) -> Done:
    """`lmgraph ARGUMENTS` inside this process."""
    from lmgraph.cli.app import main

    monkeypatch.setattr(sys, "argv", ["lmgraph", *map(str, arguments)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((stdin or "").encode())))
    capsys.readouterr()
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)
