"""Figures of an optimize run in TensorBoard and MLflow."""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lmgraph.errors import ConfigError, PluginError
from lmgraph.evaluate import make_task
from lmgraph.optimize import OptimizeRun, StageSpec, optimize
from lmgraph.optimize.loggers import Loggers, open_loggers
from lmgraph.runtime import Runtime
from lmgraph.testing import ScriptedEngine
from support.scripted import sort_program

STAGES = [StageSpec("prompt", {"trials": 4, "minibatch": 3, "full_every": 2, "demo_sets": 0, "instructions": 3})]


async def run(folder: Path, loggers: Loggers, engine: ScriptedEngine | None = None) -> OptimizeRun:
    program = sort_program(folder / "program")
    async with Runtime(everything=engine or ScriptedEngine(lambda prompt, request: "tool")) as runtime:
        return await optimize(
            program, STAGES, runtime=runtime, task=make_task(program), output=folder / "out",
            study_folder=folder / "study", loggers=loggers,
        )  # fmt: skip


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads: records of a length, a checksum, an event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


async def test_tensorboard_has_the_scores_over_the_calls(tmp_path: Path) -> None:
    done = await run(tmp_path, open_loggers([f"tensorboard:{tmp_path / 'board'}"], "sort-prompt"))
    found = scalars(tmp_path / "board" / "sort-prompt")
    start, prompt = done.stages
    assert found["start/stage_finished/dev/score"] == [(start.calls, pytest.approx(start.dev["score"]))]
    assert found["1-prompt/stage_finished/dev/score"] == [
        (start.calls + prompt.calls, pytest.approx(prompt.dev["score"]))
    ]
    steps = [step for step, _ in found["1-prompt/full_evaluation/score"]]
    assert steps == sorted(steps)
    assert steps[0] > start.calls


class FakeClient:
    """The part of MLflow's client that is used."""

    def __init__(self, tracking_uri: str | None) -> None:
        self.uri = tracking_uri
        self.params: dict[str, Any] = {}
        self.metrics: dict[str, list[tuple[int | None, float]]] = {}
        self.texts: dict[str, str] = {}
        self.ended: str | None = None
        CLIENTS.append(self)

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return "7"

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        self.run = (experiment_id, run_name)
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def log_param(self, run_id: str, key: str, value: Any) -> None:
        self.params[key] = value

    def log_metric(self, run_id: str, key: str, value: float, step: int | None = None) -> None:
        self.metrics.setdefault(key, []).append((step, value))

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        self.texts[artifact_file] = text

    def set_terminated(self, run_id: str, status: str) -> None:
        self.ended = status


CLIENTS: list[FakeClient] = []


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> list[FakeClient]:
    package, tracking = ModuleType("mlflow"), ModuleType("mlflow.tracking")
    tracking.MlflowClient = FakeClient  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    CLIENTS.clear()
    return CLIENTS


async def test_mlflow_has_options_figures_and_the_report(tmp_path: Path, mlflow: list[FakeClient]) -> None:
    done = await run(tmp_path, open_loggers(["mlflow:http://127.0.0.1:5000"], "sort-prompt"))
    (client,) = mlflow
    assert (client.uri, client.run) == ("http://127.0.0.1:5000", ("7", "sort-prompt"))
    assert client.params["1-prompt.trials"] == 4
    assert client.metrics["start/stage finished/dev/score"] == [(6, done.stages[0].dev["score"])]
    assert client.texts["report.md"] == done.report.read_text("utf-8")
    assert client.ended == "FINISHED"


async def test_an_error_ends_the_run_there_too(tmp_path: Path, mlflow: list[FakeClient]) -> None:
    def broken(prompt: str, request: Any) -> str:
        raise RuntimeError("oh")

    with pytest.raises(RuntimeError, match="oh"):
        await run(tmp_path, open_loggers(["mlflow"], "sort"), ScriptedEngine(broken))
    assert mlflow[0].ended is None, "nothing had happened that a run could be of"


class Failing:
    def options(self, stage: str, options: Mapping[str, Any]) -> None:
        pass

    def scalar(self, name: str, value: float, step: int) -> None:
        raise OSError("the server is gone")

    def close(self, report: str) -> None:
        raise AssertionError("it was left out before")


async def test_a_logger_that_fails_is_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    done = await run(tmp_path, Loggers({"there": Failing()}, said.append))
    assert done.stopped is None
    assert said == ["the logger there failed and is left out from here on: OSError: the server is gone"]


def test_what_is_no_logger_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no logger `wandb`"):
        open_loggers(["wandb"], "run")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_loggers([f"tensorboard:{tmp_path / 'file'}"], "run")
    for kind, module in (("tensorboard", "tensorboardX.writer"), ("mlflow", "mlflow.tracking")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(PluginError, match=f"The logger {kind} does not import") as caught:
            open_loggers([kind], "run")
        assert f"lmgraph[{kind}]" in str(caught.value.hint)
