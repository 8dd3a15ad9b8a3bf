"""A step's checkpoint folder: every adapter and its optimizer state, complete before anything points to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from lmgraph.errors import OptimizeError
from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer

PREFIX = "step-"


def write_step(work: Path, step: int, trainers: Iterable[tuple[LoraTrainer, str]]) -> Path:
    """Write `step-N` with one folder an adapter. ``trainers`` come with the name of their base model.

    Raises: OptimizeError where the disk is full or cannot be written; the step before is untouched then.
    """
    folder = work / f"{PREFIX}{step}"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        for trainer, base_model in trainers:
            trainer.base.save_adapter(trainer.name, adapter_folder(folder, trainer.name), base_model)
            trainer.save_optimizer(optimizer_file(folder, trainer.name))
        for path in folder.rglob("*"):
            if path.is_file():
                _to_disk(path)
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            raise cannot_write(work, error) from error
        raise
    return folder


def drop_others(work: Path, step: int) -> None:
    """Remove the steps before, once the checkpoint points to this one."""
    for old in work.glob(f"{PREFIX}*"):
        if old.name != f"{PREFIX}{step}":
            shutil.rmtree(old, ignore_errors=True)


def adapter_folder(step_folder: Path, name: str) -> Path:
    return step_folder / name


def optimizer_file(step_folder: Path, name: str) -> Path:
    return step_folder / name / "optimizer.safetensors"


def cannot_write(where: Path, error: Exception) -> OptimizeError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OptimizeError(
        f"The checkpoint in {where} cannot be written: {why}.",
        hint="make room on the disk; the same command goes on after the last whole step",
    )


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
