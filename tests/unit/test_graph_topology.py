"""Who waits for whom, the longest chain of calls, and what may act."""

from __future__ import annotations

from itertools import pairwise

import networkx
import pytest

from lmgraph.graph.effects import acting_flows, acting_nodes
from lmgraph.graph.graph import FlowSpec, Graph
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
    Const,
    ExitIf,
    Expr,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    Node,
    NodeId,
    Return,
)
from lmgraph.graph.topology import critical_path, critical_paths, result_of, to_networkx
from lmgraph.graph.types import BOOL, STR, RecordType
from lmgraph.graph.verify import verify
from support.graph_parts import apply, call, extern_call, flow, ref, region, unnamed
from support.graph_samples import GUESS, KEEP, SEND, every_kind


def asked(id: str, text: Expr | None = None) -> LmCall:
    return call(id, KEEP, text=Const("") if text is None else text)


def one_flow(*nodes: Node) -> Graph:
    return Graph("g", flows=(flow("F", (), (), *nodes, results=()),))


def before(graph: Graph, vertex: str) -> dict[str, str]:
    """What leads to the vertex in the flow that its path starts with, and how."""
    drawn = to_networkx(graph, vertex.partition("/")[0])
    return {source: drawn.edges[source, vertex]["kind"] for source in drawn.predecessors(vertex)}


def test_every_value_is_a_vertex_and_nothing_waits_for_itself() -> None:
    for name in ("Main", "Verify"):
        drawn = to_networkx(every_kind(), name)
        assert networkx.is_directed_acyclic_graph(drawn)
        assert list(drawn.nodes)[-1] == result_of(name)
        assert not list(networkx.selfloop_edges(drawn))
    assert "Verify/hop:done" in to_networkx(every_kind(), "Verify")
    with pytest.raises(KeyError):
        to_networkx(every_kind(), "Nope")


def test_reading_is_an_edge() -> None:
    graph = every_kind()
    assert before(graph, "Verify/hop/read/text") == {"Verify/hop/hits": "data"}
    assert before(graph, "Verify/hop/read") == {"Verify/hop/read/Distill": "data"}
    assert before(graph, "Verify/hop/if:done") == {"Verify/hop/if.then/done": "data", "Verify/hop/done": "data"}
    assert before(graph, result_of("Verify")) == {"Verify/judged": "data", "Verify/hop:notes": "data"}


def test_regions_wait_for_their_head() -> None:
    graph = every_kind()
    assert before(graph, "Verify/hop/notes") == {"Verify/hop/(loop)": "control"}
    assert before(graph, "Verify/if.then/return") == {"Verify/if/(if)": "control"}
    assert before(graph, "Verify/hop/hits") == {"Verify/claim": "data", "Verify/hop/(loop)": "control"}
    assert before(graph, "Verify/judged.catch/message") == {"Verify/judged.try/Judge": "control"}
    # The body of a map waits for the condition of its element.
    assert before(graph, "Verify/hop/read/Distill")["Verify/hop/read/Keep"] == "control"


def test_exits_lead_to_what_comes_after() -> None:
    graph = every_kind()
    after = before(graph, "Verify/hop:notes")
    assert after["Verify/hop/stop"] == after["Verify/hop/if.then/stop"] == "control"
    assert before(graph, "Verify/hop/(loop)") == {"Verify/if/(if)": "control"}
    assert before(graph, "Verify/hop/stop")["Verify/hop/if.then/stop"] == "control"
    loop = LoopNode(
        NodeId("F/l"),
        2,
        None,
        (),
        region(
            asked("F/l/a"),
            ExitIf(NodeId("F/l/stop"), ref("F/l/a", "good"), NodeId("F/l"), ()),
            asked("F/l/b"),
            asked("F/l/c", ref("F/l/b", "good")),
        ),
        (),
    )
    made = one_flow(loop, asked("F/after"))
    assert before(made, "F/l/b") == {"F/l/stop": "control"}
    assert before(made, "F/l/c") == {"F/l/b": "data"}
    assert before(made, "F/after") == {}
    assert critical_path(made, "F") == ("F/l/a", "F/l/b", "F/l/c")


def test_what_follows_a_return_waits_for_the_loop_it_stands_in() -> None:
    leave = IfNode(NodeId("F/l/if"), ref("F/l/a", "good"), region(Return(NodeId("F/l/r"), ())), region(), ())
    loop = LoopNode(NodeId("F/l"), 2, None, (), region(asked("F/l/a"), leave), ())
    assert before(one_flow(loop, asked("F/after")), "F/after") == {"F/l/(loop)": "control"}


def test_acting_nodes_wait_for_one_another_and_for_asserts() -> None:
    graph = every_kind()
    assert "Verify/assert" in before(graph, "Verify/told/(if)")
    held = CheckNode(NodeId("F/assert"), Const(True), "", "assert")
    only = CheckNode(NodeId("F/check"), Const(True), "", "check")
    first, second = (extern_call(f"F/{name}", SEND, text=Const("")) for name in ("first", "second"))
    made = one_flow(first, held, only, asked("F/a"), second)
    assert before(made, "F/second") == {"F/first": "control", "F/assert": "control"}
    assert before(made, "F/a") == before(made, "F/assert") == {}
    tried = CatchNode(
        NodeId("F/c"), region(second, results=unnamed(Const(1))), None, region(results=unnamed(Const(1))), STR
    )
    third = extern_call("F/third", SEND, text=Const(""))
    made = one_flow(first, tried, third)
    assert before(made, "F/second") == {"F/first": "control"}
    assert before(made, "F/third") == {"F/c": "control"}


def test_acting_branches_without_results_are_waited_for() -> None:
    inner = extern_call("F/if.then/send", SEND, text=Const(""))
    held = CheckNode(NodeId("F/if.else/assert"), Const(True), "", "assert")
    chosen = IfNode(NodeId("F/if"), Const(True), region(inner), region(held), ())
    made = one_flow(chosen, extern_call("F/send", SEND, text=Const("")))
    assert before(made, "F/send") == {"F/if.then/send": "control", "F/if.else/assert": "control"}


def test_asserts_of_a_catch_guard_nothing_outside() -> None:
    held = CheckNode(NodeId("F/assert"), Const(True), "", "assert")
    tried = CatchNode(
        NodeId("F/c"), region(held, results=unnamed(Const(1))), None, region(results=unnamed(Const(1))), BOOL
    )
    made = one_flow(tried, extern_call("F/send", SEND, text=Const("")))
    assert before(made, "F/send") == {}


# -- chains ----------------------------------------------------------------------------------------------------------


def test_the_longest_chain_counts_called_flows() -> None:
    graph = every_kind()
    verify(graph)
    chains = critical_paths(graph)
    assert chains["Verify"].steps == (
        "Verify/hop/read/Keep",
        "Verify/hop/read/Distill",
        "Verify/judged.try/Judge",
        "Verify/judged.catch/Guess",
    )
    assert chains["Main"].steps == ("Main/verdicts/Verify",)
    assert chains["Main"].calls == chains["Verify"].calls == 4


def test_chains_of_chains() -> None:
    def calling(name: str, called: str) -> FlowSpec:
        twice = [FlowCall(NodeId(f"{name}/{one}"), called, (), RecordType(f"{called}.out", ())) for one in "ab"]
        # The second call waits for the first one.
        held = guarded(f"{name}/if", ref(f"{name}/a"))
        return flow(name, (), (), twice[0], held, twice[1], results=())

    last = flow("F00", (), (), asked("F00/x"), results=())
    graph = Graph("g", flows=(last, *(calling(f"F{n:02}", f"F{n - 1:02}") for n in range(1, 60))))
    verify(Graph("g", lms=every_kind().lms, modules=(KEEP,), flows=graph.flows, enums=every_kind().enums))
    assert critical_paths(graph)["F59"].calls == 2**59
    assert critical_path(graph, "F59") == ("F59/a", "F59/b")
    with pytest.raises(KeyError):
        critical_path(graph, "Nope")


def guarded(id: str, condition: Expr) -> IfNode:
    """A guard: what follows waits for its condition."""
    held = apply("==", condition, Const(None))
    return IfNode(NodeId(id), held, region(Return(NodeId(f"{id}.then/return"), ())), region(), ())


def test_a_branch_waits_for_its_condition() -> None:
    chosen = IfNode(
        NodeId("F/x"),
        ref("F/a", "good"),
        region(asked("F/x.then/b"), results=unnamed(ref("F/x.then/b"))),
        region(results=unnamed(Const(None))),
        (),
    )
    assert critical_path(one_flow(asked("F/a"), chosen), "F") == ("F/a", "F/x.then/b")


def test_no_calls() -> None:
    assert critical_path(one_flow(), "F") == ()


# -- what may act ----------------------------------------------------------------------------------------------------


def test_what_may_act() -> None:
    graph = every_kind()
    assert acting_flows(graph) == {"Main", "Verify"}
    assert acting_nodes(graph.flow("Verify").body, frozenset()) == {"Verify/told", "Verify/told.then/send"}
    main = graph.flow("Main").body
    assert acting_nodes(main, frozenset({"Verify"})) == {"Main/verdicts", "Main/verdicts/Verify"}
    assert acting_nodes(main, frozenset()) == frozenset()
    assert acting_flows(one_flow(call("F/x", GUESS, claim=Const("")))) == frozenset()


def test_time_is_linear() -> None:
    nodes = [asked("F/x0"), *(asked(f"F/x{b}", ref(f"F/x{a}", "good")) for a, b in pairwise(range(10_000)))]
    assert len(critical_path(one_flow(*nodes), "F")) == 10_000
