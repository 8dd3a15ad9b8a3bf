"""Python references, `pkg.module:callable`: loaded from the program's own folder only, each folder's apart."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from lmgraph.errors import ConfigError, LmgraphError


def load_callable(reference: str, root: Path) -> Callable[..., Any]:
    """The callable of `pkg.module:name`, from the program's own folder only.

    Raises: ConfigError if the file or the name is not there, or importing it fails.
    """
    module_path, _, name = reference.partition(":")
    module = _load_module(module_path, root, reference)
    target = getattr(module, name, None)
    if not callable(target):
        raise ConfigError(f"`{reference}`: {module.__file__} has no callable `{name}`.", hint="check the name")
    return target  # type: ignore[no-any-return]


def place_of(error: BaseException, root: Path) -> str:
    """`tools.py:12`: where in the program's folder the error came from, or the last place where it came by."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.is_relative_to(root):
            return f"{path.relative_to(root).as_posix()}:{frame.lineno}"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


def _load_module(path: str, root: Path, reference: str) -> ModuleType:
    """Import ``path`` under a name of this root's own, so that two programs may both have a `metrics.py`."""
    prefix = f"lmgraph_program_{abs(hash(str(root))):x}"
    if prefix not in sys.modules:
        package = ModuleType(prefix)
        package.__path__ = [str(root)]
        sys.modules[prefix] = package
    full = f"{prefix}.{path}"
    try:
        if importlib.util.find_spec(full) is None:
            raise _no_file(path, root, reference)
        return importlib.import_module(full)
    except LmgraphError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == full:  # what should be a folder is a file
            raise _no_file(path, root, reference) from None
        hint = "mend the Python file"
        if isinstance(error, ModuleNotFoundError) and error.name and _is_here(error.name, root):
            hint = f"modules of a program import one another relatively: from .{error.name} import …"
        raise ConfigError(f"`{reference}`: importing it raised {type(error).__name__}: {error}.", hint=hint) from error


def _no_file(path: str, root: Path, reference: str) -> ConfigError:
    where = path.replace(".", "/")
    return ConfigError(f"`{reference}`: there is no {where}.py in {root}.", hint="check the reference's path")


def _is_here(module: str, root: Path) -> bool:
    first = root / module.partition(".")[0]
    return first.is_dir() or first.with_suffix(".py").is_file()
