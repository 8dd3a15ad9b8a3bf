"""Metrics: a signature that says which flow and which rows are scored, and an expression or a Python function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.expressions import Expressions
from lmgraph.compiler.facts import Facts
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.flow_calls import calls_in
from lmgraph.compiler.references import check_python
from lmgraph.compiler.relations import UNKNOWN, a_type, described, mentions_unknown
from lmgraph.compiler.reporter import Reporter, some
from lmgraph.compiler.resolve import kind_of
from lmgraph.compiler.scope import Local, Scope
from lmgraph.graph.types import FLOAT, INT, Field, RecordType, ScalarType, Type
from lmgraph.source.diagnostic import Label
from lmgraph.syntax import tree


@dataclass(frozen=True, slots=True)
class MetricTypes:
    """A metric's parameters and result as its signature declares them."""

    gold: str
    pred: str
    row: RecordType
    flow: str
    output: RecordType
    reads: Literal["out", "trace"]
    result: Type = UNKNOWN

    @property
    def seen(self) -> RecordType:
        """What the metric's second value is."""
        return self.output if self.reads == "out" else trace_type(self.flow, self.output)


def trace_type(flow: str, output: RecordType) -> RecordType:
    """`F.trace` in an expression: what the flow gave back, and what it took. Python metrics get the whole Trace."""
    counts = ("calls", "failed_calls", "prompt_tokens", "completion_tokens")
    return RecordType(
        f"{flow}.trace", (Field("out", output), *(Field(name, INT) for name in counts), Field("seconds", FLOAT))
    )


def check_metric(
    declaration: tree.Metric, declarations: Declarations, files: ProgramFiles, reporter: Reporter, facts: Facts
) -> MetricTypes | None:
    """The metric's parts, or None where its signature does not say them; the body is checked in both cases."""
    found = _metric_signature(declaration, declarations, reporter)
    result = _metric_result(declaration, declarations, reporter)
    body = declaration.body
    if isinstance(body, tree.PythonReference):
        check_python(body, 2, files, reporter)
    else:
        expressions = Expressions(declarations, reporter, facts)
        inputs = declaration.signature.inputs
        locals = {node.name.text: Local(UNKNOWN, node.name.span, "input") for node in inputs}
        if found is not None:
            for node, type in zip(inputs, (found.row, found.seen), strict=True):
                locals[node.name.text] = Local(type, node.name.span, "input")
        scope = Scope(locals)
        expressions.check(body, scope, result, f"metric `{declaration.name.text}`")
        _refuse_acting(body, facts, reporter)
    return replace(found, result=result) if found is not None else None


def _refuse_acting(body: tree.Expression, facts: Facts, reporter: Reporter) -> None:
    for call, callee in calls_in(body, facts):
        if facts.may_act(call):
            what = "is a tool" if callee.kind == "tool" else "calls tools"
            reporter.error(
                "E0321",
                call.callee.span,
                f"a metric cannot call `{callee.name}`, which {what} and may act",
                secondary=[Label(callee.span, "declared here")],
                help="score what the run did, from its outputs or its trace",
            )


def _metric_signature(declaration: tree.Metric, declarations: Declarations, reporter: Reporter) -> MetricTypes | None:
    inputs = declaration.signature.inputs
    name = declaration.name.text
    if len(inputs) != 2:
        reporter.error(
            "E0317",
            declaration.signature.span,
            f"metric `{name}` must take two values: the row, and what the flow gave back",
            help=f"write `metric {name}(gold: Row, pred: F.out) -> bool`, for a record Row and a flow F",
        )
        return None
    gold, pred = inputs
    row = declarations.type(gold.type)
    if row is not UNKNOWN and (not isinstance(row, RecordType) or "." in row.name):
        reporter.error(
            "E0317",
            gold.type.span,
            f"the first value of a metric is a row of data: a record, not `{described(row)}`",
            help="name the record that the dataset's rows have",
        )
        row = UNKNOWN
    flow = _metric_flow(pred, declarations, reporter)
    if gold.name.text == pred.name.text:
        reporter.error(
            "E0202",
            pred.name.span,
            f"both values of the metric are named `{gold.name.text}`",
            secondary=[Label(gold.name.span, "the row")],
            help="name the second one otherwise, as in `pred`",
        )
        return None
    if flow is None or not isinstance(row, RecordType) or row is UNKNOWN:
        return None
    owner, reads = flow
    return MetricTypes(
        gold.name.text, pred.name.text, row, owner.name.text, declarations.signature(owner).output_type, reads
    )


def _metric_flow(
    pred: tree.FieldNode, declarations: Declarations, reporter: Reporter
) -> tuple[tree.Flow | tree.Module, Literal["out", "trace"]] | None:
    names = declarations.names
    flows = names.of_kind(pred.type.span, tree.Flow)
    if names.alone is not None:
        flows.append(names.alone.name.text)
    match pred.type:
        case tree.NamedType(path=(owner, tree.Identifier(text="out" | "trace" as reads))):
            found = names.get(owner.text, owner.span)
            if isinstance(found, tree.Flow) or (isinstance(found, tree.Module) and found is names.alone):
                return found, "out" if reads == "out" else "trace"
            if found is not None:
                reporter.error(
                    "E0204",
                    owner.span,
                    f"`{owner.text}` is {kind_of(found)}; a metric reads what a flow gave back",
                    secondary=[Label(found.name.span, "declared here")],
                )
            elif not names.is_silent(owner.text, owner.span):
                reporter.unknown(
                    "E0201",
                    owner.span,
                    f"no flow is named `{owner.text}`",
                    owner.text,
                    flows,
                    otherwise=f"flows known here: {some(flows)}" if flows else "the file declares no flow",
                )
        case _:
            reporter.error(
                "E0317",
                pred.type.span,
                "the second value of a metric is what a flow gave back: its `.out` or its `.trace`",
                help=f"write `{pred.name.text}: {flows[0]}.out`" if flows else "declare a flow to score",
            )
    return None


def _metric_result(declaration: tree.Metric, declarations: Declarations, reporter: Reporter) -> Type:
    result = declaration.signature.result
    if result is None:
        reporter.error(
            "E0317",
            declaration.signature.span,
            "a metric gives back one value without a name",
            help="write `-> bool`, `-> int` or `-> float`",
        )
        return UNKNOWN
    found = declarations.type(result)
    if isinstance(found, ScalarType) and found.name in ("bool", "int", "float"):
        return found
    if not mentions_unknown(found):
        reporter.error(
            "E0317",
            result.span,
            f"a score is a number or a truth value, not {a_type(found)}",
            help="write `-> bool`, `-> int` or `-> float`",
        )
    return UNKNOWN
