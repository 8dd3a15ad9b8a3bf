"""What goes wrong around any search over prompts, and what becomes of it: a word in its notes, or a clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError, EngineError
from lmgraph.program.artifact import load
from lmgraph.program.params import params_hash
from lmgraph.runtime import Budget
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.testing import ScriptedEngine
from support.scripted import BRANCH, SORT, program_from, sort_program, sort_rows, write_rows
from support.searching import DEMOS, PROMPT, PYTHON_METRIC, REFLECTION, Search, notes

DRIVER = Path(__file__).parents[1] / "support" / "kill_search.py"
KILLS = 20
BEHIND = '''
module Behind(kind: Kind) -> (kind: Kind) {
  """Say it again."""
  max_tokens: 16
}

'''
every_search = pytest.mark.parametrize("search", [PROMPT, DEMOS, REFLECTION], ids=lambda search: search.name)
asking_searches = pytest.mark.parametrize("search", [PROMPT, REFLECTION], ids=lambda search: search.name)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('oh')", "raised KeyError"),
        ("return float('nan')", "gave nan"),
        ("return float('inf')", "gave inf"),
        ("return 'many'", "gave 'many'"),
        ("return 1.0, 2.0", "gave (1.0, 2.0)"),
    ],
)
@every_search
async def test_a_metric_that_gives_no_number(tmp_path: Path, body: str, words: str, search: Search) -> None:
    """It fails on one kind of row; those count as the lowest score, and the report names one."""
    write_rows(tmp_path / "words.jsonl", sort_rows())
    text = f"def score(gold, pred):\n    if gold.kind == 'tool':\n        {body}\n    return gold.kind == pred.kind\n"
    (tmp_path / "metrics.py").write_text(text, encoding="utf-8")
    result = await search.run(tmp_path, program=program_from(tmp_path, PYTHON_METRIC))
    assert result.stopped is None
    assert "the metric gave no number" in notes(result)
    assert words in notes(result)
    assert "words.jsonl:" in notes(result)


@pytest.mark.parametrize("calls", [0, 1, 5, 6, 7, 9, 16])
@asking_searches
async def test_a_budget_that_ends_early(tmp_path: Path, calls: int, search: Search) -> None:
    engine = ScriptedEngine(search.answer)
    result = await search.run(tmp_path, engine, budget=Budget(calls=calls))
    assert len(engine.requests) <= calls
    assert result.stopped is not None
    assert f"The budget of {calls} calls" in result.stopped
    if calls < 6:
        assert "Stopped before anything was compared" in notes(result)
        assert params_hash(result.program.params) == params_hash(sort_program(tmp_path / "again").params)


@pytest.mark.parametrize("rows", [1, 2, 3])
@asking_searches
async def test_hardly_any_rows(tmp_path: Path, rows: int, search: Search) -> None:
    result = await search.run(tmp_path, rows=rows)
    assert result.stopped is None
    assert ("one training row only" in notes(result)) == (rows == 1)


@asking_searches
async def test_a_module_that_is_never_reached(tmp_path: Path, search: Search) -> None:
    write_rows(tmp_path / "words.jsonl", sort_rows())
    program = program_from(tmp_path, BRANCH)
    engine = ScriptedEngine(search.answer)
    result = await search.run(tmp_path, engine, program=program)
    assert "Never called on 6 training rows, so left as it is: Rare." in notes(result)
    assert result.program.params.modules["Rare"] == program.params.modules["Rare"]
    assert not any("step: Rare" in prompt for prompt in engine.prompts)


@pytest.mark.parametrize(
    ("search", "words"),
    [(PROMPT, "No module that gave an answer may be changed"), (REFLECTION, "Nothing scored above the start")],
)
async def test_every_run_fails(tmp_path: Path, search: Search, words: str) -> None:
    result = await search.run(tmp_path, ScriptedEngine({"": EngineError("The model is gone.")}))
    assert result.stopped is None
    assert words in notes(result)
    told = "Every call of Classify failed on 6 training rows, so it is left as it is: The model is gone."
    assert told in notes(result)
    assert "Never called" not in notes(result)


@asking_searches
async def test_a_module_that_always_fails_and_those_behind_it(tmp_path: Path, search: Search) -> None:
    """The first was called; the second was not, because nothing reached it."""

    def answer(prompt: str, request: GenerateRequest) -> str | Exception:
        return EngineError("Too busy.") if request.request_id == "Sort/out" else "fruit"

    text = SORT.replace("flow Sort", BEHIND + "flow Sort").replace("kind=out.kind)", "kind=again.kind)")
    text = text.replace("(word=word)\n", "(word=word)\n  again = Behind(kind=out.kind)\n")
    write_rows(tmp_path / "words.jsonl", sort_rows())
    result = await search.run(tmp_path, ScriptedEngine(answer), program=program_from(tmp_path, text))
    assert "Every call of Classify failed on 6 training rows, so it is left as it is: Too busy." in notes(result)
    assert "Never called on 6 training rows, so left as it is: Behind." in notes(result)


@pytest.mark.parametrize(("search", "option"), [(PROMPT, "proposer"), (REFLECTION, "reflector")])
async def test_a_place_that_is_no_model(tmp_path: Path, search: Search, option: str) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        await search.run(tmp_path, **{option: "nowhere:big"})


@pytest.mark.slow
@every_search
def test_twenty_kills_change_nothing(tmp_path: Path, search: Search) -> None:
    environment = {**os.environ, "PYTHONPATH": str(DRIVER.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path), search.name, str(KILLS)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    finished: dict[str, int] = json.loads(done.stdout)
    assert sum(finished.values()) >= KILLS
    whole = outcome(tmp_path / "whole", search.name)
    for name in finished:
        assert outcome(tmp_path / name, search.name) == whole, name
        assert list((tmp_path / name / "study" / "work").iterdir()) == [], "a finished stage leaves no checkpoint"


def outcome(folder: Path, optimizer: str) -> dict[str, Any]:
    """What two runs of one study must have in common."""
    stage = json.loads((folder / "study" / "study.json").read_text("utf-8"))["stages"][1]
    params = params_hash(load(folder / "study" / "stages" / f"1-{optimizer}").params)
    dev = {**stage["dev"], "seconds": 0}
    return {"params": params, "dev": dev, "notes": stage["notes"], "details": stage["details"], "kept": stage["kept"]}
