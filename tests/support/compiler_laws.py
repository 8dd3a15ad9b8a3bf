"""What holds for the compiler on any text at all: a graph or errors, never an exception, and in time."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lmgraph.compiler.compile import Compilation, compile_source
from lmgraph.graph.draw import to_dot, to_mermaid, to_text
from lmgraph.graph.dump import dump, load
from lmgraph.graph.verify import verify, verify_tests
from lmgraph.passes import optimized
from lmgraph.source import Source
from lmgraph.source.codes import CODES
from lmgraph.source.render import render, to_json
from lmgraph.syntax.format import format_source
from lmgraph.syntax.parser import parse

NAME = "program.lmg"


class TookTooLong(BaseException):
    """More processor time than a program may take. No Exception: nothing on the way may catch it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TookTooLong in the main thread after so many seconds of this process's own processor time."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@dataclass(frozen=True, slots=True)
class Outcome:
    accepted: bool
    parsed: bool
    codes: tuple[str, ...]
    """Of what was reported, warnings too, each once."""


def check_laws(text: str, root: Path | None) -> Outcome:
    """Raises AssertionError, or what the compiler raised, where a law is broken."""
    compilation = compile_source(Source(NAME, text), root=root)
    _check_diagnostics(compilation)
    if compilation.graph is not None:
        _check_graph(compilation)
    parsed = parse(Source(NAME, text)).ok
    if parsed:
        _check_format(text, root, accepted=compilation.graph is not None)
    codes = tuple(sorted({one.code for one in compilation.diagnostics}))
    return Outcome(compilation.graph is not None, parsed, codes)


def _check_diagnostics(compilation: Compilation) -> None:
    errors = [one for one in compilation.diagnostics if one.severity == "error"]
    assert (compilation.graph is None) == bool(errors), (
        f"{len(errors)} errors, and graph: {compilation.graph is not None}"
    )
    for one in compilation.diagnostics:
        assert one.code in CODES, f"the code {one.code} is not in the catalogue"
        assert one.primary.message, f"a {one.code} without words"
        spans = [label.span for label in (one.primary, *one.secondary)]
        for span in [*spans, one.fix.span] if one.fix is not None else spans:
            assert span.file in compilation.sources, f"{one.code} points into the unknown file {span.file}"
            length = len(compilation.sources[span.file].text)
            assert 0 <= span.start <= span.end <= length, f"{one.code} points to {span} of {length} characters"
    assert bool(render(compilation.diagnostics, compilation.sources)) == bool(compilation.diagnostics)
    to_json(compilation.diagnostics, compilation.sources)


def _check_graph(compilation: Compilation) -> None:
    graph = compilation.graph
    assert graph is not None
    verify(graph)
    verify_tests(graph, compilation.tests)
    read_back = load(dump(graph))
    with _deep_recursion():
        assert read_back == graph, "the graph read back is another one"
    assert all(draw(graph) for draw in (to_text, to_mermaid, to_dot))
    optimized(graph)  # which verifies what each pass gives back


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Room for `==` of graphs, which takes several frames a level; nothing of the compiler's own needs it."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _check_format(text: str, root: Path | None, *, accepted: bool) -> None:
    formatted = format_source(Source(NAME, text))
    assert format_source(Source(NAME, formatted)) == formatted, "formatting twice is not formatting once"
    again = compile_source(Source(NAME, formatted), root=root)
    assert (again.graph is not None) == accepted, "formatting changed whether the program compiles"
