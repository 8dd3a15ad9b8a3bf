"""`lmgraph compile`: a program's graph on stdout, or an artifact folder. Diagnostics go to stderr."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lmgraph.compiler.compile import Compilation
    from lmgraph.graph.graph import Graph
    from lmgraph.program.program import Program


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
            "--explain", help="Print what is released, who sees private values, and what a run takes at most."
        ),
    ] = False,
    format: FormatOption = DiagnosticFormat.text,
) -> None:
    """Compile a program and print its graph, or write it as an artifact."""
    from lmgraph.compiler.compile import compile_path

    compilation = compile_path(file)
    print_diagnostics(compilation, format, to_stderr=True)
    if compilation.graph is None:
        raise typer.Exit(1)
    if learned is not None and output is None:
        raise typer.BadParameter("it needs -o FOLDER, where the artifact is written", param_hint="--params")
    if output is not None:
        from lmgraph.program.artifact import save

        print(save(_program(compilation.graph, file.parent, learned), output))
    if explain:
        from lmgraph.cli.explained import explained

        sys.stdout.write(explained(compilation))
    if emit is not None or (output is None and not explain):
        sys.stdout.write(emitted(compilation.graph, emit or Emit.json))


def _program(graph: Graph, root: Path, learned: Path | None) -> Program:
    """The program as written, or with the learned parameters of an artifact; what changed on the way is told."""
    from lmgraph.program.artifact import load
    from lmgraph.program.program import Program
    from lmgraph.program.rebind import rebind

    program = Program.default(graph, root)
    if learned is None:
        return program
    rebound = rebind(load(learned), graph)
    for note in rebound.notes:
        print(f"note: {note}", file=sys.stderr)
    return program.with_params(rebound.params)


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
