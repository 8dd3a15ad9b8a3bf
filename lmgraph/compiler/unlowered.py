"""What the language has and this compiler does not lower yet: one E0001 for each construct of a file.

The table below is the whole list of such constructs that syntax alone can tell. Calls in places where they cannot run
yet, and flows that call flows, need names: expressions.py and calls.py report those with the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from lmgraph.compiler.reporter import Reporter
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

MOST_PLACES = 3
"""Places beside the first that one diagnostic points at."""

_INSTEAD: dict[str, str] = {
    "import": "declare what the file needs in the file itself",
    "tool": "let a module do this step, or do it in Python before or after the run",
    "retriever": "give the flow what was found as an input, such as `passages: list[str]`",
    "fn": "write the step as an expression, or do it in Python before or after the run",
    "module instance": "declare a second module with the same signature",
    "var": "bind each value once, as in `x = …`",
    "if": "use an expression: `x = if c then a else b`",
    "repeat": "write the steps out one after the other, each with a name of its own",
    "assert": "let the metric score this condition",
    "check": "let the metric score this condition",
    "catch": "leave the fallback out; a failed call fails the run with its cause",
    "release": "bind the value with `x = …`; nothing here is private yet",
    "private": "leave `private` out only where every model may see the value",
    "union": "use one type, or a record with an optional field for each case",
    "map": "use `list[R]` of a record R with a key field and a value field",
    "where": "say the constraint in the description and score it in a metric",
    "react": "use `strategy: predict` or `cot`",
    "best_of": "use `strategy: predict` or `cot`",
    "judge": "write the metric as an expression or in Python",
}


def report_unlowered(file: tree.File, reporter: Reporter) -> None:
    """Reports each construct once, at its first place, with the places of a few more."""
    places: dict[str, list[Span]] = {}
    for declaration in file.declarations:
        for construct, span in _constructs(declaration):
            places.setdefault(construct, []).append(span)
    for construct, spans in places.items():
        first, *more = sorted(spans, key=lambda span: span.start)
        reporter.error(
            "E0001",
            first,
            f"{_named(construct)} is not compiled yet",
            secondary=[Label(span, "also here") for span in more[:MOST_PLACES]],
            notes=[f"{len(spans)} places in this file"] if len(more) > MOST_PLACES else (),
            help=_INSTEAD[construct],
        )


def _named(construct: str) -> str:
    match construct:
        case "module instance":
            return "a module made from another one"
        case "union":
            return "a union of types"
        case "map":
            return "the type `map`"
        case "react" | "best_of":
            return f"the strategy `{construct}`"
        case _:
            return f"`{construct}`"


def _constructs(node: object) -> Iterator[tuple[str, Span]]:
    """Constructs inside ``node``. What a construct encloses is not looked at: its own place is report enough."""
    match node:
        case tree.Import(path=path):
            yield "import", path.span
        case tree.Extern(kind=kind, name=name):
            yield kind, name.span
        case tree.Instance(name=name):
            yield "module instance", name.span
        case tree.Test() | tree.Moved():
            return
        case tree.Var(name=name) | tree.Update(name=name):
            yield "var", name.span
        case tree.If(condition=condition):
            yield "if", condition.span
        case tree.Repeat(span=span, index=index):
            yield "repeat", _head(span, index)
        case tree.Stop(condition=condition):
            yield "repeat", condition.span
        case tree.Assert(condition=condition):
            yield "assert", condition.span
        case tree.Check(condition=condition):
            yield "check", condition.span
        case tree.Catch(fallback=fallback):
            yield "catch", fallback.span
        case tree.Release(name=name):
            yield "release", name.span
        case tree.PrivateTypeNode(span=span):
            yield "private", span
        case tree.Entry(key=tree.Identifier(text="clearance"), value=tree.Reference(name="private", span=span)):
            yield "private", span
        case tree.UnionTypeNode(options=options, span=span) if not all(
            isinstance(option, tree.LiteralTypeNode) for option in options
        ):
            yield "union", span
        case tree.GenericType(name=tree.Identifier(text="map"), span=span):
            yield "map", span
        case tree.Entry(
            key=tree.Identifier(text="strategy"), value=tree.Reference(name="react" | "best_of" as name, span=span)
        ):
            yield name, span
        case tree.Objective(block=block):
            for entry in block.entries:
                if entry.key.text == "judge":
                    yield "judge", entry.key.span
        case tree.FieldNode(constraint=constraint) if constraint is not None:
            yield "where", constraint.span
            yield from _constructs(node.type)
        case _:
            for child in _children(node):
                yield from _constructs(child)


def _children(node: object) -> Iterator[object]:
    if isinstance(node, tuple):
        yield from node
    elif is_dataclass(node) and not isinstance(node, Span):
        for field in fields(node):
            yield getattr(node, field.name)


def _head(span: Span, index: tree.Identifier | None) -> Span:
    """The first words of a loop: a span over the whole body would say less."""
    if index is not None:
        return Span(span.file, span.start, index.span.end)
    return Span(span.file, span.start, min(span.start + len("repeat"), span.end))
