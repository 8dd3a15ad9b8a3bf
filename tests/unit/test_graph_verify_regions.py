"""verify refuses maps, ifs, loops, catches and exits that do not hold together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
    Const,
    ExitIf,
    IfNode,
    LoopNode,
    Node,
    NodeId,
    Return,
)
from lmgraph.graph.types import BOOL, INT, STR, ListType, RecordType
from lmgraph.graph.verify import verify
from support.graph_parts import call, changed, flow, operands, parameter, ref, region, unnamed
from support.graph_refusals import added, edited, refused
from support.graph_samples import KEEP, every_kind


@pytest.fixture
def graph() -> Graph:
    return every_kind()


def with_flow(graph: Graph, name: str, **changes: Any) -> Graph:
    return replace(graph, flows=tuple(replace(one, **changes) if one.name == name else one for one in graph.flows))


# -- maps, ifs, loops, catches ---------------------------------------------------------------------------------------


def test_maps() -> None:
    edited("Verify/hop/read", "the body of Verify/hop/read are", body=region(results=operands(a=Const(1))))
    edited("Verify/hop/read", "the body of Verify/hop/read are", body=region())
    edited("Verify/hop/read", "the condition of Verify/hop/read are", condition=region())
    given = region(results=unnamed(Const(1)), parameters=(parameter("Verify/hop/read/x", INT),))
    edited("Verify/hop/read", "the body of Verify/hop/read has parameters", body=given)
    edited("Verify/hop/read", "two values have the id", element=parameter("Verify/claim", STR))
    edited("Verify/hop/read", "type Nope", element=parameter("Verify/hop/read/text", RecordType("Nope", ())))
    edited("Verify/hop/read", "type Nope", type=ListType(RecordType("Nope", ())))
    verify(changed(every_kind(), "Verify/hop/read", lambda node: replace(node, condition=None)))


def test_ifs() -> None:
    done = operands(done=Const(True))
    edited("Verify/hop/if", "results of the then of Verify/hop/if are", then=region())
    edited("Verify/hop/if", "results of the else of Verify/hop/if are", otherwise=region(results=done * 2))
    edited("Verify/hop/if", "results of the else of Verify/hop/if are", otherwise=region(results=unnamed(Const(1))))
    edited(
        "Verify/hop/if", "is not named Verify/hop/if:other", results=(parameter("Verify/hop/if:done", BOOL, "other"),)
    )
    both = (parameter("Verify/hop/if:a", BOOL), parameter("Verify/hop/if:b", BOOL))
    turned = operands(b=Const(1), a=Const(2))
    edited("Verify/hop/if", r"the then of Verify/hop/if are \['b', 'a'\]", results=both, then=region(results=turned))
    edited("Verify/told", "results of the then of Verify/told are", then=region(results=done))
    named = (parameter("Verify/told", STR, ""), parameter("Verify/told:b", STR))
    edited("Verify/told", "is not named Verify/told:", results=named)
    edited("Verify/told", "type Nope", results=(parameter("Verify/told", RecordType("Nope", ()), ""),))
    edited("Verify/told", "the then of Verify/told has parameters", then=region(parameters=both))


def test_a_branch_that_ends_otherwise_names_the_same_results() -> None:
    def guard(node: IfNode, then: Any) -> IfNode:
        return replace(
            node,
            then=replace(node.then, results=then),
            otherwise=region(results=operands(x=Const(1))),
            results=(parameter("Verify/if:x", INT),),
        )

    verify(changed(every_kind(), "Verify/if", lambda node: guard(node, operands(x=Const(None)))))
    refused(changed(every_kind(), "Verify/if", lambda node: guard(node, ())), "the then of Verify/if are")


def test_loops() -> None:
    graph = every_kind()
    loop = next(node for node in graph.flow("Verify").body.nodes if isinstance(node, LoopNode))
    assert loop.index is not None
    body = loop.body
    edited(loop.id, "limit below 0", limit=-1)
    edited(loop.id, "index of Verify/hop is no int", index=parameter("Verify/hop/hop", STR))
    edited(loop.id, "parameters of the body of Verify/hop are not", body=replace(body, parameters=()))
    edited(loop.id, "parameters of the body of Verify/hop are not", index=None)
    turned = (body.parameters[0], body.parameters[2], body.parameters[1])
    edited(loop.id, "parameters of the body of Verify/hop are not", body=replace(body, parameters=turned))
    edited(loop.id, "results of the body of Verify/hop are", body=replace(body, results=body.results[:1]))
    edited(loop.id, "results of the body of Verify/hop are", body=replace(body, results=body.results[::-1]))
    edited(loop.id, "results of Verify/hop are .*, not .*, which it carries", results=loop.results[:1])
    edited(loop.id, "notes of Verify/hop has another type", results=loop.results[::-1])
    strange = (parameter("Verify/hop/notes", ListType(STR)), loop.results[1])
    edited(loop.id, "is not named Verify/hop:notes", results=strange)
    nope = replace(loop.carried[0], initial=ref("Verify/hop/done"))
    edited(loop.id, "Verify/hop reads Verify/hop/done", carried=(nope, loop.carried[1]))


def test_catches() -> None:
    edited("Verify/judged", "results of the body of Verify/judged are", body=region())
    edited("Verify/judged", "results of the fallback of Verify/judged are", fallback=region())
    edited("Verify/judged", "message of Verify/judged is no str", message=parameter("Verify/m", INT))
    edited("Verify/judged", "Guess reads Verify/judged.catch/message", message=None)
    edited("Verify/judged", "type Nope of Verify/judged", type=RecordType("Nope", ()))
    given = region(results=unnamed(Const(1)), parameters=(parameter("Verify/x", INT),))
    edited("Verify/judged", "the fallback of Verify/judged has parameters", fallback=given)


# -- exits -----------------------------------------------------------------------------------------------------------


def stop(id: str, loop: str = "Verify/hop", **results: Any) -> ExitIf:
    given = results or {"notes": Const(None), "done": Const(True)}
    return ExitIf(NodeId(id), Const(True), NodeId(loop), operands(**given))


def leave(id: str) -> Return:
    return Return(NodeId(id), operands(verdict=Const("yes"), notes=Const(None)))


def catching(id: str, inner: Node) -> CatchNode:
    return CatchNode(NodeId(id), region(inner, results=unnamed(Const(1))), None, region(results=unnamed(Const(1))), INT)


def branching(id: str, inner: Node) -> IfNode:
    return IfNode(NodeId(id), Const(True), region(inner), region(), ())


def looping(id: str, inner: Node) -> LoopNode:
    return LoopNode(NodeId(id), 2, None, (), region(inner), ())


def test_exits_stand_in_their_loop() -> None:
    verify(added("Verify/hop/hits", stop("Verify/hop/x")))
    verify(added("Verify/hop/hits", branching("Verify/hop/a", branching("Verify/hop/b", stop("Verify/hop/x")))))
    verify(
        added(
            "Verify/hop/hits",
            looping("Verify/hop/in", ExitIf(NodeId("Verify/hop/in/x"), Const(True), NodeId("Verify/hop/in"), ())),
        )
    )
    not_around = "which is not the loop around it"
    refused(added("Verify/assert", stop("Verify/x")), not_around)
    refused(added("Verify/hop/hits", stop("Verify/hop/x", "Verify/nope")), not_around)
    refused(added("Verify/hop/hits", looping("Verify/hop/in", stop("Verify/hop/in/x"))), not_around)
    refused(added("Verify/hop/read/Distill", stop("Verify/hop/read/x")), not_around)
    refused(added("Verify/hop/read/Keep", stop("Verify/hop/read/x")), not_around)
    refused(added("Verify/hop/hits", catching("Verify/hop/c", stop("Verify/hop/x"))), not_around)


def test_exits_name_what_the_loop_carries() -> None:
    edited("Verify/hop/stop", "results of Verify/hop/stop are", results=())
    edited("Verify/hop/stop", "results of Verify/hop/stop are", results=operands(done=Const(1), notes=Const(1)))


def test_returns_end_a_branch_of_a_flow() -> None:
    verify(added("Verify/first", branching("Verify/x", leave("Verify/y"))))
    verify(added("Verify/hop/hits", branching("Verify/hop/x", leave("Verify/hop/y"))))
    verify(added("Verify/first", looping("Verify/x", branching("Verify/x/a", leave("Verify/x/y")))))
    refused(added("Verify/first", leave("Verify/y")), "nodes follow Verify/y")
    body = every_kind().flow("Verify").body
    last = replace(body, nodes=(*body.nodes, leave("Verify/y")))
    refused(with_flow(every_kind(), "Verify", body=last), "Verify/y stands in no branch")
    verify(added("Verify/first", looping("Verify/x", leave("Verify/x/y"))))
    nowhere = "stands where no flow can be left"
    refused(added("Verify/first", catching("Verify/x", branching("Verify/z", leave("Verify/y")))), nowhere)
    refused(added("judged/Keep", branching("judged/x", leave("judged/y"))), nowhere)
    inside = changed(
        every_kind(),
        "Verify/hop/read/Distill",
        lambda node: [branching("Verify/hop/read/x", leave("Verify/hop/read/y")), node],
    )
    refused(inside, nowhere)


def test_returns_name_the_outputs() -> None:
    edited("Verify/if.then/return", "results of Verify/if.then/return are", results=())
    turned = operands(notes=Const(None), verdict=Const("yes"))
    edited("Verify/if.then/return", "results of Verify/if.then/return are", results=turned)
    edited(
        "Verify/if",
        "nodes follow Verify/y",
        then=region(leave("Verify/y"), CheckNode(NodeId("Verify/z"), Const(True), "", "check")),
    )


def test_deep_nesting() -> None:
    inner: Node = call("F/x", KEEP, text=Const(""))
    for number in range(126):
        inner = branching(f"F/if{number}", inner)
    graph = replace(every_kind(), flows=(flow("F", (), (), inner, results=()), *every_kind().flows))
    verify(graph)
