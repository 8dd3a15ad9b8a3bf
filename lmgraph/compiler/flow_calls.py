"""Which flows call which: a flow that would call itself is refused, and who may act is found out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.reporter import Reporter, circle_of
from lmgraph.source.diagnostic import Label
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import walk

Calls: TypeAlias = Mapping[str, Sequence[tuple[tree.CallExpression, SignatureTypes]]]
"""The calls that each flow makes, by the flow's name."""


def calls_in(node: object, facts: Facts) -> Iterator[tuple[tree.CallExpression, SignatureTypes]]:
    """The calls inside of what has a signature, in source order."""
    for one in walk(node):
        if isinstance(one, tree.CallExpression):
            callee = facts.known_callee(one)
            if isinstance(callee, SignatureTypes):
                yield one, callee


def refuse_recursion(flows: Sequence[tree.Flow], made: Calls, reporter: Reporter) -> None:
    """Reports flows that call themselves, directly or through others: bounds would not exist."""
    calls = {
        name: [(callee.name, call.callee.span) for call, callee in found if callee.kind == "flow"]
        for name, found in made.items()
    }
    declared = {flow.name.text: flow.name.span for flow in flows}
    done: set[str] = set()
    for flow in flows:
        # The chain of calls that leads to the flow looked at, with what each of its flows still has to call.
        chain = [flow.name.text]
        waiting = [iter(calls[flow.name.text])] if flow.name.text not in done else []
        while waiting:
            name, place = next(waiting[-1], (None, None))
            if name is None or place is None:
                waiting.pop()
                done.add(chain.pop())
            elif name in chain:
                circle = circle_of([*chain[chain.index(name) :], name])
                reporter.error(
                    "E0205",
                    place,
                    f"`{name}` would call itself"
                    if name == chain[-1]
                    else f"these flows would call each other: {circle}",
                    secondary=[Label(declared[name], f"`{name}` is declared here")],
                    help="use a loop with a bound: `repeat max 4 { … }`",
                )
            elif name not in done and name in calls:
                chain.append(name)
                waiting.append(iter(calls[name]))


def note_effects(flows: Sequence[tree.Flow], made: Calls, facts: Facts) -> None:
    """Leaves in ``facts`` which flows may act, because they call a tool or a module with tools, and which of them
    assert or check something; directly or through others."""
    callers: dict[str, list[str]] = {}
    tools: set[str] = set()
    for flow in flows:
        for _, callee in made[flow.name.text]:
            callers.setdefault(callee.name, []).append(flow.name.text)
            if callee.kind == "tool":
                tools.add(callee.name)
    checking = {flow.name.text for flow in flows if _checks(flow.body)}
    facts.acting |= _reached(facts.acting | tools, callers)
    facts.checking |= checking | _reached(facts.checking | checking, callers)
    facts.flows_known = True


def _reached(names: set[str], callers: Mapping[str, Sequence[str]]) -> set[str]:
    """The flows that call one of these, directly or through others."""
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        new = [name for name in callers.get(waiting.pop(), ()) if name not in found]
        found.update(new)
        waiting += new
    return found


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
