"""Objectives: what `optimize` improves, on which rows, by which metrics, in which range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, get_args

from lmgraph.compiler.blocks import Settings
from lmgraph.compiler.counts import read_count
from lmgraph.compiler.datasets import check_rows_feed
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import Facts
from lmgraph.compiler.metrics import MetricTypes
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.graph.graph import Knob, ObjectiveSpec
from lmgraph.graph.types import BOOL, RecordType
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

SETTINGS = ("flow", "data", "metric", "weights", "range", "optimize", "judge")
KNOBS: tuple[Knob, ...] = get_args(Knob)

_Named = TypeVar("_Named")


def read_objective(
    declaration: tree.Objective,
    metrics: Mapping[str, MetricTypes | None],
    declarations: Declarations,
    facts: Facts,
    reporter: Reporter,
) -> ObjectiveSpec | None:
    """The objective's spec, or None after reporting why it has none."""
    return _Reader(declaration, metrics, declarations, facts, reporter).read()


class _Reader:
    def __init__(
        self,
        declaration: tree.Objective,
        metrics: Mapping[str, MetricTypes | None],
        declarations: Declarations,
        facts: Facts,
        reporter: Reporter,
    ) -> None:
        self._name = declaration.name.text
        self._span = declaration.name.span
        self._metrics = metrics
        self._declarations = declarations
        self._facts = facts
        self._reporter = reporter
        self._named = 0
        self._settings = Settings(f"objective `{self._name}`", declaration.block.entries, SETTINGS, reporter)

    def read(self) -> ObjectiveSpec | None:
        lacking = [key for key in ("flow", "data", "metric") if key not in self._settings]
        if lacking:
            self._reporter.error(
                "E0318",
                self._span,
                f"objective `{self._name}` does not say its {listed(lacking)}",
                help=f"add {', '.join(f'`{key}: …`' for key in lacking)}",
            )
        flow = self._flow()
        data = self._settings.name("data")
        dataset = self._declarations.names.find(data.name, data.span, tree.Dataset) if data else None
        metrics = self._metric_names()
        knobs, counts = self._what_may_change()
        judge = self._judge()
        weights = self._weights(len(metrics), self._named)
        if data is not None and flow is not None and dataset is not None:
            check_rows_feed(flow, dataset, data.span, self._declarations, self._reporter)
        for node in metrics:
            self._check_metric(node, flow, dataset)
        low, high = self._range(metrics, weights)
        if flow is None or dataset is None or not metrics:
            return None
        named = [self._declarations.names.get(node.name, node.span) for node in metrics]
        names = tuple(one.name.text for one in named if one is not None)
        return ObjectiveSpec(
            self._name,
            flow.name.text,
            dataset.name.text,
            names,
            tuple(weights),
            low,
            high,
            tuple(knobs),
            judge,
            tuple(counts),
        )

    def _judge(self) -> str | None:
        node = self._settings.name("judge")
        found = self._declarations.names.find(node.name, node.span, tree.Lm) if node is not None else None
        return found.name.text if found is not None else None

    def _flow(self) -> tree.Flow | tree.Module | None:
        node = self._settings.name("flow")
        if node is None:
            return None
        found = self._declarations.names.get(node.name, node.span)
        if isinstance(found, tree.Module) and found is self._declarations.names.alone:
            return found
        return self._declarations.names.find(node.name, node.span, tree.Flow)

    def _metric_names(self) -> list[tree.Reference]:
        value = self._settings.expression("metric")
        nodes = value.items if isinstance(value, tree.ListExpression) else (value,) if value is not None else ()
        self._named = len(nodes)
        found: list[tree.Reference] = []
        for node in nodes:
            if not isinstance(node, tree.Reference):
                self._reporter.error("E0312", node.span, "`metric` must be the name of a metric, or a list of names")
            elif self._declarations.names.find(node.name, node.span, tree.Metric) is None:
                continue
            elif node.name in [one.name for one in found]:
                self._reporter.error("E0202", node.span, f"metric `{node.name}` is named twice", help="delete one")
            else:
                found.append(node)
        if isinstance(value, tree.ListExpression) and not value.items:
            self._reporter.error("E0312", value.span, "`metric` must name at least one metric")
        return found

    def _metric(self, node: tree.Reference) -> MetricTypes | None:
        found = self._declarations.names.get(node.name, node.span)
        return self._metrics.get(found.name.text) if found is not None else None

    def _check_metric(
        self, node: tree.Reference, flow: tree.Flow | tree.Module | None, dataset: tree.Dataset | None
    ) -> None:
        found = self._metric(node)
        if found is None:
            return
        metric = self._declarations.names.get(node.name, node.span)
        declared = metric.name.span if metric is not None else node.span
        if flow is not None and flow.name.text != found.flow:
            self._reporter.error(
                "E0318",
                node.span,
                f"metric `{node.name}` scores the flow `{found.flow}`; this objective runs `{flow.name.text}`",
                secondary=[Label(declared, "declared here")],
                help=f"write a metric that reads `{flow.name.text}.out`",
            )
        row = self._declarations.type(dataset.type) if dataset is not None else None
        if dataset is not None and isinstance(row, RecordType) and row.fields and row != found.row:
            self._reporter.error(
                "E0318",
                node.span,
                f"metric `{node.name}` reads rows of `{found.row}`; `{dataset.name.text}` has rows of `{row}`",
                secondary=[Label(declared, "declared here"), Label(dataset.name.span, "the data is declared here")],
            )

    def _weights(self, count: int, named: int) -> list[float]:
        """The weights as written; equal ones that sum to 1 where none are. ``named`` counts metrics that were reported,
        too."""
        equal = [1.0 / count] * count if count else []
        written = self._settings.numbers("weights")
        if written is None or not count:
            return equal
        value = self._settings.value("weights")
        span = value.span if value is not None else self._span
        if len(written) != count:
            if len(written) == named:
                return equal
            self._reporter.error(
                "E0318",
                span,
                f"there are {_counted(len(written), 'weight')} for {_counted(named, 'metric')}",
                help="write one weight for each metric, in the same order",
            )
            return equal
        if not any(written):
            self._reporter.error("E0318", span, "with these weights every score is 0", help="give one metric a weight")
            return equal
        return written

    def _range(self, metrics: list[tree.Reference], weights: list[float]) -> tuple[float, float]:
        """The range as written, else from the metrics: each is taken to lie between 0 and 1."""
        written = self._settings.numbers("range")
        if written is not None:
            value = self._settings.value("range")
            if len(written) == 2 and written[0] < written[1]:
                return written[0], written[1]
            self._reporter.error(
                "E0312",
                value.span if value is not None else self._span,
                "`range` must be the lowest and the highest score, as in `[0, 1]`",
            )
            return 0.0, 1.0
        for node in metrics:
            found = self._metric(node)
            if found is not None and found.result != BOOL and "range" not in self._settings:
                self._assumed(node)
        return sum(min(0.0, weight) for weight in weights), sum(max(0.0, weight) for weight in weights)

    def _assumed(self, node: tree.Reference) -> None:
        self._reporter.warning(
            "W0007",
            node.span,
            f"nothing says in which range `{node.name}` lies; it is taken to be from 0 to 1",
            help="declare the range of the weighted sum, as in `range: [0, 1]`; a score outside stops the run",
        )

    def _what_may_change(self) -> tuple[list[tuple[str, Knob]], list[str]]:
        """What is named of modules, and the counts."""
        knobs: list[tuple[str, Knob]] = []
        counts: list[str] = []
        value = self._settings.expression("optimize")
        if value is None:
            return knobs, counts
        form = "`optimize` must be a list such as `[M.instruction, M.demos, M.weights]`"
        if not isinstance(value, tree.ListExpression) or not value.items:
            self._reporter.error("E0312", value.span, form, help="leave it out to allow everything")
            return knobs, counts
        for node in value.items:
            match node:
                case tree.Attribute(base=tree.Reference() as module, name=name):
                    self._once(self._knob(module, name, node.span), knobs, node.span, f"{module.name}.{name.text}")
                case tree.Attribute(base=tree.Attribute(base=tree.Reference() as flow, name=place), name=what):
                    count = read_count(flow, place, what, self._declarations, self._facts, self._reporter)
                    self._once(count, counts, node.span, f"{flow.name}.{place.text}.{what.text}")
                case _:
                    self._reporter.error("E0312", node.span, form)
        return knobs, counts

    def _once(self, one: _Named | None, found: list[_Named], span: Span, written: str) -> None:
        """Adds what was named; reports what is there already."""
        if one in found:
            self._reporter.error("E0202", span, f"`{written}` is named twice", help="delete one")
        elif one is not None:
            found.append(one)

    def _knob(self, reference: tree.Reference, name: tree.Identifier, place: Span) -> tuple[str, Knob] | None:
        module = self._declarations.names.find_module(reference.name, reference.span)
        knob: Knob | None = next((one for one in KNOBS if one == name.text), None)
        if knob is None:
            self._unknown_knob(name)
        elif module is not None:
            self._check_open(module, place)
            return module.name.text, knob
        return None

    def _unknown_knob(self, name: tree.Identifier) -> None:
        self._reporter.unknown(
            "E0306",
            name.span,
            f"a module has no parameter `{name.text}`",
            name.text,
            KNOBS,
            otherwise=f"its parameters are {listed(KNOBS)}",
        )

    def _check_open(self, module: tree.Module | tree.Instance, place: Span) -> None:
        own = module.block.entries if isinstance(module, tree.Instance) and module.block else ()
        for entry in module.entries if isinstance(module, tree.Module) else own:
            if entry.key.text == "optimize" and isinstance(entry.value, tree.Constant) and entry.value.value is False:
                self._reporter.error(
                    "E0318",
                    place,
                    f"`{module.name.text}` may not be optimized",
                    secondary=[Label(entry.span, "it says so here")],
                    help="leave it out here, or delete `optimize: false` there",
                )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
