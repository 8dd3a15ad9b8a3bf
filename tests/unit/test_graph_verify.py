"""verify refuses graphs that do not hold together, each with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.errors import GraphInvariantError
from lmgraph.graph.graph import FlowSpec, Graph
from lmgraph.graph.nodes import ExprNode, GetField, LmCall, MapNode, NodeId, Ref, ValueId
from lmgraph.graph.topology import critical_path, result_of, to_networkx
from lmgraph.graph.types import INT, RecordType
from lmgraph.graph.verify import verify
from lmgraph.source import Source

PROGRAM = """
record Row { text: str  parts: list[str] }
module Split(text: str) -> (parts: list[str]) {}
module Count(part: str) -> (size: int) {}
flow F(text: str) -> (sizes: list[int], first: int) {
  found = Split(text)
  sizes = [Count(part=p).size for p in found.parts if len(p) > 1]
  first = Count(part=text).size
  return (sizes, first)
}
dataset rows: Row = jsonl "rows.jsonl"
metric few(gold: Row, pred: F.out) -> bool = len(pred.sizes) == len(gold.parts)
objective o { flow: F  data: rows  metric: few  optimize: [Count.demos] }
"""


@pytest.fixture
def graph() -> Graph:
    return compile_source(Source("program.lmg", PROGRAM), root=None).require()


def with_flow(graph: Graph, flow: FlowSpec) -> Graph:
    return replace(graph, flows=(flow,))


def with_nodes(graph: Graph, *nodes: LmCall | ExprNode | MapNode) -> Graph:
    flow = graph.flow("F")
    return with_flow(graph, replace(flow, body=replace(flow.body, nodes=nodes)))


def refused(graph: Graph, match: str) -> None:
    with pytest.raises(GraphInvariantError, match=match):
        verify(graph)


def test_a_compiled_graph_holds_together(graph: Graph) -> None:
    verify(graph)


def test_two_values_of_one_id(graph: Graph) -> None:
    nodes = graph.flow("F").body.nodes
    refused(with_nodes(graph, nodes[0], *nodes), "two values have the id F/found")


def test_order_is_topological(graph: Graph) -> None:
    found, *rest = graph.flow("F").body.nodes
    refused(with_nodes(graph, *rest, found), "reads F/found, which is not in scope")


def test_values_inside_a_map_stay_inside(graph: Graph) -> None:
    inside = ExprNode(NodeId("F/last"), GetField(Ref(ValueId("F/sizes/Count")), "size"), INT)
    refused(with_nodes(graph, *graph.flow("F").body.nodes, inside), "F/sizes/Count, which is not in scope")


def test_arguments_are_the_modules_inputs(graph: Graph) -> None:
    found, *rest = graph.flow("F").body.nodes
    assert isinstance(found, LmCall)
    refused(with_nodes(graph, replace(found, arguments=()), *rest), "arguments of F/found")


def test_the_module_exists_and_has_this_type(graph: Graph) -> None:
    found, *rest = graph.flow("F").body.nodes
    assert isinstance(found, LmCall)
    refused(with_nodes(graph, replace(found, module="Nope"), *rest), "there is no 'Nope'")
    other = replace(found, type=RecordType("Split.out", ()))
    refused(with_nodes(graph, other, *rest), "type Split.out of F/found is not declared")


def test_results_and_parameters_are_the_signature(graph: Graph) -> None:
    flow = graph.flow("F")
    refused(with_flow(graph, replace(flow, body=replace(flow.body, results=()))), "results of flow F")
    refused(with_flow(graph, replace(flow, body=replace(flow.body, parameters=()))), "parameters of flow F")


def test_parts_are_ordered_by_name(graph: Graph) -> None:
    refused(replace(graph, modules=tuple(reversed(graph.modules))), "modules are not unique and ordered")


def test_types_are_declared(graph: Graph) -> None:
    refused(replace(graph, records=()), "type Row of rows is not declared")


def test_the_entry_and_scoring_exist(graph: Graph) -> None:
    refused(replace(graph, entry="Nope"), "entry flow")
    refused(replace(graph, lms=()), "lm of module")
    refused(replace(graph, metrics=()), "metric of objective o")
    objective = graph.objectives[0]
    refused(replace(graph, objectives=(replace(objective, low=1.0),)), "empty range")
    refused(replace(graph, objectives=(replace(objective, weights=()),)), "one weight for each metric")
    refused(replace(graph, objectives=(replace(objective, knobs=(("Nope", "demos"),)),)), "knob of objective o")
    metric = graph.metrics[0]
    refused(replace(graph, metrics=(replace(metric, python="a:b"),)), "and not both")


def test_topology(graph: Graph) -> None:
    drawn = to_networkx(graph, "F")
    assert set(drawn.predecessors("F/sizes/p")) == {"F/found"}
    assert set(drawn.successors("F/sizes")) == {result_of("F")}
    assert critical_path(graph, "F") == ("F/found", "F/sizes/Count")
    with pytest.raises(KeyError):
        to_networkx(graph, "G")
