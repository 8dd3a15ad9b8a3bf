"""`moved Old -> New`: which module an old name leads to in the end, through names that moved on themselves."""

from __future__ import annotations

from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.imports import Closure
from lmgraph.compiler.reporter import Reporter, circle_of
from lmgraph.graph.graph import Moved
from lmgraph.source.diagnostic import Label
from lmgraph.syntax import tree


def read_moved(closure: Closure, declarations: Declarations, reporter: Reporter) -> tuple[Moved, ...]:
    """Every old name with its module: of `moved A -> B` and `moved B -> C` both lead to `C`."""
    steps = _steps(closure, declarations, reporter)
    ends: dict[str, tree.Moved | None] = {}
    for old in steps:
        way: dict[str, None] = {}
        name = old
        while name in steps and name not in ends and name not in way:
            way[name] = None
            name = steps[name].new.text
        if name in way:
            names = list(way)
            _report_circle(names[names.index(name) :], steps, reporter)
        end = None if name in way else ends[name] if name in ends else steps[next(reversed(way))]
        ends |= dict.fromkeys(way, end)
    modules = {
        old: declarations.names.find_module(end.new.text, end.new.span) for old, end in ends.items() if end is not None
    }
    return tuple(Moved(old, module.name.text) for old, module in sorted(modules.items()) if module is not None)


def _steps(closure: Closure, declarations: Declarations, reporter: Reporter) -> dict[str, tree.Moved]:
    """The declarations by their old names."""
    found: dict[str, tree.Moved] = {}
    names = declarations.names
    for unit in closure.units.values():
        for node in unit.file.declarations:
            if not isinstance(node, tree.Moved):
                continue
            old = node.old.text
            still = names.get(old, node.old.span) or names.declared.get(old)
            if still is not None:
                reporter.error(
                    "E0202",
                    node.old.span,
                    f"`{old}` is still declared, so nothing moved from it",
                    secondary=[Label(still.name.span, "declared here")],
                    help="delete this line, or the old declaration",
                )
            elif old in found:
                reporter.error(
                    "E0202", node.old.span, f"`{old}` moved twice", secondary=[Label(found[old].old.span, "first here")]
                )
            else:
                found[old] = node
    return found


def _report_circle(names: list[str], steps: dict[str, tree.Moved], reporter: Reporter) -> None:
    reporter.error(
        "E0801",
        steps[names[0]].new.span,
        f"the names move in a circle: {circle_of([*names, names[0]])}",
        secondary=[Label(steps[name].new.span, "and on to this name") for name in names[1:4]],
        help="let the last name be that of a module, or delete one of these lines",
    )
