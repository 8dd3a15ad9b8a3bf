"""Optimize runs in other tools as well, MLflow and TensorBoard: each figure of an event, over the calls spent by then.

A logger that fails is left out from then on: an optimize run does not end because a server of figures is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from lmgraph.errors import ConfigError, PluginError

TENSORBOARD_FOLDER = Path(".lmgraph") / "tensorboard"
EXPERIMENT = "lmgraph"


class RunLogger(Protocol):
    """Where figures of one optimize run go."""

    def options(self, stage: str, options: Mapping[str, Any]) -> None: ...

    def scalar(self, name: str, value: float, step: int) -> None: ...

    def close(self, report: str) -> None:
        """The run has ended; ``report`` is Markdown, empty where it was cut."""
        ...


class Loggers:
    """All loggers of one run. ``warn`` is told once of each that fails."""

    def __init__(self, loggers: Mapping[str, RunLogger], warn: Callable[[str], None] = lambda message: None) -> None:
        self._loggers = dict(loggers)
        self._warn = warn

    def event(self, stage: str, event: str, data: Mapping[str, Any]) -> None:
        """One event of the study's log; ``data["spent"]["calls"]`` is its place on the axis."""
        step = int(data.get("spent", {}).get("calls", 0))
        if event == "stage":
            self._each(lambda one: one.options(stage, data.get("options", {})))

        def tell(logger: RunLogger) -> None:
            for name, value in _figures(data):
                logger.scalar(f"{stage}/{event}/{name}", value, step)

        self._each(tell)

    def close(self, report: str = "") -> None:
        self._each(lambda one: one.close(report))

    def _each(self, act: Callable[[RunLogger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                act(logger)
            except Exception as error:  # of another's library: whatever it is, the run goes on
                del self._loggers[name]
                self._warn(f"the logger {name} failed and is left out from here on: {type(error).__name__}: {error}")


def open_loggers(places: list[str], run: str, warn: Callable[[str], None] = lambda message: None) -> Loggers:
    """Loggers at `mlflow`, `mlflow:URI`, `tensorboard` or `tensorboard:FOLDER`; ``run`` is what they call this run.

    Raises: ConfigError for another name or a place that cannot be opened; PluginError where a library is not installed.
    """
    return Loggers({place: _opened(place, run) for place in places}, warn)


def _opened(place: str, run: str) -> RunLogger:
    kind, _, rest = place.partition(":")
    try:
        match kind:
            case "tensorboard":
                return TensorBoardLogger(Path(rest or TENSORBOARD_FOLDER) / run)
            case "mlflow":
                return MlflowLogger(rest or None, run)
    except PluginError:
        raise
    except Exception as error:  # of another's library
        raise ConfigError(f"The logger {place} cannot be opened: {error}") from error
    raise ConfigError(
        f"There is no logger `{kind}`; there are mlflow and tensorboard.",
        hint="for example --log tensorboard or --log mlflow:http://localhost:5000",
    )


class TensorBoardLogger:
    """Event files in ``folder``. A resumed run goes on in a new file there."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX.writer import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", error) from error
        self._writer: Any = SummaryWriter(str(folder))

    def options(self, stage: str, options: Mapping[str, Any]) -> None:
        self._writer.add_text(f"{stage}/options", "  \n".join(f"{name} = {value}" for name, value in options.items()))

    def scalar(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name.replace(" ", "_"), value, step)
        self._writer.flush()

    def close(self, report: str) -> None:
        if report:
            self._writer.add_text("report", report)
        self._writer.close()


class MlflowLogger:
    """One run of the experiment `lmgraph` on the tracking server ``uri``; MLflow's own default where it is None."""

    def __init__(self, uri: str | None, run: str) -> None:
        try:
            from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise _missing("mlflow", error) from error
        self._client = MlflowClient(tracking_uri=uri)
        self._name = run
        self._id: str | None = None

    def options(self, stage: str, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            self._client.log_param(self._run(), f"{stage}.{name}", value)

    def scalar(self, name: str, value: float, step: int) -> None:
        self._client.log_metric(self._run(), name, value, step=step)

    def close(self, report: str) -> None:
        if self._id is None:  # nothing has happened
            return
        if report:
            self._client.log_text(self._id, report, "report.md")
        self._client.set_terminated(self._id, "FINISHED" if report else "KILLED")

    def _run(self) -> str:
        if self._id is None:
            known = self._client.get_experiment_by_name(EXPERIMENT)
            experiment = self._client.create_experiment(EXPERIMENT) if known is None else known.experiment_id
            self._id = str(self._client.create_run(experiment, run_name=self._name).info.run_id)
        return self._id


def _figures(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """(path, number) of every number in nested mappings; what was spent is the axis."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            if name not in ("spent", "options"):
                yield from _figures(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, float(value)


def _missing(kind: str, error: ImportError) -> PluginError:
    return PluginError(f"The logger {kind} does not import: {error}.", hint=f'pip install "lmgraph[{kind}]"')
