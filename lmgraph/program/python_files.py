"""Which Python files a reference needs: its own, and those that they import from one another by relative imports.

Read from the source text; nothing is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def python_files(reference: str, root: Path) -> list[str]:
    """Relative paths for `pkg.module:callable`: all of the package pkg, or module.py and what it imports beside it."""
    first = reference.partition(":")[0].split(".")[0]
    if (root / first).is_dir():
        return _package(root, first)
    found: dict[str, None] = {}
    waiting = [f"{first}.py"]
    while waiting:
        name = waiting.pop()
        if name in found or not (root / name).is_file():
            continue
        found[name] = None
        for module in _relative_imports(root / name):
            if (root / module).is_dir():
                found.update(dict.fromkeys(_package(root, module)))
            else:
                waiting.append(f"{module}.py")
    return list(found) or [f"{first}.py"]


def _package(root: Path, name: str) -> list[str]:
    return [path.relative_to(root).as_posix() for path in sorted((root / name).rglob("*.py"))]


def _relative_imports(path: Path) -> Iterator[str]:
    """First names of what a module of the root folder imports from beside it: `a` of `from .a.b import c`."""
    try:
        parsed = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            if node.module is not None:
                yield PurePosixPath(node.module.replace(".", "/")).parts[0]
            else:
                yield from (alias.name for alias in node.names)
