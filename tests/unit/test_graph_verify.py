"""verify refuses declarations and types that do not hold together, each with the reason."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from lmgraph.errors import GraphInvariantError
from lmgraph.graph.graph import (
    ExternSpec,
    Graph,
    LmSpec,
    MetricSpec,
    ModuleSpec,
    Moved,
    OutputCheck,
    SplitSpec,
    StubSpec,
    TestSpec,
)
from lmgraph.graph.nodes import IT, Const, ExprNode, NodeId, Ref
from lmgraph.graph.types import (
    INT,
    STR,
    Constraint,
    EnumMember,
    EnumType,
    Field,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    UnionType,
)
from lmgraph.graph.verify import verify, verify_test
from support.graph_parts import apply, call, flow, operands, ref, unnamed
from support.graph_refusals import refused
from support.graph_samples import ANSWER, GUESS, JUDGE, KEEP, NORMAL, ROW, SEARCH, VERDICT, a_test, every_kind


@pytest.fixture
def graph() -> Graph:
    return every_kind()


def with_module(graph: Graph, module: ModuleSpec, **changes: Any) -> Graph:
    made = replace(module, **changes)
    return replace(graph, modules=tuple(made if one.name == module.name else one for one in graph.modules))


def with_extern(graph: Graph, extern: ExternSpec, **changes: Any) -> Graph:
    made = replace(extern, **changes)
    return replace(graph, externs=tuple(made if one.name == extern.name else one for one in graph.externs))


def with_metric(graph: Graph, name: str, **changes: Any) -> Graph:
    made = tuple(replace(one, **changes) if one.name == name else one for one in graph.metrics)
    return replace(graph, metrics=made)


def test_every_kind_of_node_holds_together(graph: Graph) -> None:
    verify(graph)
    verify(Graph("empty"))


@pytest.mark.parametrize("part", ["lms", "externs", "modules", "flows", "metrics", "records"])
def test_parts_are_ordered_by_name(graph: Graph, part: str) -> None:
    refused(replace(graph, **{part: tuple(reversed(getattr(graph, part)))}), f"{part} are not unique and ordered")
    first = getattr(graph, part)[0]
    refused(replace(graph, **{part: (first, *getattr(graph, part))}), f"{part} are not unique and ordered")


# -- types -----------------------------------------------------------------------------------------------------------


def test_enums_and_records_are_declared(graph: Graph) -> None:
    refused(replace(graph, records=(ROW,)), "type Answer.step_taken of .* is not declared")
    refused(replace(graph, enums=()), "type Verdict of .* is not declared")
    other = EnumType("Verdict", (*VERDICT.members, EnumMember("maybe", "maybe")))
    refused(replace(graph, enums=(other,)), "type Verdict of .* is not declared, or differently")


@pytest.mark.parametrize("wrap", [ListType, MapType, OptionalType, lambda inner: UnionType((STR, inner))])
def test_types_are_known_inside_types(graph: Graph, wrap: Any) -> None:
    nope = wrap(RecordType("Nope", ()))
    refused(replace(graph, records=(replace(ROW, fields=(Field("a", nope),)),)), "type Nope")
    node = ExprNode(NodeId("G/a"), Const(None), nope)
    refused(replace(graph, flows=(flow("G", (), (), node, results=()), *graph.flows)), "type Nope of G/a")


def test_outputs_of_modules_flows_and_externs_are_types(graph: Graph) -> None:
    for name in ("Judge.out", "Verify.out", "send.out"):
        refused(replace(graph, records=(*graph.records, RecordType(name, ()))), f"not unique and ordered|named {name}")
    out = RecordType("Judge.out", JUDGE.outputs)
    held = ExprNode(NodeId("G/a"), Const(None), out)
    verify(replace(graph, flows=(flow("G", (), (), held, results=()), *graph.flows)))


def test_enums(graph: Graph) -> None:
    def with_members(*members: EnumMember) -> Graph:
        return Graph("g", enums=(EnumType("E", members),))

    refused(with_members(), "enum E has no member")
    refused(with_members(EnumMember("a", "x"), EnumMember("a", "y")), "members of enum E")
    refused(with_members(EnumMember("a", "x"), EnumMember("b", "x")), "labels of enum E")
    refused(Graph("g", records=(RecordType("R", (Field("a", LiteralType(())),)),)), "has no value")


def test_fields(graph: Graph) -> None:
    def with_fields(*fields: Field) -> Graph:
        return Graph("g", records=(RecordType("R", fields),))

    verify(with_fields(Field("a", INT, constraint=Constraint(apply(">", Ref(IT), Const(0)), "it > 0"))))
    refused(with_fields(Field("a", INT), Field("a", STR)), "record R are not unique")
    refused(with_fields(Field("a", INT, default=3)), "has no default, and a value")
    refused(with_fields(Field("a", INT, constraint=Constraint(ref("b"), "b"))), "constraint of 'a' .* reads b")


# -- modules and externs ---------------------------------------------------------------------------------------------


def test_modules(graph: Graph) -> None:
    refused(with_module(graph, KEEP, lm="nope"), "lm of module Keep: there is no 'nope'")
    refused(with_module(graph, ANSWER, tools=("nope",)), "tool of module Answer: there is no 'nope'")
    refused(with_module(graph, ANSWER, tools=("search", "search")), "tools of module Answer are not unique")
    refused(with_module(graph, ANSWER, tools=()), "reacts without tools or steps")
    refused(with_module(graph, ANSWER, max_steps=0), "reacts without tools or steps")
    refused(with_module(graph, KEEP, samples=2), "Keep draws 2 samples")
    refused(with_module(graph, GUESS, samples=0), "Guess draws 0 samples")
    refused(with_module(graph, GUESS, select="nope"), "selector of module Guess: there is no 'nope'")
    refused(with_module(graph, GUESS, select="search"), "search of module Guess is no fn")
    verify(with_module(graph, GUESS, select="normal"))
    verify(with_module(graph, GUESS, select=None))
    refused(with_module(graph, KEEP, max_tokens=0), "limit below")
    refused(with_module(graph, KEEP, retries=-1), "limit below")
    refused(with_module(graph, KEEP, derived_from="Nope"), "declared module of module Keep")
    refused(with_module(graph, KEEP, derived_from="Judge"), "Keep is not named after Judge")
    refused(with_module(graph, KEEP, inputs=(Field("text", STR), Field("text", STR))), "inputs of Keep")
    refused(with_module(graph, KEEP, outputs=(*KEEP.outputs, *KEEP.outputs)), "outputs of Keep")


def test_checks_of_a_module_read_its_fields(graph: Graph) -> None:
    wrong = OutputCheck(apply(">", ref("nope"), Const(0)), "", True)
    refused(with_module(graph, JUDGE, checks=(wrong,)), "a check of module Judge reads nope")
    refused(with_module(graph, JUDGE, checks=(replace(wrong, condition=Ref(IT)),)), "reads it")


def test_externs(graph: Graph) -> None:
    refused(with_extern(graph, SEARCH, timeout=0.0), "retriever search has no time")
    refused(with_extern(graph, SEARCH, returns_at_most=ref("nope")), "the bound of retriever search reads nope")
    refused(with_extern(graph, NORMAL, returns_at_most=Const(3)), "gives back no list")
    refused(with_extern(graph, NORMAL, inputs=(*NORMAL.inputs, *NORMAL.inputs)), "inputs of normal")
    refused(with_extern(graph, NORMAL, result=RecordType("other.out", ())), "type other.out of the result of normal")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up.jsonl", "data/../../up.jsonl"])
def test_paths_stay_in_the_programs_folder(graph: Graph, path: str) -> None:
    outside = "no path inside the program's folder"
    refused(with_extern(graph, SEARCH, files=("index/pages.jsonl", path)), f"retriever search names .* {outside}")
    rows = graph.datasets[0]
    refused(replace(graph, datasets=(replace(rows, path=path),)), f"dataset rows names .* {outside}")
    split = replace(rows, splits=(SplitSpec("dev", path=path),))
    refused(replace(graph, datasets=(split,)), f"split dev of dataset rows names .* {outside}")


@pytest.mark.parametrize("reference", ["", "texts", "texts:", ":normal"])
def test_python_is_a_module_and_a_callable(graph: Graph, reference: str) -> None:
    refused(with_extern(graph, NORMAL, python=reference), "fn normal names .*, which is no `module:callable`")
    refused(with_metric(graph, "short", python=reference), "metric short names .*, which is no `module:callable`")


def test_moved_names(graph: Graph) -> None:
    refused(replace(graph, moved=(Moved("Old", "Nope"),)), "new name of Old: there is no 'Nope'")
    refused(replace(graph, moved=(Moved("Keep", "Judge"),)), "Keep moved, and is still there")
    refused(replace(graph, moved=(Moved("B", "Judge"), Moved("A", "Keep"))), "names that moved")
    refused(replace(graph, moved=(Moved("A", "Judge"), Moved("A", "Keep"))), "names that moved")


# -- scoring ---------------------------------------------------------------------------------------------------------


def test_metrics(graph: Graph) -> None:
    refused(with_metric(graph, "right", flow="Nope"), "flow of metric right: there is no 'Nope'")
    refused(with_metric(graph, "right", flow="Verify"), "right does not read the outputs of Verify")
    refused(with_metric(graph, "right", python="a:b"), "and not both")
    refused(with_metric(graph, "right", body=None), "and not both")
    refused(with_metric(graph, "short", pred=Field("pred", RecordType("Main.trace", ()))), "trace of Verify")
    refused(with_metric(graph, "short", reads="out"), "type Verify.trace of .* is not declared")
    refused(with_metric(graph, "right", result=RecordType("Nope", ())), "type Nope of the result")
    refused(with_metric(graph, "right", gold=Field("gold", RecordType("Nope", ()))), "type Nope")


def test_bodies_of_metrics(graph: Graph) -> None:
    def body(metric: MetricSpec, **changes: Any) -> Graph:
        assert metric.body is not None
        return with_metric(graph, metric.name, body=replace(metric.body, **changes))

    judged = graph.metric("judged")
    assert judged.body is not None
    refused(body(judged, parameters=()), "parameters of metric judged are not its gold and pred")
    refused(body(judged, results=()), "results of metric judged are")
    refused(body(judged, results=unnamed(ref("gold"))), "reads gold, which is not in scope")
    refused(body(judged, results=operands(a=Const(1))), "results of metric judged are")
    stray = call("right/Keep", KEEP, text=Const(""))
    refused(body(judged, nodes=(*judged.body.nodes, stray)), "right/Keep does not start with judged/")


def test_datasets(graph: Graph) -> None:
    def with_splits(*splits: SplitSpec) -> Graph:
        return replace(graph, datasets=(replace(graph.datasets[0], splits=splits),))

    refused(with_splits(SplitSpec("a")), "split a of dataset rows needs one of")
    refused(with_splits(SplitSpec("a", share=0.5, count=3)), "split a of dataset rows needs one of")
    refused(with_splits(SplitSpec("a", share=1.5)), "outside its range")
    refused(with_splits(SplitSpec("a", count=1), SplitSpec("a", count=2)), "splits of dataset rows")
    strange = replace(graph.datasets[0], record=RecordType("Nope", ()))
    refused(replace(graph, datasets=(strange,)), "type Nope of dataset rows")


def test_objectives(graph: Graph) -> None:
    def objective(**changes: Any) -> Graph:
        return replace(graph, objectives=(replace(graph.objectives[0], **changes),))

    refused(objective(flow="Nope"), "flow of objective verify")
    refused(objective(data="nope"), "data of objective verify")
    refused(objective(metrics=("nope",)), "metric of objective verify")
    refused(objective(metrics=("judged", "right")), "metric right of objective verify scores another flow")
    refused(objective(weights=(1.0,)), "one weight for each metric")
    refused(objective(metrics=(), weights=()), "one weight for each metric")
    refused(objective(low=2.0), "empty range")
    refused(objective(knobs=(("Nope", "demos"),)), "knob of objective verify")
    refused(objective(judge="nope"), "judge of objective verify: there is no 'nope'")


def test_the_entry_exists(graph: Graph) -> None:
    refused(replace(graph, entry="Nope"), "entry flow: there is no 'Nope'")


# -- tests -----------------------------------------------------------------------------------------------------------


def test_tests_fit_their_graph(graph: Graph) -> None:
    def refuse(match: str, **changes: Any) -> None:
        with pytest.raises(GraphInvariantError, match=match):
            verify_test(graph, replace(a_test(), **changes))

    verify_test(graph, a_test())
    takes = flow("test:1", (Field("a", STR),), (), results=())
    refuse("has inputs or outputs", flow=takes)
    refuse("there is no 'nope'", stubs=(StubSpec("nope", (unnamed(Const(1)),)),))
    refuse("has no answer", stubs=(StubSpec("Judge", ()),))
    refuse("outputs of an answer", stubs=(StubSpec("Judge", (operands(verdict=Const("yes")),)),))
    refuse("which it has none of", stubs=(StubSpec("search", (operands(a=Const("yes")),)),))
    refuse("reads test:1/out", stubs=(StubSpec("search", (unnamed(ref("test:1/out")),)),))
    verify_test(graph, replace(a_test(), stubs=(StubSpec("Verify", (unnamed(Const("yes")),)),)))
    stray = flow("test:1", (), (), call("Verify/Keep", KEEP, text=Const("")), results=())
    refuse("does not start with test:1/", flow=stray)


def test_a_test_is_no_test_of_pytest() -> None:
    assert TestSpec.__test__ is False


# -- time ------------------------------------------------------------------------------------------------------------


def test_time_is_linear() -> None:
    number = 30_000
    modules = tuple(ModuleSpec(f"M{n:05}", (Field("a", STR),), (Field("a", STR),), "") for n in range(number))
    nodes = [call(f"F/x{n:05}", module, a=Const("")) for n, module in enumerate(modules)]
    made = Graph(
        "g", lms=(LmSpec("default"),), modules=modules, flows=(flow("F", (), (), *nodes, results=()),), externs=()
    )
    before = time.process_time()
    verify(made)
    # About a second; a search through the modules for each call would take a quarter of a minute.
    assert time.process_time() - before < 8
