"""What compiling a program found out that compiling its next version can use again: trees, and what flows mean.

A flow is checked and lowered anew where its text changed, or that of something it names, or of what that names, and so
on; of another flow only the signature counts. What a name means is looked up each time. Of a flow about which something
was reported nothing is kept, so that everything reported is found anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.flows import check_flow
from lmgraph.compiler.lints import Uses, uses_of
from lmgraph.compiler.lower_flow import FlowLowering
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.resolve import Named
from lmgraph.graph.graph import FlowSpec, Graph, TestSpec
from lmgraph.graph.types import Type
from lmgraph.graph.verify import verify, verify_tests
from lmgraph.source.text import Source, Span
from lmgraph.syntax import tree
from lmgraph.syntax.parser import ParseResult, parse
from lmgraph.syntax.reparse import Reparser

_NAMES = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\[^\n])*"|#[^\n]*|([A-Za-z_]\w*)', re.DOTALL)

Meaning: TypeAlias = dict[tuple[str, str], tuple[str, str]]
"""(file, name) -> the declaration that it means there, and its text: all that a flow's meaning follows from."""


class Steps:
    """The steps of compiling for which something may be known of an earlier version. Here nothing is."""

    def parse(self, source: Source) -> ParseResult:
        return parse(source)

    def check_flow(self, flow: tree.Flow, declarations: Declarations, reporter: Reporter, facts: Facts) -> None:
        check_flow(flow, declarations, reporter, facts)

    def lower_flow(self, flow: tree.Flow, signature: SignatureTypes, lowering: FlowLowering) -> FlowSpec:
        return lowering.flow(flow, signature)

    def verify(self, graph: Graph, tests: Sequence[TestSpec]) -> None:
        verify(graph)
        if tests:
            verify_tests(graph, tests)

    def used_in(self, declaration: tree.Declaration) -> Uses:
        return uses_of(declaration)

    def checked(self, declarations: Iterable[tree.Declaration]) -> None:
        """Told when all of the program was checked."""


@dataclass(slots=True)
class _Flow:
    """A flow about which nothing was reported."""

    tree: tree.Flow
    meaning: Meaning
    facts: Facts
    lowered: FlowSpec | None = None
    spans: dict[str, Span] = field(default_factory=dict)
    """Places that lowering noted, where the flow started at ``start``."""
    start: int = 0


class Kept(Steps):
    """One program, version after version."""

    def __init__(self) -> None:
        self._parsers: dict[str, Reparser] = {}
        self._flows: dict[int, _Flow] = {}
        self._uses: dict[int, Uses] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._names_before: dict[str, tuple[str, ...]] = {}
        self._read: dict[str, tuple[Type, str]] = {}
        """Enums that come from files, written out."""

    def parse(self, source: Source) -> ParseResult:
        return self._parsers.setdefault(source.name, Reparser()).parse(source)

    def check_flow(self, flow: tree.Flow, declarations: Declarations, reporter: Reporter, facts: Facts) -> None:
        meaning = self._meaning(flow, declarations)
        known = self._flows.pop(id(flow), None)
        if known is None or known.meaning != meaning:
            known = _Flow(flow, meaning, Facts(acting=facts.acting, checking=facts.checking))
            before = reporter.reports
            super().check_flow(flow, declarations, reporter, known.facts)
            clean = reporter.reports == before
        else:
            declarations.signature(flow)
            clean = True
        facts.add(known.facts)
        if clean:
            self._flows[id(flow)] = known

    def lower_flow(self, flow: tree.Flow, signature: SignatureTypes, lowering: FlowLowering) -> FlowSpec:
        known = self._flows.get(id(flow))
        if known is None:
            return super().lower_flow(flow, signature, lowering)
        if known.lowered is None:
            known.start = flow.span.start
            shared, lowering.spans = lowering.spans, known.spans
            known.lowered = super().lower_flow(flow, signature, lowering)
            lowering.spans = shared
        by = flow.span.start - known.start
        for id_, span in known.spans.items():
            lowering.spans[id_] = Span(span.file, span.start + by, span.end + by) if by else span
        return known.lowered

    def verify(self, graph: Graph, tests: Sequence[TestSpec]) -> None:
        """Left out: it finds bugs of lowering, and compiling the same program from nothing looks for those."""

    def used_in(self, declaration: tree.Declaration) -> Uses:
        if id(declaration) not in self._uses:
            self._uses[id(declaration)] = super().used_in(declaration)
        return self._uses[id(declaration)]

    def checked(self, declarations: Iterable[tree.Declaration]) -> None:
        """Forgets what belongs to declarations that are gone: their identities may be given to others."""
        there = {id(one) for one in declarations}
        self._flows = {one: known for one, known in self._flows.items() if one in there}
        self._uses = {one: uses for one, uses in self._uses.items() if one in there}
        self._names_before, self._names = self._names, {}

    # -- what a flow's meaning follows from --------------------------------------------------------------------------

    def _meaning(self, flow: tree.Flow, declarations: Declarations) -> Meaning:
        found: Meaning = {}
        waiting: list[tuple[str, Span]] = [(declarations.text(flow.span), flow.span)]
        while waiting:
            text, at = waiting.pop()
            for name in self._names_in(text):
                place = at.file, name
                if place in found:
                    continue
                declaration = declarations.names.get(name, at)
                if declaration is not None:
                    seen = self._seen_from_outside(declaration, declarations)
                    found[place] = declaration.name.text, seen
                    waiting.append((seen, declaration.span))
                elif declarations.names.is_silent(name, at):
                    found[place] = "", ""
        return found

    def _seen_from_outside(self, declaration: Named, declarations: Declarations) -> str:
        """The text that says what the declaration means to others, with what it reads from a file."""
        if isinstance(declaration, tree.Flow):
            return f"flow {declaration.name.text}{declarations.text(declaration.signature.span)}"
        text = declarations.text(declaration.span)
        if isinstance(declaration, tree.Enum) and declaration.source is not None:
            read = declarations.enum(declaration)
            if self._read.get(declaration.name.text, (None, ""))[0] is not read:
                self._read[declaration.name.text] = read, f"{text} # {read!r}"
            return self._read[declaration.name.text][1]
        return text

    def _names_in(self, text: str) -> tuple[str, ...]:
        """Every name that stands in a part of a program, besides texts and comments."""
        found = self._names.get(text) or self._names_before.get(text)
        if found is None:
            found = tuple(dict.fromkeys(one[1] for one in _NAMES.finditer(text) if one[1]))
        self._names[text] = found
        return found
