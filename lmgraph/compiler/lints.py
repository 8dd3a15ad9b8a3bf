"""Warnings about a program without errors: what is declared or bound and never used.

Reads the trees, and asks of calls only whether they may act. Use is looked at only where nothing is wrong: a mistyped
name would be told twice otherwise. Imported files are libraries: what a program does not use of them is no matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmgraph.compiler.facts import Facts
from lmgraph.compiler.flows import updated
from lmgraph.compiler.imports import Closure
from lmgraph.compiler.lints_body import lint_body, lint_condition, lint_expression
from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.graph import DEFAULT_LM
from lmgraph.source.diagnostic import Fix
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import walk


def lint(
    closure: Closure, facts: Facts, reporter: Reporter, used_in: Callable[[tree.Declaration], Uses] | None = None
) -> None:
    """Every warning about the root file. ``used_in`` may know what a declaration uses from before."""
    if reporter.failed:
        return
    file = closure.root.file
    uses = [(used_in or uses_of)(one) for one in file.declarations]
    for one, used in zip(file.declarations, uses, strict=True):
        match one:
            case tree.Flow(body=body, signature=signature):
                _lint_inputs(one, used.in_body, reporter)
                _lint_bindings(body, used.in_body, facts, reporter, in_flow=True)
                lint_body(body, frozenset(node.name.text for node in signature.inputs), facts, reporter)
            case tree.Test(body=body):
                _lint_bindings(body, used.in_body, facts, reporter)
                lint_body(body, frozenset(), facts, reporter)
            case tree.Metric(body=body, signature=signature) if not isinstance(body, tree.PythonReference):
                lint_expression(body, frozenset(node.name.text for node in signature.inputs), facts, reporter)
            case tree.Module(checks=checks):
                for check in checks:
                    lint_condition(check, facts, reporter)
            case _:
                pass
    if any(isinstance(one, tree.Flow) for one in file.declarations):
        _lint_modules(file, uses, reporter)
        _lint_flows(file, uses, reporter)
    _lint_lms(file, uses, reporter)
    _lint_imports(file, uses, reporter)


@dataclass(frozen=True, slots=True)
class Uses:
    """Names that one declaration uses."""

    declaration: tree.Declaration
    in_body: frozenset[str]
    """Those that the expressions of a flow's or test's body read or call."""
    read: frozenset[str]
    """Those that any expression reads or calls."""
    meant: frozenset[str]
    """Those that stand where no expression does: in types, as the base of an instance, as what a stub stands for."""


def uses_of(declaration: tree.Declaration) -> Uses:
    match declaration:
        case tree.Flow(body=body, signature=signature):
            parts: tuple[object, object] = (body, signature)
        case tree.Test(body=body):
            parts = (body, ())
        case _:
            parts = ((), declaration)
    (in_body, meant), (elsewhere, also_meant) = map(_names, parts)
    return Uses(declaration, in_body, in_body | elsewhere, meant | also_meant)


def _names(node: object) -> tuple[frozenset[str], frozenset[str]]:
    """Names that expressions inside read or call, and names that stand where no expression does."""
    read, meant = set[str](), set[str]()
    for one in walk(node):
        match one:
            case tree.Reference(name=name):
                read.add(name)
            case tree.NamedType(path=(first, *_)):
                meant.add(first.text)
            case tree.Instance(base=base) | tree.Stub(name=base) | tree.Moved(new=base):
                meant.add(base.text)
    return frozenset(read), frozenset(meant)


def _lint_inputs(flow: tree.Flow, used: frozenset[str], reporter: Reporter) -> None:
    for node in flow.signature.inputs:
        if node.name.text not in used:
            reporter.warning(
                "W0002",
                node.name.span,
                f"flow `{flow.name.text}` never reads its input `{node.name.text}`",
                help="delete it, or give it to a module",
            )


def _lint_bindings(
    body: Sequence[tree.Statement], used: frozenset[str], facts: Facts, reporter: Reporter, *, in_flow: bool = False
) -> None:
    """``in_flow``: what a test computes and does not use is run all the same, to see that it does not fail."""
    changed = set(updated(body))
    for statement in body:
        match statement:
            case tree.Bind(name=name, value=value) | tree.Release(name=name, value=value) if (
                name.text not in used and not _acts(value, facts)
            ):
                reporter.warning(
                    "W0001",
                    name.span,
                    f"`{name.text}` is bound and never used",
                    help=f"{'' if in_flow else 'delete the line, '}or use the value in what the flow returns",
                    fix=_without(statement) if in_flow else None,
                )
            case tree.Var(name=name, value=value) if name.text not in used:
                kept = not in_flow or name.text in changed or _acts(value, facts)
                reporter.warning(
                    "W0001", name.span, f"the variable `{name.text}` is never read",
                    help=f"{'delete it, ' if kept else ''}or use its value in what the flow returns",
                    fix=None if kept else _without(statement),
                )  # fmt: skip
            case tree.Var(name=name) if name.text not in changed:
                reporter.warning(
                    "W0010", name.span, f"the variable `{name.text}` is never set again",
                    fix=Fix(Span(name.span.file, statement.span.start, name.span.start), "", "bind it once", safe=True),
                )  # fmt: skip
            case tree.If(then=then, otherwise=otherwise):
                _lint_bindings(then, used, facts, reporter, in_flow=in_flow)
                _lint_bindings(otherwise or (), used, facts, reporter, in_flow=in_flow)
            case tree.Repeat(body=inner):
                _lint_bindings(inner, used, facts, reporter, in_flow=in_flow)
            case _:
                pass


def _without(node: tree.Statement | tree.Import) -> Fix:
    return Fix(node.span, "", "delete it", safe=True)


def _acts(value: tree.Expression, facts: Facts) -> bool:
    """Whether something inside matters besides its value: it may act, or fail the run on purpose."""
    calls = (one for one in walk(value) if isinstance(one, tree.CallExpression))
    return any(facts.may_act(one) or facts.checks(one) for one in calls)


def _lint_imports(file: tree.File, uses: Sequence[Uses], reporter: Reporter) -> None:
    used = {name for one in uses for name in one.read | one.meant}
    for declaration in file.declarations:
        if isinstance(declaration, tree.Import):
            for place, item in enumerate(declaration.names):
                name = (item.alias or item.name).text
                if name not in used:
                    fix = _without_name(declaration, place)
                    reporter.warning("W0011", item.span, f"`{name}` is imported and never used", fix=fix)


def _without_name(node: tree.Import, place: int) -> Fix:
    """Deletes one name of the import and the comma beside it; the whole import where it has no other."""
    if len(node.names) == 1:
        return _without(node)
    file, span = node.span.file, node.names[place].span
    if place == 0:
        span = Span(file, span.start, node.names[1].span.start)
    else:
        span = Span(file, node.names[place - 1].span.end, span.end)
    return Fix(span, "", "delete it", safe=True)


def _lint_flows(file: tree.File, uses: Sequence[Uses], reporter: Reporter) -> None:
    """Flows that nobody uses, where objectives say which ones the program is about."""
    if not any(isinstance(one, tree.Objective) for one in file.declarations):
        return
    times = Counter(name for one in uses for name in one.read | one.meant)
    for declaration, own in zip(file.declarations, uses, strict=True):
        if isinstance(declaration, tree.Flow):
            name = declaration.name.text
            if times[name] == (name in own.read | own.meant):
                reporter.warning(
                    "W0015",
                    declaration.name.span,
                    f"no objective, flow, metric or test uses the flow `{declaration.name.text}`",
                    help="call it, test it, or delete it",
                )


def _lint_modules(file: tree.File, uses: Sequence[Uses], reporter: Reporter) -> None:
    callers = [one for one in uses if not isinstance(one.declaration, tree.Test | tree.Objective)]
    used = {name for one in callers for name in one.read}
    used |= {one.base.text for one in file.declarations if isinstance(one, tree.Instance)}
    for declaration in file.declarations:
        if isinstance(declaration, tree.Module | tree.Instance) and declaration.name.text not in used:
            reporter.warning(
                "W0003",
                declaration.name.span,
                f"no flow calls module `{declaration.name.text}`",
                help="call it in a flow, or delete it",
            )


def _lint_lms(file: tree.File, uses: Sequence[Uses], reporter: Reporter) -> None:
    used = {name for one in uses if not isinstance(one.declaration, tree.Lm) for name in one.read}
    for declaration in file.declarations:
        if isinstance(declaration, tree.Lm) and declaration.name.text not in used | {DEFAULT_LM}:
            reporter.warning(
                "W0004",
                declaration.name.span,
                f"no module uses the lm `{declaration.name.text}`",
                help=f"write `lm: {declaration.name.text}` in a module, or delete it",
            )
