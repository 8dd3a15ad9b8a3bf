"""What goes wrong around a training run, and what becomes of it."""

from __future__ import annotations

import errno
import json
import resource
import threading
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import DataError, EngineError, OptimizeError, TrainingDiverged
from lmgraph.program.artifact import load
from lmgraph.program.params import params_hash
from lmgraph_optimizers.mmgrpo import training
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer
from support.tiny_model import make_tiny_model
from support.tiny_training import OPTIONS, PROGRAM, TrainableScript, train, write_program


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


async def run(folder: Path, model: Path, program: Any = None, engine: Any = None, **options: Any) -> Any:
    program = program or write_program(folder / "program", demos=False)
    options = {**OPTIONS, "max_gap": 1e9, **options}  # the script makes its logprobs up
    return await train(program, model, folder, options, engine=engine or TrainableScript(model))


def tuned(folder: Path) -> str:
    return params_hash(load(folder / "study" / "stages" / "1-mmgrpo").params)


async def test_a_full_disk_is_said_clearly_and_the_run_goes_on_later(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(tmp_path / "whole", model)
    save = LoraTrainer.save_optimizer

    def full(self: LoraTrainer, path: Path) -> None:
        if "step-2" in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(LoraTrainer, "save_optimizer", full)
        with pytest.raises(OptimizeError, match="No space left on device") as caught:
            await run(tmp_path / "cut", model)
    assert "make room" in (caught.value.hint or "")
    assert [path.name for path in (tmp_path / "cut" / "study" / "work" / "1-mmgrpo").glob("step-*")] == ["step-1"]
    assert (await run(tmp_path / "cut", model)).resumed
    assert tuned(tmp_path / "cut") == tuned(tmp_path / "whole")


async def test_a_full_disk_where_a_version_is_published(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    copy = shutil.copytree

    def full(*arguments: Any, **options: Any) -> Any:
        if "@v2" in str(arguments[1]):
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", full)
        with pytest.raises(OptimizeError, match="cannot be written"):
            await run(tmp_path, model)
    assert (await run(tmp_path, model)).resumed


PYTHON_METRIC = PROGRAM.replace(
    'metric long(gold: Row, pred: Talk.out) -> bool = pred.text > "m" or len(pred.texts) > 2',
    'metric long(gold: Row, pred: Talk.out) -> float = py "metrics:long"',
).replace("metric: long }", "metric: long  range: [0, 1] }")


def program_with_metric(folder: Path, code: str) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.py").write_text(f"def long(gold, pred):\n{code}")
    return write_program(folder, text=PYTHON_METRIC, demos=False)


@pytest.mark.parametrize("bad", ["return float('nan')", "raise ValueError('odd')"], ids=["nan", "raises"])
async def test_a_reward_that_is_none_sets_its_rollout_aside_and_is_named(tmp_path: Path, model: Path, bad: str) -> None:
    # On a training row only: where dev rows are scored, a metric that raises is an error.
    code = f"    if pred.text == 'zebra' and len(gold.words) > 1: {bad}\n    return float(pred.text > 'm')\n"
    program = program_with_metric(tmp_path / "program", code)
    done = await run(tmp_path, model, program)
    (note,) = [note for note in done.stages[1].notes if "set aside" in note]
    assert "long" in note
    assert "rows.jsonl" in note, "the row is named"
    steps = events(tmp_path)
    assert any(step["dropped"].get("the score is not usable") for step in steps)
    assert all(step["groups that train"] > 0 for step in steps)


async def test_a_metric_that_always_raises_ends_the_run(tmp_path: Path, model: Path) -> None:
    code = "    import sys\n    if len(gold.words) == 1: raise ValueError('odd')\n    return 1.0\n"
    program = program_with_metric(tmp_path / "program", code)
    with pytest.raises(DataError, match="ValueError: odd"):
        await run(tmp_path, model, program)


async def test_a_call_of_python_that_hangs_is_a_failure_of_its_run(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "slow.py").write_text(
        "import time\n\ndef tidy(text):\n    if text == 'zebra':\n        time.sleep(0.5)\n    return text\n"
    )
    text = PROGRAM.replace("flow Talk", 'fn tidy(text: str) -> str = py "slow:tidy" { timeout: 0.05 }\n\nflow Talk')
    text = text.replace("text=joined.text)", "text=tidy(text=joined.text))")
    done = await run(tmp_path, model, write_program(folder, text=text, demos=False))
    assert done.stopped is None
    assert any(step["groups that train"] > 0 for step in events(tmp_path))


async def test_an_engine_that_answers_nothing_ends_the_run_and_a_better_one_goes_on(
    tmp_path: Path, model: Path
) -> None:
    ill = TrainableScript(model, EngineError("the server is ill"))
    with pytest.raises(EngineError, match=r"failed every run of a step.*ill"):
        await run(tmp_path, model, engine=ill)
    done = await run(tmp_path, model)
    assert done.resumed
    assert any(done.stages[1].details["curves"]["groups that train"])


async def test_equal_rewards_train_nothing_and_say_what_to_do(tmp_path: Path, model: Path) -> None:
    done = await run(tmp_path, model, engine=TrainableScript(model, ("all",)), redraws=1)
    stage = done.stages[1]
    assert any("Prompts first" in note for note in stage.notes)
    assert not any(stage.details["curves"]["groups that train"])
    program = load(tmp_path / "study" / "stages" / "1-mmgrpo")
    assert not program.params.adapters, "nothing was learned, so there is no adapter"


@pytest.mark.parametrize(("patience", "steps"), [(2, 2), (4, 4), (0, 6)])
async def test_a_run_with_nothing_to_learn_ends_when_its_patience_does(
    tmp_path: Path, model: Path, patience: int, steps: int
) -> None:
    engine = TrainableScript(model, ("all",))
    done = await run(tmp_path, model, engine=engine, redraws=0, samples=2, steps=6, patience=patience)
    stage = done.stages[1]
    assert len(stage.details["curves"]["groups that train"]) == steps
    assert any("Ended early" in note for note in stage.notes) == (steps < 6)
    assert done.stopped is None, "it is a finished run: the same command starts a new one"


async def test_a_module_that_is_never_reached_is_named(tmp_path: Path, model: Path) -> None:
    text = PROGRAM.replace("joined = Join(texts)", "said = if len(words) > 5 then Join(texts).text else texts[0]")
    text = text.replace("text=joined.text", "text=said")
    done = await run(tmp_path, model, write_program(tmp_path / "program", text=text, demos=False))
    assert any("Module Join was never reached" in note for note in done.stages[1].notes)


async def test_three_updates_that_are_not_finite_end_the_run_and_leave_the_adapter(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmgraph_optimizers.mmgrpo import trainer as trainer_module

    plain = trainer_module.surrogate
    made = 0

    def broken(*arguments: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        terms = plain(*arguments, **options)
        return terms * float("nan") if made > 1 else terms

    monkeypatch.setattr(trainer_module, "surrogate", broken)
    with pytest.raises(TrainingDiverged, match="3 updates in a row"):
        await run(tmp_path, model, steps=10)
    state = json.loads((tmp_path / "study" / "work" / "1-mmgrpo" / "checkpoint.json").read_text("utf-8"))
    assert state["step"] == 3
    assert state["versions"] == {"shared": 1}, "only the finite update made a version"


@pytest.mark.slow
async def test_a_hundred_steps_grow_neither_memory_nor_threads_nor_files(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int, int]] = []
    save = training.Training._save

    def measured(self: training.Training, updates: Any) -> None:
        save(self, updates)
        files = sum(1 for path in (tmp_path / "study").rglob("*") if path.is_file())
        seen.append((memory(), threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), files))

    monkeypatch.setattr(training.Training, "_save", measured)
    await run(tmp_path, model, steps=100, examples=2, samples=4, redraws=0, patience=0)
    assert len(seen) == 100
    settled, end = seen[39], seen[-1]
    assert end[0] - settled[0] < 30_000, "kilobytes"
    assert end[1:] <= tuple(value + 2 for value in settled[1:])


def memory() -> int:
    """Kilobytes that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() // 1024


def events(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "study" / "events.jsonl").read_text("utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "step"]
