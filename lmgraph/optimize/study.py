"""The folder an optimize run keeps on disk: what makes Ctrl-C harmless and a second run a continuation.

study.json        what is optimized, with which options, what each finished stage found, what was spent
events.jsonl      every event, appended
stages/0-demos/   the artifact after each finished stage, and its evaluation
work/0-demos/     the checkpoint of the stage under way
adapters/         adapter versions, each in a folder of its own
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmgraph.errors import OptimizeError

FORMAT = 1
PARTS = ("stages", "work", "adapters")


class Study:
    """One study folder. Every write is atomic: a reader, or a run after a kill, sees the old state or the new one."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key
        self.state: dict[str, Any] = {
            "format": FORMAT, "key": key, "began": time.time(), "stages": [], "spent": {}, "finished": False
        }  # fmt: skip
        self.since: float | None = None
        """When the interrupted study was begun that this one continues (Unix time, seconds); None for a new one."""
        self.set_aside: Path | None = None
        """Where an unfinished study of another key went."""
        self.listener: Callable[[str, str, Mapping[str, Any]], None] | None = None
        """Is told of every event too: its stage, its name and its data."""

    @staticmethod
    def open(folder: Path, key: str, *, fresh: bool = False) -> Study:
        """Continue the unfinished study of this key in ``folder``.

        A finished study there is replaced, and so is any with ``fresh``; an unfinished one of another key (another
        program, data, option or seed) is set aside beside it, ``study.set_aside`` says where.
        Raises: OptimizeError if the folder cannot be written, or holds something that is no study.
        """
        study = Study(folder, key)
        old = _read(folder / "study.json")
        if folder.exists() and old is None and not all(_is_beginning(path) for path in folder.iterdir()):
            raise OptimizeError(f"{folder} exists and is no study.", hint="choose another --study folder")
        if not fresh and old is not None and not old.get("finished"):
            if old.get("key") == key:
                study.state = old
                study.since = old.get("began")
            else:
                study.set_aside = folder.with_name(f"{folder.name}.{str(old.get('key'))[:8]}")
                shutil.rmtree(study.set_aside, ignore_errors=True)
                folder.rename(study.set_aside)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            for part in PARTS:
                (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptimizeError(
                f"The study folder {folder} cannot be made: {error.strerror}.", hint="choose another with --study"
            ) from None
        study.save()
        return study

    @property
    def name(self) -> str:
        """What traces know its runs by."""
        return self.key[:16]

    @property
    def resumed(self) -> bool:
        return bool(self.state["stages"] or any((self.folder / "work").iterdir()))

    def save(self, **changes: Any) -> None:
        self.state.update(changes)
        write_json(self.folder / "study.json", self.state)

    def log(self, stage: str, event: str, data: Mapping[str, Any]) -> None:
        """Append one event. A torn last line, after a kill, is skipped by readers."""
        line = json.dumps({"time": round(time.time(), 3), "stage": stage, "event": event, **data})
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self.listener is not None:
            self.listener(stage, event, data)

    def events(self, stage: str | None = None) -> list[dict[str, Any]]:
        path = self.folder / "events.jsonl"
        events = []
        for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if stage is None or event["stage"] == stage:
                events.append(event)
        return events

    def work(self, stage: str) -> Path:
        folder = self.folder / "work" / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish_stage(self, record: Mapping[str, Any], stage: str) -> None:
        self.save(stages=[*self.state["stages"], dict(record)])
        shutil.rmtree(self.folder / "work" / stage, ignore_errors=True)

    def finish(self) -> None:
        """All stages are done. A kill may have left the checkpoint of one that was: it goes as well."""
        for folder in (self.folder / "work").iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        self.save(finished=True)


def write_json(path: Path, data: Any) -> None:
    """Atomic and durable."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        raise OptimizeError(f"{path} cannot be written: {error.strerror}.", hint="make room on the disk") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _is_beginning(path: Path) -> bool:
    """Whether it may be what a kill left of a study that was just being made: an empty folder, or half a file."""
    if path.is_dir() and not path.is_symlink():
        return path.name in PARTS and not any(path.iterdir())
    return path.name.startswith(".study.json-")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("format") == FORMAT else None
