"""`lmgraph compile`: a program's graph on stdout, or an artifact folder. Diagnostics go to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmgraph.cli.common import settings_of
from lmgraph.cli.learned import print_notes

if TYPE_CHECKING:
    from lmgraph.compiler.compile import Compilation
    from lmgraph.graph.graph import Graph
    from lmgraph.program.rebind import Rebound


class Emit(StrEnum):
    json = "json"
    text = "text"
    mermaid = "mermaid"
    dot = "dot"


class DiagnosticFormat(StrEnum):
    text = "text"
    json = "json"


FormatOption = Annotated[DiagnosticFormat, typer.Option("--format", help="How errors and warnings are printed.")]


def compile_command(
    file: Annotated[Path, typer.Argument(help="The program.", metavar="FILE")],
    emit: Annotated[Emit | None, typer.Option("--emit", help="What to print: json unless -o is given.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write an artifact folder.", metavar="FOLDER")
    ] = None,
    learned: Annotated[
        Path | None,
        typer.Option(
            "--params", help="With -o: put the learned parameters of this artifact on the program.", metavar="ARTIFACT"
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Print what is released, who sees private values, what passes save, and what a run takes at most.",
        ),
    ] = False,
    optimized: Annotated[
        bool,
        typer.Option("--optimized", help="Print the graph as it runs, after the passes; artifacts hold it without."),
    ] = False,
    passes_off: Annotated[
        list[str] | None,
        typer.Option(
            "--no-pass", help="Leave a pass out of what is printed; may be given several times.", metavar="NAME"
        ),
    ] = None,
    format: FormatOption = DiagnosticFormat.text,
) -> None:
    """Compile a program and print its graph, or write it as an artifact."""
    from lmgraph.compiler.compile import compile_path

    if learned is not None and output is None:
        raise typer.BadParameter("it needs -o FOLDER, where the artifact is written", param_hint="--params")
    off = (*settings_of(file).passes_off, *(passes_off or ()))
    if off:
        from lmgraph.passes import check_names

        check_names(off)
    compilation = compile_path(file)
    rebound = None if learned is None or compilation.graph is None else _rebound(compilation.graph, learned)
    if rebound is not None:
        from lmgraph.compiler.learned import learned_diagnostics

        found = (*compilation.diagnostics, *learned_diagnostics(rebound, compilation))
        compilation = replace(compilation, diagnostics=found)
    print_diagnostics(compilation, format, to_stderr=True)
    if compilation.graph is None or (rebound is not None and rebound.params is None):
        raise typer.Exit(1)
    if rebound is not None and format is DiagnosticFormat.text:
        print_notes(rebound)
    if output is not None:
        from lmgraph.program.artifact import save
        from lmgraph.program.program import Program

        program = Program.default(compilation.graph, file.parent)
        if rebound is not None:
            program = program.with_params(rebound.require())
        print(save(program, output))
    if explain:
        from lmgraph.cli.explained import explained

        sys.stdout.write(explained(compilation, off))
    if emit is not None or (output is None and not explain):
        graph = _after_passes(compilation.graph, off) if optimized else compilation.graph
        sys.stdout.write(emitted(graph, emit or Emit.json))


def _after_passes(graph: Graph, off: Sequence[str]) -> Graph:
    from lmgraph.passes import optimized

    return optimized(graph, off)


def _rebound(graph: Graph, learned: Path) -> Rebound:
    from lmgraph.program.artifact import load
    from lmgraph.program.rebind import rebind

    return rebind(load(learned), graph)


def emitted(graph: Graph, emit: Emit) -> str:
    """The graph in one of the printed forms, with a line break at its end."""
    if emit is Emit.json:
        from lmgraph.graph.dump import dump

        return dump(graph, indent=2) + "\n"
    from lmgraph.graph import draw

    match emit:
        case Emit.text:
            return draw.to_text(graph)
        case Emit.mermaid:
            return draw.to_mermaid(graph)
        case Emit.dot:
            return draw.to_dot(graph)


def print_diagnostics(compilation: Compilation, format: DiagnosticFormat, *, to_stderr: bool) -> None:
    """Errors and warnings of a compilation: coloured on a terminal, one JSON array with ``--format json``."""
    stream = sys.stderr if to_stderr else sys.stdout
    if format is DiagnosticFormat.json:
        import json

        from lmgraph.source.render import to_json

        json.dump(to_json(compilation.diagnostics, compilation.sources), stream, ensure_ascii=False, indent=2)
        stream.write("\n")
    elif compilation.diagnostics:
        from lmgraph.source.render import render

        color = stream.isatty() and "NO_COLOR" not in os.environ
        stream.write(render(compilation.diagnostics, compilation.sources, color=color))
