"""Files that a program names: paths relative to its root folder, never outside it. Reads text, knows no types."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath

from lmgraph.compiler.reporter import Reporter
from lmgraph.source.text import Source
from lmgraph.syntax import tree

MOST_BYTES = 4_000_000
"""A file of labels is closed vocabulary, not data: anything longer is refused."""


class ProgramFiles:
    """The files of one program. ``read`` sources are kept, so that diagnostics can show their lines.

    ``program`` is what messages call the program's own file: its other files are called by the same folder.
    """

    def __init__(
        self,
        root: Path | None,
        reporter: Reporter,
        program: str = "",
        unsaved: Mapping[Path, str] | None = None,
    ) -> None:
        self.root = root
        self._unsaved = unsaved or {}
        self._folder = PurePath(program).parent
        self._reporter = reporter
        self.read: dict[str, Source] = {}
        self.python: dict[Path, list[ast.stmt] | str] = {}
        """What Python references read, or why they cannot: each module once."""

    def relative(self, path: tree.Constant) -> str | None:
        """The path in canonical form, or None after reporting one that is absolute or leaves the root folder."""
        text = str(path.value)
        parts = PurePosixPath(text.replace("\\", "/"))
        depth = 0
        for part in parts.parts:
            depth += -1 if part == ".." else 1
            if depth < 0:
                break
        if depth <= 0 or parts.is_absolute() or ":" in parts.parts[0] or ".." in parts.parts:
            self._reporter.error(
                "E0502",
                path.span,
                "this path must be relative and stay inside the program's folder",
                help="put the file beside the program and name it from there, as in `data/rows.jsonl`",
            )
            return None
        return str(parts)

    def shown(self, relative: str) -> str:
        """What messages call the file."""
        return str(self._folder / relative)

    def exists(self, relative: str) -> bool:
        """Whether the file is there; True where the program has no folder, so that nothing is claimed."""
        return self.root is None or is_file(self.root / relative)

    def text(self, path: tree.Constant) -> Source | None:
        """The file's text, or None after reporting why there is none."""
        relative = self.relative(path)
        if relative is None:
            return None
        unsaved = self._unsaved.get((self.root / relative).absolute()) if self.root is not None else None
        if self.root is not None and unsaved is not None:
            return self._keep(Source(self.shown(relative), unsaved, self.root / relative))
        problem = self._unreadable(relative)
        if problem is None:
            assert self.root is not None
            try:
                with (self.root / relative).open("rb") as file:
                    data = file.read(MOST_BYTES + 1)
                if len(data) > MOST_BYTES:
                    problem = f"`{relative}` is larger than {MOST_BYTES:,} bytes"
                else:
                    return self._keep(Source(self.shown(relative), data.decode("utf-8-sig"), self.root / relative))
            except OSError as error:
                problem = f"`{relative}` cannot be read: {error.strerror or 'unknown reason'}"
            except UnicodeDecodeError as error:
                problem = f"`{relative}` is not UTF-8 text: byte {error.start} does not fit"
        self._reporter.error("E0501", path.span, problem, help="paths are read from the folder that holds the program")
        return None

    def _keep(self, source: Source) -> Source:
        self.read[source.name] = source
        return source

    def _unreadable(self, relative: str) -> str | None:
        if self.root is None:
            return f"`{relative}` cannot be read: this program is not in a folder"
        path = self.root / relative
        try:
            if not path.exists():
                return f"there is no file `{relative}` in the program's folder"
            if not path.is_file():
                return f"`{relative}` is not a file"
            if not path.resolve().is_relative_to(self.root.resolve()):
                return f"`{relative}` is a link that leaves the program's folder"
        except OSError as error:  # a name that no file can have, a folder that may not be looked into
            return f"`{relative}` cannot be read: {error.strerror or 'unknown reason'}"
        return None


def is_file(path: Path) -> bool:
    """Whether the file is there; False, too, for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False
