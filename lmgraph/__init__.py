"""lmgraph compiles programs made of language-model calls, runs them with a trace of every call, and tunes them.

    import lmgraph

    program = lmgraph.compile_file("programs/intent/program.lmg")      # or lmgraph.load("tuned")
    async with lmgraph.Runtime() as runtime:
        trace = await runtime.run(program, {"text": "play some jazz"})
        evaluation = await lmgraph.evaluate(program, runtime=runtime, split="test")

The core is async. Code without an event loop puts `lmgraph.sync` around a call: it is the one synchronous door.
Importing this package imports no torch, and of lmgraph itself only what is used.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from lmgraph.errors import LmgraphError

if TYPE_CHECKING:  # what `__getattr__` below gives, for type checkers
    from lmgraph.evaluate.evaluate import Evaluation, evaluate
    from lmgraph.evaluate.task import Task, make_task
    from lmgraph.optimize.compose import OptimizeRun, StageSpec, optimize
    from lmgraph.program.program import Program
    from lmgraph.runtime.bind import Binding
    from lmgraph.runtime.limits import Budget
    from lmgraph.runtime.service import RunOptions, Runtime
    from lmgraph.runtime.store import TraceStore
    from lmgraph.runtime.trace import Trace

__all__ = [
    "Binding",
    "Budget",
    "Evaluation",
    "LmgraphError",
    "OptimizeRun",
    "Program",
    "RunOptions",
    "Runtime",
    "StageSpec",
    "Task",
    "Trace",
    "TraceStore",
    "__version__",
    "compile_file",
    "evaluate",
    "load",
    "make_task",
    "optimize",
    "sync",
]

__version__: str

_ORIGINS = {
    "Binding": "lmgraph.runtime.bind",
    "Budget": "lmgraph.runtime.limits",
    "Evaluation": "lmgraph.evaluate.evaluate",
    "OptimizeRun": "lmgraph.optimize.compose",
    "Program": "lmgraph.program.program",
    "RunOptions": "lmgraph.runtime.service",
    "Runtime": "lmgraph.runtime.service",
    "StageSpec": "lmgraph.optimize.compose",
    "Task": "lmgraph.evaluate.task",
    "Trace": "lmgraph.runtime.trace",
    "TraceStore": "lmgraph.runtime.store",
    "evaluate": "lmgraph.evaluate.evaluate",
    "make_task": "lmgraph.evaluate.task",
    "optimize": "lmgraph.optimize.compose",
}
_FUNCTIONS_NAMED_AS_PACKAGES = ("evaluate", "optimize")

_Result = TypeVar("_Result")


def compile_file(path: str | Path) -> Program:
    """The program of a `.lmg` file, as its author wrote it.

    Raises: CompileError with every diagnostic; ConfigError if the file cannot be read as text.
    """
    from lmgraph.compiler.compile import compile_path
    from lmgraph.program.program import Program

    path = Path(path)
    return Program.default(compile_path(path).require(), path.parent)


def load(path: str | Path, *, params: str | Path | None = None) -> Program:
    """A program from an artifact folder, which needs neither parser nor compiler, or from a `.lmg` file.

    With ``params``, an artifact folder, it gets what that artifact has learned: all of it, or none.
    Raises: ArtifactError where a folder is no artifact, or one that cannot be trusted; GraphMismatch where what was
    learned does not fit the program; for a file as `compile_file`.
    """
    from lmgraph.program import artifact

    path = Path(path)
    program = artifact.load(path) if path.is_dir() else compile_file(path)
    if params is None:
        return program
    from lmgraph.program.rebind import rebind

    return program.with_params(rebind(artifact.load(Path(params)), program.graph).require())


def sync(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of an async call, for code without an event loop: ``sync(evaluate(program, split="test"))``.

    Each call has an event loop of its own, and an engine lives as long as the loop it was opened in. To open engines
    once for several calls, put them into one coroutine. Raises: what ``work`` raises; RuntimeError inside a loop.
    """
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise RuntimeError("lmgraph.sync is for code without an event loop; here, await the call itself")


def __getattr__(name: str) -> Any:
    value: Any
    if name == "__version__":
        value = import_module("importlib.metadata").version("lmgraph")
    elif name in _ORIGINS:
        value = getattr(import_module(_ORIGINS[name]), name)
    else:
        raise AttributeError(f"module 'lmgraph' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Python sets a subpackage as an attribute when it is first imported, which would put the packages `evaluate` and
    `optimize` in place of the functions of these names. `from lmgraph.evaluate import Task` works all the same."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _FUNCTIONS_NAMED_AS_PACKAGES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
