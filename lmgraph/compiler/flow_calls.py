"""Which flows call which: a flow that would call itself is refused, and who may act is found out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.reporter import Reporter
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import walk


def calls_in(node: object, facts: Facts) -> Iterator[tuple[tree.CallExpression, SignatureTypes]]:
    """The calls inside of what has a signature, in source order."""
    for one in walk(node):
        if isinstance(one, tree.CallExpression):
            callee = facts.known_callee(one)
            if isinstance(callee, SignatureTypes):
                yield one, callee


def refuse_recursion(flows: Sequence[tree.Flow], facts: Facts, reporter: Reporter) -> None:
    """Reports flows that call themselves, directly or through others: bounds would not exist."""
    calls = {
        flow.name.text: [
            (callee.name, call.callee.span) for call, callee in calls_in(flow.body, facts) if callee.kind == "flow"
        ]
        for flow in flows
    }
    declared = {flow.name.text: flow.name.span for flow in flows}
    done: set[str] = set()

    def visit(name: str, chain: tuple[str, ...], place: Span) -> None:
        if name in chain:
            circle = " → ".join(f"`{one}`" for one in (*chain[chain.index(name) :], name))
            reporter.error(
                "E0205",
                place,
                f"`{name}` would call itself" if name == chain[-1] else f"these flows would call each other: {circle}",
                secondary=[Label(declared[name], f"`{name}` is declared here")],
                help="use a loop with a bound: `repeat max 4 { … }`",
            )
            return
        if name in done or name not in calls:
            return
        for callee, span in calls[name]:
            visit(callee, (*chain, name), span)
        done.add(name)

    for flow in flows:
        visit(flow.name.text, (), flow.name.span)


def note_effects(flows: Sequence[tree.Flow], facts: Facts) -> None:
    """Leaves in ``facts`` which flows may act, because they call a tool or a module with tools, and which of them
    assert or check something; directly or through others."""
    called = {flow.name.text: [callee for _, callee in calls_in(flow.body, facts)] for flow in flows}
    acting = {name for name, callees in called.items() if any(callee.kind == "tool" for callee in callees)}
    checking = {flow.name.text for flow in flows if _checks(flow.body)}
    for found, first in ((facts.acting, acting), (facts.checking, checking)):
        found |= first
        changed = True
        while changed:
            new = {name for name, callees in called.items() if any(callee.name in found for callee in callees)} - found
            found |= new
            changed = bool(new)
    facts.flows_known = True


def _checks(body: Sequence[tree.Statement]) -> bool:
    for statement in body:
        match statement:
            case tree.Assert() | tree.Check():
                return True
            case tree.If(then=then, otherwise=otherwise) if _checks((*then, *(otherwise or ()))):
                return True
            case tree.Repeat(body=inner) if _checks(inner):
                return True
    return False
