"""Reports private values that reach what may not see them: where they leak, where they became private, and their way.

graph/labels_program.py finds them in the graph; this module knows the program's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.written_types import is_private
from lmgraph.graph.expression_text import short_name
from lmgraph.graph.graph import Graph, TestSpec
from lmgraph.graph.labels import Origin, Taint
from lmgraph.graph.labels_found import Leak
from lmgraph.graph.labels_program import information_flow
from lmgraph.graph.nodes import ValueId
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

MOST_STEPS = 5
"""Labels that show a value's way; the first and the last ones of a longer one."""


def report_leaks(
    graph: Graph,
    tests: Sequence[TestSpec],
    declarations: Declarations,
    spans: Mapping[str, Span],
    reporter: Reporter,
) -> None:
    """An error for each place where a private value leaks."""
    leaks = information_flow(graph, tests).leaks
    if leaks:
        reports = _Reports(graph, declarations, spans, reporter)
        for leak in leaks:
            reports.report(leak)


def refuse_lost_labels(declarations: Declarations, reporter: Reporter) -> None:
    """`private` before the rows of a dataset or the values of a metric would say nothing: their record's fields do."""
    found: list[tuple[tree.TypeNode | None, str]] = []
    for dataset in declarations.names.every(tree.Dataset):
        found.append((dataset.type, "the rows of a dataset are labelled by their record"))
    for metric in declarations.names.every(tree.Metric):
        found += [
            (node.type, "what a metric reads is labelled where it is declared") for node in metric.signature.inputs
        ]
        found.append((metric.signature.result, "a score is seen by whoever optimizes"))
    for node, message in found:
        if node is not None and is_private(node):
            reporter.error(
                "E0707", node.span, f"{message}", help="write `private` before the types of the record's fields"
            )


class _Reports:
    def __init__(self, graph: Graph, declarations: Declarations, spans: Mapping[str, Span], reporter: Reporter) -> None:
        self._graph = graph
        self._declarations = declarations
        self._spans = spans
        self._reporter = reporter
        self._flows = {flow.name for flow in graph.flows}
        self._inputs = {
            parameter.id: (parameter.field.name, flow.name)
            for flow in graph.flows
            for parameter in flow.body.parameters
        }

    def report(self, leak: Leak) -> None:
        target = _declared_name(self._graph, leak.target)
        if leak.field is None:
            self._control(leak, target)
            return
        match leak.kind:
            case "lm":
                self._reporter.error(
                    "E0701",
                    self._argument(leak),
                    f"`{leak.field}` of `{target}` gets a private value, and the lm {self._lm(leak)} is public",
                    secondary=[*self._way(leak.taint, self._argument(leak)), *self._public(leak)],
                    help=self._next_step(leak),
                )
            case "judge":
                self._reporter.error(
                    "E0705",
                    self._argument(leak),
                    f"`{leak.field}` of the judge `{target}` gets a private value, and the lm {self._lm(leak)} is"
                    " public",
                    secondary=[*self._way(leak.taint, self._argument(leak)), *self._public(leak)],
                    help="name an lm with `clearance: private` as the `judge` of every objective that uses the metric",
                )
            case "extern":
                kind = self._graph.extern(target).kind
                self._reporter.error(
                    "E0702",
                    self._argument(leak),
                    f"`{leak.field}` of the {kind} `{target}` gets a private value, and its clearance is public",
                    secondary=self._way(leak.taint, self._argument(leak)),
                    help=f"write `clearance: private` in `{target}` if it may see private values, or release what it"
                    ' needs first: `release safe = … because "…"`',
                )
            case "output":
                place = self._field_span("outputs", target, leak.field) or self._call(leak)
                self._reporter.error(
                    "E0704",
                    place,
                    f"`{leak.field}` is private, and the lm {self._lm(leak)} that writes it is public",
                    secondary=self._public(leak),
                    notes=["retries and demos show a model again what it wrote"],
                    help=f"give `{target}` an lm with `clearance: private`, or leave `private` out: what a public model"
                    " writes is known outside",
                )
            case "demos":
                self._reporter.error(
                    "E0706",
                    self._spans[leak.node],
                    f"`{leak.field}` of the rows is private and may become a demo of `{target}`, whose lm"
                    f" {self._lm(leak)} is public",
                    secondary=[*self._way(leak.taint, self._spans[leak.node]), *self._public(leak)],
                    help=f"say what may change, without demos, as in `optimize: [{target}.instruction]`, or give"
                    f" `{target}` an lm with `clearance: private`",
                )

    def _control(self, leak: Leak, target: str) -> None:
        place = self._call(leak)
        seer = "its clearance" if leak.lm is None else f"the lm {self._lm(leak)}"
        self._reporter.error(
            "E0703",
            place,
            f"whether `{target}` is called here follows from something private, and {seer} is public",
            secondary=[*self._way(leak.taint, place), *self._public(leak)],
            help='call it in any case and choose afterwards, or release what decides: `release go = … because "…"`',
        )

    def _next_step(self, leak: Leak) -> str:
        release = 'release what it may see: `release safe = … because "…"`'
        if leak.lm in self._declarations.names.declared:
            return f"write `clearance: private` in `{leak.lm}` if that model may see private values, or {release}"
        return f"name an lm with `clearance: private` in `{_declared_name(self._graph, leak.target)}`, or {release}"

    # -- places ------------------------------------------------------------------------------------------------------

    def _call(self, leak: Leak) -> Span:
        return self._spans[leak.node]

    def _argument(self, leak: Leak) -> Span:
        """The argument, where it is written out; calls that a strategy makes have those of the module's call."""
        for call in (leak.node, leak.node.partition(".sample/")[0], leak.node.partition(".steps/")[0]):
            found = self._spans.get(f"{call}({leak.field})")
            if found is not None:
                return found
        return self._call(leak)

    def _lm(self, leak: Leak) -> str:
        return f"`{leak.lm}`"

    def _public(self, leak: Leak) -> list[Label]:
        if leak.lm is None or leak.lm not in self._declarations.names.declared:
            return []
        return [Label(self._spans[leak.lm], f"`{leak.lm}` has no `clearance: private`")]

    def _way(self, taint: Taint, leak: Span) -> list[Label]:
        """Where the value became private, and what it went through until it leaked."""
        steps = [(place, text) for step in taint.way() if (place := self._place(step)) for text in [self._told(step)]]
        shown: list[Label] = []
        for place, text in steps:
            if place != leak and all(place != one.span for one in shown):
                shown.append(Label(place, text))
        if len(shown) > MOST_STEPS:
            shown[MOST_STEPS - 2 : -2] = []
        return shown

    def _place(self, step: Taint) -> Span | None:
        if step.how == "declared":
            return self._origin(step.origin)
        return self._spans.get(step.place) or self._spans.get(step.place.removesuffix("?"))

    def _told(self, step: Taint) -> str:
        name = short_name(ValueId(step.place.removesuffix("?")))
        match step.how:
            case "declared":
                return _declared_text(step.origin)
            case "rows":
                return f"`{name}` runs the flow on such rows"
            case "decides" if step.place in self._flows:
                return f"it decides whether `{name}` is called"
            case "decides":
                return "it decides what happens here"
            case "value" if step.place.endswith(")"):
                return "it is given to a flow here"
            case "value" if ValueId(step.place) in self._inputs:
                given, flow = self._inputs[ValueId(step.place)]
                return f"it comes in as `{given}` of `{flow}`"
            case "value":
                return f"`{name}` is made from it"

    def _origin(self, origin: Origin) -> Span | None:
        match origin.kind:
            case "input":
                return self._field_span("inputs", origin.owner, origin.name)
            case "output":
                return self._field_span("outputs", origin.owner, origin.name)
            case "field":
                return self._field_span("fields", origin.owner, origin.name)
            case _:
                return self._spans.get(origin.owner.removesuffix(".private"))

    def _field_span(self, part: str, owner: str, name: str) -> Span | None:
        declaration = self._declarations.names.declared.get(owner)
        if isinstance(declaration, tree.Instance):
            declaration = self._declarations.base_of(declaration)
        nodes: Sequence[tree.FieldNode] = ()
        if isinstance(declaration, tree.Record):
            nodes = declaration.fields
        elif isinstance(declaration, tree.Module | tree.Flow | tree.Extern):
            signature = declaration.signature
            nodes = signature.inputs if part == "inputs" else signature.outputs
        return next((node.name.span for node in nodes if node.name.text == name), None)


def _declared_name(graph: Graph, name: str) -> str:
    """The module as the author declared it, where a strategy made one of it."""
    module = next((one for one in graph.modules if one.name == name), None)
    return module.derived_from if module is not None and module.derived_from is not None else name


def _declared_text(origin: Origin) -> str:
    match origin.kind:
        case "result":
            return f"what `{origin.owner}` gives back is private"
        case "binding":
            return f"`{short_name(ValueId(origin.owner.removesuffix('.private')))}` is declared private"
        case _:
            return f"`{origin.name}` of `{origin.owner}` is private"
