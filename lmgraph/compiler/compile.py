"""The whole compiler: text to tree, names, types, graph. Every problem of a phase is reported in one run.

A file with a syntax error is not checked further. Names and types are reported together; what follows from a problem
that was reported already stays silent. The graph is made only where nothing is wrong, and given out only where no
private value leaks in it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from lmgraph.compiler.check import check_program
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import Facts
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.imports import load_closure
from lmgraph.compiler.information_flow import refuse_lost_labels, report_leaks
from lmgraph.compiler.kept import Steps
from lmgraph.compiler.lints import lint
from lmgraph.compiler.lower import lower_program
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.resolve import Names
from lmgraph.graph.graph import Graph, TestSpec
from lmgraph.source.diagnostic import Diagnostic
from lmgraph.source.lint_levels import Levels, levels_of, with_levels
from lmgraph.source.reading import read_source
from lmgraph.source.render import compile_error, in_source_order
from lmgraph.source.text import Source, Span


@dataclass(frozen=True, slots=True)
class Compilation:
    """What came of one program."""

    graph: Graph | None
    """None where an error was found."""
    diagnostics: tuple[Diagnostic, ...]
    """Errors and warnings, in source order, the root file's first."""
    sources: dict[str, Source]
    """Every file that was read, by the name that spans use."""
    spans: dict[str, Span]
    """Where things are: by node id or value id, and by the name of each declaration."""
    tests: tuple[TestSpec, ...] = ()
    """The tests that the program's own file declares."""

    def require(self) -> Graph:
        """The graph. Raises: CompileError with every diagnostic where there is none."""
        if self.graph is None:
            raise compile_error(self.diagnostics, self.sources)
        return self.graph


def compile_path(path: Path) -> Compilation:
    """Compile the program in a file, its lints at the levels that lmgraph.toml beside it says.

    Raises: ConfigError if the file cannot be read as text, or lmgraph.toml says of lints what it cannot say.
    """
    return compile_source(read_source(path), root=path.parent, levels=levels_of(path))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pauses the search for garbage. What a compilation makes lives until its end; looking through it finds nothing."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@_no_collection()
def compile_source(
    source: Source,
    *,
    root: Path | None,
    levels: Levels | None = None,
    unsaved: Mapping[Path, str] | None = None,
    steps: Steps | None = None,
) -> Compilation:
    """Compile a program. ``root`` is the folder its paths are relative to; None where it is in no folder.

    ``unsaved`` are texts that stand in for those on disk, by absolute path. ``steps`` may know something of an earlier
    version of it.
    """
    steps = steps or Steps()
    parsed = steps.parse(source)
    if parsed.tree is None or not parsed.ok:
        return Compilation(None, tuple(in_source_order(parsed.diagnostics)), {source.name: source}, {})
    reporter, facts = Reporter(), Facts()
    files = ProgramFiles(root, reporter, source.name, unsaved)
    closure = load_closure(source, parsed.tree, files, reporter, steps.parse)
    sources = {source.name: source, **files.read}
    declarations = Declarations(Names(closure, reporter), files, reporter, sources)
    checked = check_program(closure, declarations, files, facts, reporter, steps)
    steps.checked(one for unit in closure.units.values() for one in unit.file.declarations)
    refuse_lost_labels(declarations, reporter)
    lint(closure, facts, reporter, steps.used_in)
    graph, tests, spans = None, tuple[TestSpec, ...](), dict[str, Span]()
    if not reporter.failed:
        graph, tests = lower_program(_program_name(source), checked, facts, spans, steps)
        steps.verify(graph, tests)
        report_leaks(graph, tests, declarations, spans, reporter)
        if reporter.failed:
            graph, tests = None, ()
    sources = {source.name: source, **files.read}
    found = with_levels(reporter.diagnostics, levels or {})
    if any(one.severity == "error" for one in found):
        graph, tests = None, ()
    own_file_first = sorted(found, key=lambda one: one.primary.span.file != source.name)
    return Compilation(graph, tuple(in_source_order(own_file_first)), sources, spans, tests)


def _program_name(source: Source) -> str:
    """The file's name without its ending; for `program.lmg`, the folder's, which tells programs apart."""
    stem = PurePath(source.name).stem
    folder = source.path.resolve().parent.name if source.path is not None else ""
    return folder or stem if stem == "program" else stem
