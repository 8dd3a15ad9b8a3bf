"""Counts that an objective names, as in `optimize: [Search.hop.bound, Search.found.k]`.

Finds in the text of a flow what graph/counts.py finds in its graph, so that a wrong name is reported in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lmgraph.compiler.calls import argument_name
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.reporter import Reporter, some
from lmgraph.graph.counts import BOUND
from lmgraph.graph.types import INT
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import walk


@dataclass(frozen=True, slots=True)
class _Written:
    """A count in the text of a flow."""

    name: str
    """`hop.bound`"""
    span: Span


def read_count(
    flow: tree.Reference,
    place: tree.Identifier,
    what: tree.Identifier,
    declarations: Declarations,
    facts: Facts,
    reporter: Reporter,
) -> str | None:
    """The name that the graph knows the count `flow.place.what` by, or None after reporting what is wrong with it."""
    found = declarations.names.find(flow.name, flow.span, tree.Flow)
    if found is None:
        return None
    name = f"{place.text}.{what.text}"
    written = list(_counts(found, facts))
    meant = [one.span for one in written if one.name == name]
    if len(meant) == 1:
        return f"{found.name.text}.{name}"
    if meant:
        first, *others = meant
        reporter.error(
            "E0318",
            flow.span.to(what.span),
            f"`{name}` could be {len(meant)} things in `{found.name.text}`",
            secondary=[Label(first, "this one"), *(Label(other, "or this one") for other in others[:2])],
            help="give one of them a name of its own: bind the call to it, or rename the loop",
        )
    elif not _has_reported_calls(found, facts):
        _report_unknown(name, place.span.to(what.span), found, written, reporter)
    return None


def _has_reported_calls(flow: tree.Flow, facts: Facts) -> bool:
    calls = (node for node in walk(flow.body) if isinstance(node, tree.CallExpression))
    return any(facts.known_callee(call) is None for call in calls)


def _report_unknown(name: str, span: Span, flow: tree.Flow, written: list[_Written], reporter: Reporter) -> None:
    known = dict.fromkeys(one.name for one in written)
    reporter.unknown(
        "E0306",
        span,
        f"flow `{flow.name.text}` has no count `{name}`",
        name,
        known,
        otherwise=f"its counts are {some(known)}"
        if known
        else "it has none: name a loop (`repeat max 3 as hop`), or write the number of a retriever at its call",
    )


def _counts(flow: tree.Flow, facts: Facts) -> Iterator[_Written]:
    bound_to: dict[int, str] = {}
    for node in walk(flow.body):
        match node:
            case tree.Repeat(index=tree.Identifier(text=word, span=span)):
                yield _Written(f"{word}.{BOUND}", span)
            case (
                tree.Bind(name=name, value=value)
                | tree.Var(name=name, value=value)
                | tree.Update(name=name, value=value)
            ):
                bound_to[id(value)] = name.text
            case tree.CallExpression(span=span):
                callee = facts.known_callee(node)
                if isinstance(callee, SignatureTypes) and callee.kind == "retriever":
                    place = bound_to.get(id(node), callee.name)
                    yield from (_Written(f"{place}.{one}", span) for one in _numbers(node, callee))
            case _:
                pass


def _numbers(call: tree.CallExpression, callee: SignatureTypes) -> Iterator[str]:
    """Inputs that are given a positive whole number, at the call or by default."""
    given = {argument_name(argument): argument.value for argument in call.arguments}
    for one in callee.inputs:
        value = given.get(one.name)
        number = value.value if isinstance(value, tree.Constant) else one.default if value is None else None
        if one.type == INT and type(number) is int and number >= 1:
            yield one.name
