"""What `lmgraph compile --explain` prints: releases, who sees private values, passes, and what a run takes at most."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from lmgraph.cli.explained_passes import passes_text, prompts_text
from lmgraph.cli.plan import FURTHER_TRY, figures_text
from lmgraph.compiler.bounds import ProgramBounds
from lmgraph.graph.expression_text import short_name
from lmgraph.graph.labels_program import InformationFlow, information_flow
from lmgraph.graph.nodes import ValueId
from lmgraph.passes import optimized

if TYPE_CHECKING:
    from lmgraph.compiler.compile import Compilation
    from lmgraph.graph.graph import Graph
    from lmgraph.source.text import Source, Span

EVERYWHERE = (
    "  a run that fails on private values may make fewer calls than one that completes",
    "  what is released is not looked into: a metric can measure what goes out",
)
"""Channels of every program that has private values."""


def explained(compilation: Compilation, passes_off: Collection[str] = ()) -> str:
    """Everything that compiling found out about a program without errors.

    Information flow is that of the program as it is written, bounds are those of what runs.
    """
    graph = compilation.require()
    places = _Places(compilation.spans, compilation.sources)
    lines = [*_information_flow(graph, information_flow(graph), places), *passes_text(graph, passes_off)]
    return "\n".join([*lines, *prompts_text(graph), *_bounds(optimized(graph, passes_off))]) + "\n"


def _bounds(graph: Graph) -> Iterator[str]:
    bounds = ProgramBounds(graph)
    yield "at most"
    for flow in graph.flows:
        yield f"  a run of {flow.name}: {figures_text(bounds.flow(flow.name), flow.name)}"
    for metric in graph.metrics:
        if graph.judges_of(metric.name):
            yield f"  a score of {metric.name}: {figures_text(bounds.metric(metric.name), None)}"
    if any(module.retries == 0 for module in graph.modules):
        yield f"  {FURTHER_TRY}"


class _Places:
    def __init__(self, spans: Mapping[str, Span], sources: Mapping[str, Source]) -> None:
        self._spans = spans
        self._sources = sources

    def line(self, id: str) -> str:
        """ "program.lmg:12", where it is known."""
        span = self._spans.get(id)
        source = self._sources.get(span.file) if span is not None else None
        return f"{span.file}:{source.line_column(span.start)[0]}" if span is not None and source is not None else id

    def text(self, id: str) -> str:
        """What stands there, on one line."""
        span = self._spans.get(id)
        source = self._sources.get(span.file) if span is not None else None
        return " ".join(source.text[span.start : span.end].split()) if span is not None and source is not None else id


def _information_flow(graph: Graph, flow: InformationFlow, places: _Places) -> Iterator[str]:
    yield "information flow"
    if not flow.given and not flow.channels and not flow.releases:
        yield "  nothing is private"
        return
    yield "  releases" if flow.releases else "  no release"
    for node, taint in flow.releases:
        origin = taint.origin if taint is not None else None
        yield f"    {places.line(node.id)}: {places.text(node.id)}"
        yield (
            f"      made of the private {_origin(origin.owner, origin.name)}" if origin else "      nothing is private"
        )
    yield "  given private values" if flow.given else "  nothing is given private values"
    for given in flow.given:
        lm = f"lm {given.lm}, " if given.lm else ""
        seer = f"{given.kind} {given.name}" + ("" if given.kind == "fn" else f" ({lm}clearance private)")
        trusted = "; pure, and trusted to be" if given.kind == "fn" else ""
        yield f"    {seer}: {', '.join(given.fields)}{trusted}"
    yield "accepted channels"
    yield from EVERYWHERE
    for channel in flow.channels:
        knobs = ", ".join(channel.knobs)
        yield f"  objective {channel.objective}: " + (
            f"{knobs} of {channel.place} are learned from private rows, and its outputs may be public"
            if channel.seer is None
            else f"private scores choose {knobs} of {channel.place}, which the public {channel.seer} is shown"
        )


def _origin(owner: str, name: str) -> str:
    return f"{owner}.{name}" if name else short_name(ValueId(owner.removesuffix(".private")))
