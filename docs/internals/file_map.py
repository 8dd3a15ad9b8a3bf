"""Writes the file lists of architecture.md anew, from the first sentence of each module's docstring.

    python docs/internals/file_map.py

A test fails where a file is missing from the lists, or listed and gone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("architecture.md")
START, END = "<!-- files: start -->\n", "<!-- files: end -->\n"
FOLDERS = ("lmgraph", "optimizers/lmgraph_optimizers", "grammar/lmgraph_grammar")
FLOORS = (
    "cli",
    "optimize",
    "evaluate",
    "engines",
    "runtime",
    "compiler",
    "passes",
    "program",
    "syntax",
    "graph",
    "source",
)
"""Order of the packages of `lmgraph/`, top floor first."""


def files() -> list[str]:
    """Python files of the three packages that hold code, as paths from the root."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.read_text(encoding="utf-8").strip())


def sentence(path: str) -> str:
    """What the module says it is: the first sentence of its docstring."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph)[0].rstrip(".").replace("|", "\\|")


def rank(folder: str) -> tuple[int, int, str]:
    """Floors first, top to bottom; then the files beside them; then the other packages."""
    parts = folder.split("/")
    if parts[0] != "lmgraph":
        return (2, 0, folder)
    if len(parts) > 1 and parts[1] in FLOORS:
        return (0, FLOORS.index(parts[1]), folder)
    return (1, 0, folder)


def lists() -> Iterator[str]:
    folders = sorted({str(Path(path).parent.as_posix()) for path in files()}, key=rank)
    for folder in folders:
        yield f"### `{folder}/`\n\n| file | what it is |\n|---|---|\n"
        for path in files():
            if str(Path(path).parent.as_posix()) == folder:
                yield f"| `{Path(path).name}` | {sentence(path)} |\n"
        yield "\n"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(START)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{START}\n{''.join(lists())}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
