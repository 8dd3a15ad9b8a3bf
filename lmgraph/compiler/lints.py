"""Warnings about a program without errors: what is declared or bound and never used, what has no effect yet.

Reads the tree alone. Use is looked at only where nothing is wrong: a mistyped name would be told twice otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.graph import DEFAULT_LM
from lmgraph.source.text import Span
from lmgraph.syntax import tree

_NO_EFFECT: dict[type, tuple[str, str]] = {
    tree.Test: ("`test` does not run yet", "it changes nothing about the program; leave it for a later version"),
    tree.Moved: ("`moved` has no effect yet", "parameters learned under the old name do not follow"),
}


def lint(file: tree.File, reporter: Reporter) -> None:
    """Every warning about the file that needs no types."""
    if not reporter.failed:
        _lint_use(file, reporter)
    _warn_without_effect(file, reporter)


def _lint_use(file: tree.File, reporter: Reporter) -> None:
    flows = [one for one in file.declarations if isinstance(one, tree.Flow)]
    for flow in flows:
        _lint_flow(flow, reporter)
    if flows:
        _lint_modules(file, reporter)
    _lint_lms(file, reporter)


def _warn_without_effect(file: tree.File, reporter: Reporter) -> None:
    """One warning for each kind of declaration that is read and not used yet."""
    for kind, (message, help) in _NO_EFFECT.items():
        found = [one for one in file.declarations if isinstance(one, kind)]
        if found:
            first = found[0]
            keyword = Span(first.span.file, first.span.start, first.span.start + len(kind.__name__))
            notes = [f"{len(found)} such declarations in this file"] if len(found) > 1 else ()
            reporter.warning("W0006", keyword, message, help=help, notes=notes)


def _lint_flow(flow: tree.Flow, reporter: Reporter) -> None:
    used = set(_names(flow.body))
    for node in flow.signature.inputs:
        if node.name.text not in used:
            reporter.warning(
                "W0002",
                node.name.span,
                f"flow `{flow.name.text}` never reads its input `{node.name.text}`",
                help="delete it, or give it to a module",
            )
    for statement in flow.body:
        if isinstance(statement, tree.Bind) and statement.name.text not in used:
            reporter.warning(
                "W0001",
                statement.name.span,
                f"`{statement.name.text}` is bound and never used",
                help="delete the line, or use the value in what the flow returns",
            )


def _lint_modules(file: tree.File, reporter: Reporter) -> None:
    callers = [one for one in file.declarations if not isinstance(one, tree.Test | tree.Objective)]
    used = {name for one in callers for name in _names(one)}
    for declaration in file.declarations:
        if isinstance(declaration, tree.Module) and declaration.name.text not in used:
            reporter.warning(
                "W0003",
                declaration.name.span,
                f"no flow calls module `{declaration.name.text}`",
                help="call it in a flow, or delete it",
            )


def _lint_lms(file: tree.File, reporter: Reporter) -> None:
    used = {name for one in file.declarations if not isinstance(one, tree.Lm) for name in _names(one)}
    for declaration in file.declarations:
        if isinstance(declaration, tree.Lm) and declaration.name.text not in used | {DEFAULT_LM}:
            reporter.warning(
                "W0004",
                declaration.name.span,
                f"no module uses the lm `{declaration.name.text}`",
                help=f"write `lm: {declaration.name.text}` in a module, or delete it",
            )


def _names(node: object) -> Iterator[str]:
    """Every name that an expression inside ``node`` reads or calls."""
    if isinstance(node, tree.Reference):
        yield node.name
    elif isinstance(node, tuple):
        for item in node:
            yield from _names(item)
    elif is_dataclass(node) and not isinstance(node, Span):
        for field in fields(node):
            yield from _names(getattr(node, field.name))
