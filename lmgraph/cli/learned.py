"""Learned parameters of an artifact, put onto the program that a command works on, and what a person is told of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # these would be imported by `lmgraph run --help`
    from lmgraph.compiler.compile import Compilation
    from lmgraph.program.program import Program
    from lmgraph.program.rebind import Rebound

ParamsOption = Annotated[
    Path | None,
    typer.Option("--params", help="Put what this artifact has learned onto the program.", metavar="ARTIFACT"),
]


def load_learned(compilation: Compilation, root: Path, learned: Path) -> Program:
    """The compiled program with the parameters of the artifact ``learned``; warnings and notes go to standard error.

    Raises: CompileError where they do not fit; ArtifactError.
    """
    from lmgraph.compiler.learned import learned_diagnostics
    from lmgraph.program import artifact
    from lmgraph.program.program import Program
    from lmgraph.program.rebind import rebind
    from lmgraph.source.render import compile_error, render

    graph = compilation.require()
    rebound = rebind(artifact.load(learned), graph)
    diagnostics = learned_diagnostics(rebound, compilation)
    if rebound.params is None:
        raise compile_error(diagnostics, compilation.sources)
    color = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    sys.stderr.write(render(diagnostics, compilation.sources, color=color))
    print_notes(rebound)
    return Program.default(graph, root).with_params(rebound.params)


def load_stored(folder: Path, learned: Path | None) -> Program:
    """The program of the artifact ``folder``, with the parameters of another one where ``learned`` is given.

    Raises: GraphMismatch where they do not fit; ArtifactError.
    """
    from lmgraph.program import artifact
    from lmgraph.program.rebind import rebind

    program = artifact.load(folder)
    rebound = rebind(program if learned is None else artifact.load(learned), program.graph)
    params = rebound.require()
    for problem in rebound.problems:
        print(f"warning: {problem.message}", file=sys.stderr)
    if learned is None:
        return program
    print_notes(rebound)
    return program.with_params(params)


def print_notes(rebound: Rebound) -> None:
    """What else there is to know, on standard error."""
    for note in rebound.notes:
        print(f"note: {note}", file=sys.stderr)
