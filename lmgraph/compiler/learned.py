"""Diagnostics of learned parameters on a program: what program/rebind.py finds, at places of the program's text."""

from __future__ import annotations

from lmgraph.compiler.compile import Compilation
from lmgraph.program.rebind import Rebound
from lmgraph.program.refusals import Problem
from lmgraph.source.codes import CODES
from lmgraph.source.diagnostic import Diagnostic, Fix, Label
from lmgraph.source.render import in_source_order
from lmgraph.source.text import Source, Span


def learned_diagnostics(rebound: Rebound, compilation: Compilation) -> tuple[Diagnostic, ...]:
    """What keeps the parameters from loading, and what makes them doubtful, at the modules of the program."""
    root = next(iter(compilation.sources.values()))
    return tuple(in_source_order([_diagnostic(problem, compilation, root) for problem in rebound.problems]))


def _diagnostic(problem: Problem, compilation: Compilation, root: Source) -> Diagnostic:
    start, end = Span(root.name, 0, 0), Span(root.name, len(root.text), len(root.text))
    declared = None if problem.module is None else _declared(problem.module, compilation)
    fix = None
    if problem.moved is not None:
        line = "moved {} -> {}".format(*problem.moved)
        before = "" if root.text.endswith("\n") else "\n"
        fix = Fix(end, f"{before}{line}\n", f"add `{line}`")
    return Diagnostic(
        code=problem.code,
        title=CODES[problem.code].title,
        primary=Label(start if declared is None else compilation.spans[declared], problem.message),
        notes=problem.notes,
        help=problem.help,
        fix=fix,
        severity="error" if problem.is_error else "warning",
    )


def _declared(module: str, compilation: Compilation) -> str:
    """The declaration that the module comes from: `M` of `M.step`."""
    assert compilation.graph is not None
    return compilation.graph.module(module).derived_from or module
