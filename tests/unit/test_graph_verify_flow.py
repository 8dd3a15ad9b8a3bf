"""verify refuses flows that do not hold together: scopes, ids, results, exits, calls."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from lmgraph.graph.graph import FlowSpec, Graph
from lmgraph.graph.nodes import (
    Const,
    Ensure,
    ExprNode,
    FlowCall,
    NodeId,
    Ref,
    ValueId,
)
from lmgraph.graph.types import BOOL, FLOAT, INT, STR, Field, RecordType
from lmgraph.graph.verify import verify
from support.graph_parts import apply, call, changed, extern_call, flow, operands, parameter, ref, region
from support.graph_refusals import added, edited, refused
from support.graph_samples import GUESS, JUDGE, NORMAL, SEARCH, SEND, every_kind


@pytest.fixture
def graph() -> Graph:
    return every_kind()


def with_flow(graph: Graph, name: str, **changes: Any) -> Graph:
    return replace(graph, flows=tuple(replace(one, **changes) if one.name == name else one for one in graph.flows))


def expr(id: str, *reads: str) -> ExprNode:
    value = Const(1) if not reads else apply("+", *(ref(one) for one in reads))
    return ExprNode(NodeId(id), value, INT)


# -- flows -----------------------------------------------------------------------------------------------------------


def test_parameters_and_results_are_the_signature(graph: Graph) -> None:
    body = graph.flow("Verify").body
    refused(with_flow(graph, "Verify", body=replace(body, parameters=())), "parameters of flow Verify are not its")
    turned = tuple(reversed(body.parameters))
    refused(with_flow(graph, "Verify", body=replace(body, parameters=turned)), "parameters of flow Verify are not its")
    refused(with_flow(graph, "Verify", body=replace(body, results=())), "results of flow Verify are")
    turned_results = tuple(reversed(body.results))
    refused(with_flow(graph, "Verify", body=replace(body, results=turned_results)), "results of flow Verify are")
    strange = operands(verdict=ref("Verify/nope"), notes=Const(None))
    refused(with_flow(graph, "Verify", body=replace(body, results=strange)), "'verdict' of flow Verify reads Verify/n")


def test_a_module_that_runs_alone_has_a_flow_of_its_name() -> None:
    graph = every_kind()
    alone = FlowSpec(
        "Guess",
        GUESS.inputs,
        GUESS.outputs,
        region(
            call("Guess/Guess", GUESS, claim=ref("Guess/claim")),
            parameters=(parameter("Guess/claim", STR),),
            results=operands(verdict=ref("Guess/Guess", "verdict")),
        ),
    )
    verify(replace(graph, flows=(alone, *graph.flows)))
    other = replace(alone, outputs=(Field("verdict", STR),))
    refused(replace(graph, flows=(other, *graph.flows)), "two types are named Guess.out")


# -- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id", ["Verify/clean", "Verify/claim", "Verify/hop", "Verify/hop/hop", "Verify/hop:notes", "Verify/if.then/return"]
)
def test_ids_are_unique(id: str) -> None:
    refused(added("Verify/first", expr(id)), f"two values have the id {id}")


def test_ids_are_unique_among_parameters_flows_and_metrics(graph: Graph) -> None:
    refused(added("Verify/assert", expr("Verify/judged.catch/message")), "id Verify/judged.catch/message")
    loop = changed(graph, "Verify/hop", lambda node: [expr("Verify/hop/notes"), node])
    refused(loop, "id Verify/hop/notes")
    twice = flow("judged", (Field("gold", INT),), (), results=())
    refused(replace(graph, flows=(*graph.flows, twice)), "id judged/gold")


@pytest.mark.parametrize(
    ("before", "id", "path"),
    [
        ("Verify/first", "Main/x", "Verify/"),
        ("Verify/first", "x", "Verify/"),
        ("Verify/hop/hits", "Verify/x", "Verify/hop/"),
        ("Verify/hop/read/Distill", "Verify/hop/x", "Verify/hop/read/"),
        ("Verify/hop/read/Keep", "Verify/hop/x", "Verify/hop/read/"),
        ("Verify/hop/if.then/done", "Verify/x", "Verify/hop/"),
        ("judged/Keep", "Verify/x", "judged/"),
    ],
)
def test_ids_start_with_the_path_of_their_region(before: str, id: str, path: str) -> None:
    refused(added(before, expr(id)), f"id {id} does not start with {path}")


def test_branches_and_catches_add_nothing_to_call_keys() -> None:
    verify(added("Verify/judged.try/Judge", expr("Verify/x")))
    verify(added("Verify/hop/if.then/done", expr("Verify/hop/x")))


# -- scopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("Verify/clean", "Verify/clean"),  # before its node
        ("Verify/clean", "Verify/hop:notes"),
        ("Verify/first", "Verify/hop"),  # a loop has results only
        ("Verify/first", "Verify/if"),
        ("Verify/first", "Verify/hop/notes"),  # inside a loop
        ("Verify/first", "Verify/hop/hop"),
        ("Verify/first", "Verify/hop/hits"),
        ("Verify/hop/hits", "Verify/hop:notes"),  # a result inside its own loop
        ("Verify/hop/stop", "Verify/hop/read/text"),  # inside a map
        ("Verify/hop/stop", "Verify/hop/read/Distill"),
        ("Verify/hop/read/Distill", "Verify/hop/read/Keep"),  # of the condition, in the body
        ("Verify/hop/stop", "Verify/hop/if.then/done"),  # inside a branch
        ("Verify/first", "Verify/judged.try/Judge"),  # inside a catch
        ("Verify/judged.try/Judge", "Verify/judged.catch/message"),  # the message in the body
        ("Verify/judged.catch/Guess", "Verify/judged.try/Judge"),  # the body in the fallback
        ("Verify/first", "Verify/if.then/return"),  # no value
        ("Verify/first", "Verify/hop/stop"),
        ("Main/after", "Verify/claim"),  # another flow
        ("judged/Keep", "Verify/claim"),
        ("Verify/first", "it"),
    ],
)
def test_values_out_of_scope(before: str, value: str) -> None:
    path = before.rpartition("/")[0]
    refused(added(before, expr(f"{path}/x", value)), f"/x reads {value}, which is not in scope")


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("Verify/hop/read/Distill", "Verify/hop/notes"),
        ("Verify/hop/read/Keep", "Verify/hop/read/text"),
        ("Verify/hop/if.then/stop", "Verify/clean"),
        ("Verify/judged.catch/Guess", "Verify/judged.catch/message"),
        ("Verify/told.then/send", "Verify/hop:done"),
        ("judged/Keep", "judged/pred"),
    ],
)
def test_values_in_scope(before: str, value: str) -> None:
    verify(added(before, expr(f"{before.rpartition('/')[0]}/x", value)))


def test_what_an_ensure_requires_reads_its_value_only() -> None:
    def ensured(condition: Ref) -> Graph:
        return added("Verify/first", ExprNode(NodeId("Verify/x"), Ensure(Const(True), condition, ""), BOOL))

    verify(ensured(Ref(ValueId("it"))))
    refused(ensured(Ref(ValueId("Verify/strict"))), "what Verify/x ensures reads Verify/strict")


def test_operands_of_every_node_are_in_scope() -> None:
    nope = ref("nope")
    edited("Main/after", "Main/after reads nope", arguments=operands(claim=nope))
    edited("Verify/clean", "Verify/clean reads nope", arguments=operands(text=nope))
    edited("Main/verdicts/Verify", "reads nope", arguments=operands(claim=nope, strict=Const(True)))
    edited("Verify/open", "Verify/open reads nope", expression=nope)
    edited("Verify/assert", "Verify/assert reads nope", condition=nope)
    edited("Verify/hop/read", "Verify/hop/read reads nope", items=nope)
    edited("Verify/told", "Verify/told reads nope", condition=nope)
    edited("Verify/hop/stop", "Verify/hop/stop reads nope", condition=nope)
    edited("Verify/hop/stop", "Verify/hop/stop reads nope", results=operands(notes=nope, done=nope))
    edited("Verify/if.then/return", "return reads nope", results=operands(verdict=nope, notes=nope))


# -- calls -----------------------------------------------------------------------------------------------------------


def test_calls_of_modules() -> None:
    edited("Main/after", "module of Main/after: there is no 'Nope'", module="Nope")
    edited("Main/after", "arguments of Main/after are", arguments=())
    edited("Main/after", "Main/after does not have the type", type=JUDGE.output_type)
    twice = operands(claim=Const("")) * 2
    edited("Main/after", "arguments of Main/after are", arguments=twice)
    turned = operands(notes=ref("Verify/hop:notes"), claim=Const(""))
    edited("Verify/judged.try/Judge", "arguments of Verify/judged.try/Judge are", arguments=turned)


@pytest.mark.parametrize("kind", ["fn.call", "retrieve", "tool.call"])
def test_calls_of_externs(kind: Any) -> None:
    for extern, own in ((NORMAL, "fn.call"), (SEARCH, "retrieve"), (SEND, "tool.call")):
        arguments = {field.name: Const("") for field in extern.inputs}
        made = replace(extern_call("Verify/x", extern, **arguments), kind=kind)
        if kind == own:
            verify(added("Verify/first", made))
            refused(added("Verify/first", replace(made, type=FLOAT)), "Verify/x does not have the type")
            refused(added("Verify/first", replace(made, arguments=())), "arguments of Verify/x are")
            refused(added("Verify/first", replace(made, extern="nope")), "extern of Verify/x: there is no 'nope'")
        else:
            refused(added("Verify/first", made), f"Verify/x is a {kind}, which calls no {extern.kind}")


def test_calls_of_flows() -> None:
    edited("Main/verdicts/Verify", "flow of Main/verdicts/Verify: there is no 'Nope'", flow="Nope")
    edited("Main/verdicts/Verify", "arguments of Main/verdicts/Verify are", arguments=())
    edited("Main/verdicts/Verify", "does not have the type", type=RecordType("Verify.out", ()))


def chain(*names: str) -> Graph:
    """A flow for each name but the last, which calls the next one."""
    flows = [
        flow(name, (), (), FlowCall(NodeId(f"{name}/x"), called, (), RecordType(f"{called}.out", ())), results=())
        for name, called in pairwise(names)
    ]
    ends = [flow(names[-1], (), (), results=())] if names[-1] not in names[:-1] else []
    return Graph("g", flows=tuple(sorted([*flows, *ends], key=lambda one: one.name)))


def test_flows_do_not_call_themselves() -> None:
    verify(chain("A", "B", "C"))
    verify(chain(*(f"F{number:05}" for number in range(5_000))))
    refused(chain("A", "A"), "flow A calls itself: A > A")
    refused(chain("A", "B", "C", "B"), "flow B calls itself: A > B > C > B")
    refused(chain("C", "B", "A", "C"), "calls itself")
