"""Programs that are open in an editor: compiled again at each change, with all that the change cannot matter to kept.

What comes of a program is the same as from `compile_source`; only the time differs. Not for several threads at once.
"""

from __future__ import annotations

from pathlib import Path

from lmgraph.compiler.compile import Compilation, compile_source
from lmgraph.compiler.kept import Kept
from lmgraph.source.lint_levels import levels_of
from lmgraph.source.reading import read_source
from lmgraph.source.text import Source


class Workspace:
    """Open files by path. A file that another one imports is seen with its unsaved text."""

    def __init__(self) -> None:
        self._texts: dict[Path, str] = {}
        self._kept: dict[Path, Kept] = {}

    def open(self, path: Path) -> Compilation:
        """The program at ``path``, as it is on disk. Raises: ConfigError if the file cannot be read as text."""
        return self.change(path, read_source(path).text)

    def change(self, path: Path, text: str) -> Compilation:
        """The program at ``path`` with the text that it has in the editor. Other programs may import it:
        ``compile`` those again."""
        self._texts[path.absolute()] = text
        return self.compile(path)

    def compile(self, path: Path) -> Compilation:
        """The program at ``path`` as it is now. Raises: ConfigError if it is not open and cannot be read."""
        text = self._texts.get(path.absolute())
        source = read_source(path) if text is None else Source(str(path), text, path)
        kept = self._kept.setdefault(path.absolute(), Kept())
        return compile_source(source, root=path.parent, levels=levels_of(path), unsaved=self._texts, steps=kept)

    def close(self, path: Path) -> None:
        """Forgets the file's unsaved text, and what is known of it as a program."""
        self._texts.pop(path.absolute(), None)
        self._kept.pop(path.absolute(), None)
