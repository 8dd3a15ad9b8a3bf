"""The Python environment that SGLang runs in: its own, since its packages and ours do not agree.

An environment is built once under lmgraph's own folder, in place, and is finished when its mark is written, which says
what it was built from: what an interrupted build left, or one of other packages, is removed by the next one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lmgraph.engines.home import lmgraph_home
from lmgraph.errors import ConfigError, EngineUnavailable

Device = Literal["cpu", "cuda"]
Say = Callable[[str], None]

SGLANG = "sglang==0.5.23"
TORCH = "torch==2.13.0"
TORCHVISION = "torchvision==0.28.0"
FILES = Path(__file__).parent / "cpu"
MARK = ".lmgraph-complete"
PYTHON_VARIABLE = "LMGRAPH_SGLANG_PYTHON"
"""An interpreter that has SGLang already; it is used as it is."""
LAST_LINES = 15


def environment_folder(device: Device) -> Path:
    return lmgraph_home() / f"{SGLANG.replace('==', '-')}-{device}"


def sglang_python(device: Device, say: Say) -> Path:
    """The interpreter to start a server with; builds its environment where there is none, which takes minutes.

    Raises: ConfigError if the folder cannot be written or the interpreter is missing; EngineUnavailable if a package
    cannot be installed.
    """
    if given := os.environ.get(PYTHON_VARIABLE):
        python = Path(given).expanduser()
        if not python.is_file():
            raise ConfigError(f"{PYTHON_VARIABLE} is {given}, which is no interpreter.")
        return python
    folder = environment_folder(device)
    python = folder / "bin" / "python"
    if not is_built(device):
        _build(folder, python, device, say)
    return python


def is_built(device: Device) -> bool:
    """Whether the environment is there, whole, and of these packages."""
    try:
        return (environment_folder(device) / MARK).read_text(encoding="utf-8") == _recipe(device)
    except OSError:
        return False


def _recipe(device: Device) -> str:
    """What the environment is made of, as its mark says it."""
    parts = [SGLANG]
    if device == "cpu":
        parts += [TORCH, TORCHVISION, *(path.read_text(encoding="utf-8") for path in sorted(FILES.glob("*.txt")))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _build(folder: Path, python: Path, device: Device, say: Say) -> None:
    try:
        from filelock import FileLock
    except ImportError:
        raise EngineUnavailable("`filelock` is not installed.", hint="pip install 'lmgraph[sglang]'") from None
    if sys.version_info[:2] != (3, 11) and device == "cpu":
        say(f"The packages are known to work on Python 3.11; this is {sys.version.split()[0]}.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".lock-{folder.name}")):
            if is_built(device):  # another process was first
                return
            shutil.rmtree(folder, ignore_errors=True)
            log = folder.with_name(f"{folder.name}.log")
            log.unlink(missing_ok=True)
            say(f"making an environment for SGLang in {folder}")
            _run([sys.executable, "-m", "venv", str(folder)], log)
            install = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
            for step, arguments in _cpu_steps() if device == "cpu" else _cuda_steps():
                say(f"installing {step}")
                _run([*install, *arguments], log)
            (folder / MARK).write_text(_recipe(device), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"The environment cannot be made in {folder}: {error.strerror or error}.",
            hint="free some space there (it takes about 3 GB), or set LMGRAPH_HOME to a folder you can write",
        ) from error


def _cpu_steps() -> list[tuple[str, list[str]]]:
    """torch first and alone: later steps then find a torch that suits them and fetch no other."""
    files = ["-c", str(FILES / "constraints.txt"), "-r", str(FILES / "requirements.txt")]
    return [
        (TORCH, [TORCH]),
        ("what SGLang needs on a CPU", files),
        (SGLANG, ["--no-deps", SGLANG, TORCHVISION]),
    ]


def _cuda_steps() -> list[tuple[str, list[str]]]:
    return [(SGLANG, [SGLANG])]


def _run(command: list[str], log: Path) -> None:
    """Raises: EngineUnavailable with the end of what the command said."""
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise EngineUnavailable(
            f"`{' '.join(command[:4])} …` ended with {code}:\n{last_lines(log)}",
            hint=f"the whole story is in {log}; --engine local needs no server",
        )


def last_lines(log: Path) -> str:
    """The end of a log, for an error."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line[:200]}" for line in lines[-LAST_LINES:])
