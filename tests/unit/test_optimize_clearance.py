"""Private values in optimizing: who may propose, teach and reflect, and which modules may share an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lmgraph.errors import ConfigError, GraphMismatch, OptimizeError
from lmgraph.evaluate import Task, make_task
from lmgraph.optimize import Lab, OptimizerConfig, OptimizeResult, StageSpec, compose, optimize
from lmgraph.program import AdapterRef, Program, artifact
from lmgraph.runtime import Runtime
from lmgraph.runtime.addresses import PRIVATE_HOSTS_VARIABLE
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine, last_user_turn
from support.scripted import KIND_OF, LABELS, program_from, sort_rows, write_engine_plugin, write_rows

SOURCE = """
edition 1

enum Kind { fruit  tool  animal }

lm here { clearance: private }
lm cloud { }

record Word {
  word: private str "the word"
  day: str
  kind: Kind
}

module Look(word: str) -> (note: str) {
  \"\"\"Say what the word makes you think of.\"\"\"
  lm: here
}

module Classify(note: str) -> (kind: Kind) {
  \"\"\"Name the kind of thing.\"\"\"
  lm: here
}

module Greet(day: str) -> (text: str) {
  \"\"\"Wish a good day.\"\"\"
  lm: cloud
}

flow Sort(word: str, day: str) -> (kind: Kind, text: str) {
  seen = Look(word)
  loud = seen.note + "!"
  out = Classify(note=loud)
  greeting = Greet(day)
  return (kind=out.kind, text=greeting.text)
}

dataset words: Word = jsonl "words.jsonl" { split: { train: 12, dev: 6 } }
metric exact(gold: Word, pred: Sort.out) -> bool = gold.kind == pred.kind
objective accuracy { flow: Sort  data: words  metric: exact  range: [0, 1] }
"""
MARK = "zq"
"""In every private value."""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    folder = tmp_path / "program"
    folder.mkdir()
    rows = [{**row, "word": MARK + row["word"], "day": "Monday"} for row in sort_rows()]
    write_rows(folder / "words.jsonl", rows)
    return program_from(folder, SOURCE)


def here(prompt: str, request: GenerateRequest) -> Sequence[str]:
    """Knows every second word."""
    turn = last_user_turn(prompt)
    if "\nnote:" in f"\n{turn.partition('word: ')[2]}" or "word:" in turn:
        return [f"it is {turn.partition('word: ')[2].partition(chr(10))[0]}"]
    found = next((word for word in KIND_OF if MARK + word in turn), None)
    return [KIND_OF[found] if found is not None and len(found) % 2 else LABELS[0]]


async def run(program: Program, folder: Path, *stages: StageSpec, **engines: ScriptedEngine) -> Program:
    async with Runtime(lms=engines) as runtime:
        done = await optimize(
            program,
            stages,
            runtime=runtime,
            task=make_task(program),
            output=folder / "out",
            study_folder=folder / "study",
        )
        return done.program


def engines() -> dict[str, ScriptedEngine]:
    return {"here": ScriptedEngine(here, constrains=False), "cloud": ScriptedEngine({"": "Have a good day."})}


ELSEWHERE = "openai:big@https://models.example.com/v1"


@pytest.mark.parametrize(
    ("name", "option"), [("demos", "teacher"), ("prompt", "teacher"), ("prompt", "proposer"), ("reflect", "reflector")]
)
async def test_a_model_elsewhere_is_refused_before_any_call(
    name: str, option: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PRIVATE_HOSTS_VARIABLE, raising=False)
    bound = engines()
    with pytest.raises(ConfigError, match=f"--{name}.{option} {ELSEWHERE} is on another machine") as raised:
        await run(program, tmp_path, StageSpec(name, {option: ELSEWHERE}), **bound)
    assert "`word` of `Word` is private" in raised.value.message
    assert "is given to `Look` as `word`" in raised.value.message
    assert PRIVATE_HOSTS_VARIABLE in (raised.value.hint or "")
    assert [one.requests for one in bound.values()] == [[], []]
    assert not (tmp_path / "study").exists()


async def test_an_engine_that_says_where_it_is(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a URL in the option the engine knows it: OpenAI's own."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match=r"another machine.*`word` of `Word` is private"):
        await run(program, tmp_path, StageSpec("demos", {"teacher": "openai:big"}), **engines())


async def test_what_may_be_asked(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmgraph.optimize.clearance import refuse_uncleared
    from lmgraph.optimize.registry import make_optimizer

    async def asked(program: Program, **options: Any) -> None:
        await refuse_uncleared(program, make_task(program), [("prompt", *make_optimizer("prompt", options))])

    monkeypatch.delenv(PRIVATE_HOSTS_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(write_engine_plugin(tmp_path / "site")))
    await asked(program)
    await asked(program, proposer="none")
    await asked(program, proposer="cloud")  # an LM of the program: it is shown public values only
    await asked(program, teacher="words:big")  # in this process
    await asked(program, teacher="local:smollm2-135m")
    await asked(program, teacher="openai:big@http://127.0.0.1:9/v1")
    artifact.save(program, tmp_path / "tuned")
    await asked(program, teacher=str(tmp_path / "tuned"))  # on the program's own models
    public = program_from(tmp_path / "program", SOURCE.replace("word: private str", "word: str"), "public.lmg")
    await asked(public, teacher=ELSEWHERE)
    with pytest.raises(ConfigError):
        await asked(program, teacher=ELSEWHERE)
    monkeypatch.setenv(PRIVATE_HOSTS_VARIABLE, "models.example.com")
    await asked(program, teacher=ELSEWHERE)


async def test_the_way_of_control(tmp_path: Path) -> None:
    from lmgraph.optimize.clearance import refuse_uncleared
    from lmgraph.optimize.registry import make_optimizer

    source = SOURCE.replace(
        "seen = Look(word)", 'var note = ""\n  if word != "" {\n    note := Look(word="x").note\n  }'
    )
    source = source.replace("seen.note", "note")
    folder = tmp_path / "program"
    folder.mkdir()
    write_rows(folder / "words.jsonl", [{**row, "day": ""} for row in sort_rows()])
    program = program_from(folder, source)
    with pytest.raises(ConfigError, match="decides whether `Look` is asked"):
        await refuse_uncleared(
            program, make_task(program), [("demos", *make_optimizer("demos", {"teacher": ELSEWHERE}))]
        )


@pytest.mark.parametrize("stage", ["prompt", "reflect", "demos"])
async def test_a_public_model_is_never_told_a_private_value(stage: str, program: Program, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "prompt": {"proposer": "cloud", "trials": 4, "minibatch": 3, "instructions": 3, "max_demos": 2},
        "reflect": {"reflector": "cloud"},
        "demos": {"max_demos": 2, "candidates": 2},
    }[stage]
    if stage == "reflect":
        pytest.importorskip("gepa")
    else:
        pytest.importorskip("optuna")
    bound = engines()
    found = await run(program, tmp_path, StageSpec(stage, options), **bound)
    assert any(MARK in prompt for prompt in bound["here"].prompts)
    assert bound["cloud"].prompts
    assert not [prompt for prompt in bound["cloud"].prompts if MARK in prompt]
    told = found.params.modules["Greet"]
    assert MARK not in repr(told)
    if stage != "demos":
        assert any("instruction" in prompt for prompt in bound["cloud"].prompts)


# -- adapters --------------------------------------------------------------------------------------------------------


class Config(OptimizerConfig):
    """Options of `share`."""

    modules: tuple[str, ...] = ()


class Share:
    """Gives one adapter to some modules, as a careless optimizer could."""

    name: ClassVar[str] = "share"
    Config: ClassVar[type[OptimizerConfig]] = Config

    def __init__(self, config: Config) -> None:
        self.config = config

    async def optimize(self, program: Program, task: Task, lab: Lab) -> OptimizeResult:
        folder = lab.folder / "adapter"
        folder.mkdir(parents=True)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            (folder / name).write_text("{}", encoding="utf-8")
        ref: AdapterRef = lab.publish_adapter("shared", 1, folder, "any")
        return OptimizeResult(program.with_params(program.params.with_adapter(ref, self.config.modules)))


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str, options: Mapping[str, Any] | None = None) -> tuple[Share, Config]:
        config = Config(**(options or {}))
        return Share(config), config

    monkeypatch.setattr(compose, "make_optimizer", make)


@pytest.mark.usefixtures("share")
async def test_an_adapter_across_clearances_is_refused(program: Program, tmp_path: Path) -> None:
    bound = engines()
    told = (
        r"`Classify`, whose LM `here` sees private values, and `Greet`, whose LM `cloud` must not, share .* shared@v1"
    )
    with pytest.raises(OptimizeError, match=told):
        await run(program, tmp_path, StageSpec("share", {"modules": ("Look", "Classify", "Greet")}), **bound)
    assert not artifact.is_artifact(tmp_path / "study" / "stages" / "1-share")


def test_an_artifact_with_an_adapter_across_clearances_is_not_loaded(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    ref = AdapterRef("shared", 1, folder, "any", "0" * 64)
    apart = program.with_params(program.params.with_adapter(ref, ("Look", "Classify")))
    assert artifact.load(artifact.save(apart, tmp_path / "apart")).params.adapters
    mixed = program.with_params(program.params.with_adapter(ref, ("Look", "Greet")))
    with pytest.raises(GraphMismatch, match="share the adapter shared@v1"):
        artifact.load(artifact.save(mixed, tmp_path / "mixed"))
