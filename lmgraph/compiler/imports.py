"""Imports: reads every file that a program reaches, each once, and says which names each file sees.

Paths are relative to the program's root folder, in imported files too. Declared names are unique in all files together,
so that a name means one thing in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath

from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.reporter import Reporter, circle_of, some
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Source
from lmgraph.syntax import tree
from lmgraph.syntax.parser import ParseResult, parse

MOST_FILES_DEEP = 64


@dataclass(frozen=True, slots=True)
class Unit:
    """One file of the program."""

    source: Source
    file: tree.File
    imports: tuple[tuple[tree.Import, str | None], ...]
    """Each import of the file with the name of the file it reads; None where that was reported."""
    path: str
    """As an import names the file."""


@dataclass(slots=True)
class Closure:
    """The files of a program: the root first, then the others in the order in which they are reached."""

    units: dict[str, Unit] = field(default_factory=dict)

    @property
    def root(self) -> Unit:
        return next(iter(self.units.values()))


def load_closure(
    source: Source,
    file: tree.File,
    files: ProgramFiles,
    reporter: Reporter,
    parse: Callable[[Source], ParseResult] = parse,
) -> Closure:
    """Every file that the root imports, directly or not. Files that cannot be read or parsed are reported."""
    loader = _Loader(source, files, reporter, parse)
    loader.add(source, file, (), PurePath(source.name).name)
    closure = Closure()
    # A file is finished after what it imports; the root comes first, so that its problems are told first.
    for name in [source.name, *(name for name in loader.units if name != source.name)]:
        closure.units[name] = loader.units[name]
    return closure


class _Loader:
    def __init__(
        self, root: Source, files: ProgramFiles, reporter: Reporter, parse: Callable[[Source], ParseResult]
    ) -> None:
        self._parse = parse
        self.units: dict[str, Unit] = {}
        self._root = root
        self._files = files
        self._reporter = reporter
        self._broken: set[str] = set()

    def add(self, source: Source, file: tree.File, open_files: tuple[str, ...], path: str) -> None:
        chain = (*open_files, source.name)
        imports = tuple((one, self._target(one, chain)) for one in file.declarations if isinstance(one, tree.Import))
        self.units[source.name] = Unit(source, file, imports, path)

    def _target(self, node: tree.Import, chain: tuple[str, ...]) -> str | None:
        """The name of the imported file, read if it was not yet."""
        relative = self._files.relative(node.path)
        if relative is None:
            return None
        name = self._root.name if self._is_root(relative) else self._files.shown(relative)
        if name in chain:
            circle = circle_of([*chain[chain.index(name) :], name])
            self._reporter.error(
                "E0207",
                node.path.span,
                f"this import goes in a circle: {circle}" if name != chain[-1] else "a file cannot import itself",
                help="put what both files need into a third one",
            )
            return None
        if name in self._broken:
            return None
        if len(chain) > MOST_FILES_DEEP:
            self._broken.add(name)
            self._reporter.error(
                "E0108",
                node.path.span,
                f"imports nest more than {MOST_FILES_DEEP} files deep here",
                help="import what is needed from the file that declares it",
            )
            return None
        if name not in self.units:
            source = self._files.text(node.path)
            parsed = self._parse(source) if source is not None else None
            if source is None or parsed is None or parsed.tree is None or not parsed.ok:
                self._broken.add(name)
                self._reporter.add(parsed.diagnostics if parsed is not None else ())
                return None
            self.add(source, parsed.tree, chain, relative)
        return name

    def _is_root(self, relative: str) -> bool:
        """Whether the path names the root file, which messages call by the path it was opened with."""
        root = self._files.root
        if root is None or self._root.path is None:
            return False
        try:
            return (root / relative).resolve() == self._root.path.resolve()
        except (OSError, RuntimeError):  # a name that no file can have, or links in a circle
            return False


def imported_names(
    unit: Unit, declared: dict[str, dict[str, tree.Declaration]], reporter: Reporter
) -> tuple[dict[str, tuple[tree.Identifier, tree.Declaration]], set[str]]:
    """What the file's imports bring in, by the name it has there; and the names whose import was reported.

    ``declared`` has the declarations of each file by name.
    """
    found: dict[str, tuple[tree.Identifier, tree.Declaration]] = {}
    silent: set[str] = set()
    for node, target in unit.imports:
        for item in node.names:
            local = item.alias or item.name
            if target is None:
                silent.add(local.text)
                continue
            there = declared[target]
            if item.name.text not in there:
                reporter.unknown(
                    "E0201",
                    item.name.span,
                    f"`{node.path.value}` declares no `{item.name.text}`",
                    item.name.text,
                    there,
                    otherwise=f"it declares {some(there)}" if there else "it declares nothing to import",
                )
                silent.add(local.text)
            elif local.text in found:
                reporter.error(
                    "E0202",
                    local.span,
                    f"`{local.text}` is imported a second time",
                    secondary=[Label(found[local.text][0].span, "first imported here")],
                    help="delete one of the two, or give it another name: `import A as B`",
                )
            else:
                found[local.text] = (local, there[item.name.text])
    return found, silent
