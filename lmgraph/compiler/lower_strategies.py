"""Strategies as regions: what a call of a module becomes in the graph (docs/decisions/0005).

Their inner calls are nodes with ids, keys and parameters of their own, so they are traced and can be trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from lmgraph.compiler.constants import constant
from lmgraph.compiler.facts import SignatureTypes
from lmgraph.compiler.lower_expressions import EXTERN_NODES, ensured
from lmgraph.compiler.strategies import FINISH, STEPS, react_modules, step_type
from lmgraph.graph.expressions import substituted
from lmgraph.graph.graph import ModuleSpec
from lmgraph.graph.nodes import (
    Apply,
    Carried,
    CatchNode,
    Choose,
    Const,
    ExitIf,
    Expr,
    ExprNode,
    ExternCall,
    FieldValue,
    GetField,
    IfNode,
    LmCall,
    LoopNode,
    MakeList,
    MakeRecord,
    MapNode,
    Node,
    NodeId,
    Operand,
    Parameter,
    Ref,
    Region,
    ValueId,
)
from lmgraph.graph.types import BOOL, FLOAT, INT, STR, Field, ListType, OptionalType, RecordType

Claim: TypeAlias = Callable[[str], ValueId]
"""Makes a path an id that nothing else has."""


def module_nodes(
    spec: ModuleSpec,
    arguments: tuple[Operand, ...],
    own: ValueId,
    signatures: Mapping[str, SignatureTypes],
    claim: Claim,
) -> list[Node]:
    """The nodes of one call of the declared module ``spec``; the last has the id ``own`` and gives its outputs."""
    outputs = RecordType(f"{spec.name}.out", spec.outputs)
    match spec.strategy:
        case "predict" | "cot":
            return [LmCall(NodeId(own), spec.name, arguments, outputs)]
        case "best_of":
            return _best_of(spec, arguments, own, outputs, signatures, claim)
        case "react":
            return _react(spec, arguments, own, outputs, signatures, claim)


def _value(expression: Expr) -> tuple[Operand, ...]:
    return (Operand("", expression),)


# -- best_of ---------------------------------------------------------------------------------------------------------


def _best_of(
    spec: ModuleSpec,
    arguments: tuple[Operand, ...],
    own: ValueId,
    outputs: RecordType,
    signatures: Mapping[str, SignatureTypes],
    claim: Claim,
) -> list[Node]:
    """A map over sample numbers that calls the module, a map that scores what came, and the choice.

    The choice reads the arguments too: where one failed, every sample did, and that is the first cause.
    """
    drawn = claim(f"{own}.sample")
    values, arguments = _as_values(spec, arguments, own, claim)
    given = tuple(one.value for one in arguments if not isinstance(one.value, Const))
    call = LmCall(NodeId(claim(f"{drawn}/{spec.name}")), spec.name, arguments, outputs)
    number = Parameter(claim(f"{drawn}/number"), Field("number", INT))
    candidate = OptionalType(outputs)
    tried = CatchNode(
        NodeId(claim(f"{drawn}/try")),
        Region((), (call,), _value(Ref(ValueId(call.id)))),
        None,
        Region((), (), _value(Const(None))),
        candidate,
    )
    samples = MapNode(
        NodeId(drawn),
        MakeList(tuple(Const(index) for index in range(spec.samples))),
        number,
        None,
        Region((), (tried,), _value(Ref(ValueId(tried.id)))),
        ListType(candidate),
    )
    if spec.select == "vote":
        return [*values, samples, ExprNode(NodeId(own), Apply("vote", (Ref(drawn), *given)), outputs)]
    scores = _scores(spec, arguments, claim(f"{own}.score"), drawn, candidate, signatures, claim)
    best = Apply("best", (Ref(drawn), Ref(ValueId(scores.id)), *given))
    return [*values, samples, scores, ExprNode(NodeId(own), best, outputs)]


def _as_values(
    spec: ModuleSpec, arguments: tuple[Operand, ...], own: ValueId, claim: Claim
) -> tuple[list[Node], tuple[Operand, ...]]:
    """Arguments that are no larger than a value, and the nodes of the others: each is read many times."""
    types = {field.name: field.type for field in spec.inputs}
    nodes: list[Node] = []
    small: list[Operand] = []
    for name, value in ((one.name, one.value) for one in arguments):
        if isinstance(value, Const | Ref):
            small.append(Operand(name, value))
        else:
            id = claim(f"{own}.{name}")
            nodes.append(ExprNode(NodeId(id), value, types[name]))
            small.append(Operand(name, Ref(id)))
    return nodes, tuple(small)


def _scores(
    spec: ModuleSpec,
    arguments: tuple[Operand, ...],
    id: ValueId,
    drawn: ValueId,
    candidate: OptionalType,
    signatures: Mapping[str, SignatureTypes],
    claim: Claim,
) -> MapNode:
    """A score for each sample, null where there is none: from the `select` fn, else how many checks hold."""
    output = Parameter(claim(f"{id}/output"), Field("output", candidate))
    missing = Apply("==", (Ref(output.id), Const(None)))
    known: dict[ValueId, Expr] = {ValueId(operand.name): operand.value for operand in arguments}
    known |= {ValueId(field.name): GetField(Ref(output.id), field.name) for field in spec.outputs}
    if spec.select is None:
        conditions = [substituted(check.condition, known) for check in spec.checks if not check.required]
        held = _sum([Const(0), *(Choose(condition, Const(1), Const(0)) for condition in conditions)])
        body = Region((), (), _value(Choose(missing, Const(None), held)))
        return MapNode(NodeId(id), Ref(drawn), output, None, body, ListType(OptionalType(INT)))
    selector = signatures[spec.select]
    given = tuple(
        Operand(one.name, ensured(known[ValueId(one.name)], one) if one.name in known else constant(one.default))
        for one in selector.inputs
    )
    call = ExternCall(NodeId(claim(f"{id}/{spec.select}")), spec.select, given, selector.result, "fn.call")
    scored: Expr = Ref(ValueId(call.id))
    if selector.result == BOOL:
        scored = Choose(scored, Const(1), Const(0))
    tried = CatchNode(
        NodeId(claim(f"{id}/try")),
        Region((), (call,), _value(scored)),
        None,
        Region((), (), _value(Const(None))),
        OptionalType(FLOAT),
    )
    scored_if = claim(f"{id}/if")
    asked = IfNode(
        NodeId(scored_if),
        missing,
        Region((), (), _value(Const(None))),
        Region((), (tried,), _value(Ref(ValueId(tried.id)))),
        (Parameter(scored_if, Field("", OptionalType(FLOAT))),),
    )
    body = Region((), (asked,), _value(Ref(scored_if)))
    return MapNode(NodeId(id), Ref(drawn), output, None, body, ListType(OptionalType(FLOAT)))


def _sum(parts: Sequence[Expr]) -> Expr:
    """All of them added up, in pairs: a chain would be as deep as it is long."""
    if len(parts) == 1:
        return parts[0]
    middle = (len(parts) + 1) // 2
    return Apply("+", (_sum(parts[:middle]), _sum(parts[middle:])))


# -- react -----------------------------------------------------------------------------------------------------------


def _react(
    spec: ModuleSpec,
    arguments: tuple[Operand, ...],
    own: ValueId,
    outputs: RecordType,
    signatures: Mapping[str, SignatureTypes],
    claim: Claim,
) -> list[Node]:
    """A loop that takes steps until the model finishes, and the call that answers from them."""
    taken = step_type(spec.name)
    loop = NodeId(claim(f"{own}.steps"))
    steps = Parameter(claim(f"{loop}/{STEPS}"), Field(STEPS, ListType(taken)))
    after = Parameter(ValueId(f"{loop}:{STEPS}"), steps.field)
    think = NodeId(claim(f"{loop}/think"))
    thought = Ref(ValueId(think))
    action = GetField(thought, "action")
    step = f"{spec.name}.step"
    nodes: list[Node] = [
        LmCall(think, step, (*arguments, Operand(STEPS, Ref(steps.id))), _step_outputs(spec, step, signatures)),
        ExitIf(
            NodeId(claim(f"{loop}/stop")),
            Apply("==", (GetField(action, "tool"), Const(FINISH))),
            loop,
            (Operand(STEPS, Ref(steps.id)),),
        ),
    ]
    observation = _dispatch(spec.tools, action, loop, nodes, signatures, claim)
    record = MakeRecord(
        taken.name,
        (
            FieldValue("thought", GetField(thought, "thought")),
            FieldValue("action", Apply("text", (action,))),
            FieldValue("observation", observation),
        ),
    )
    longer = Apply("+", (Ref(steps.id), MakeList((record,))))
    body = Region((steps,), tuple(nodes), (Operand(STEPS, longer),))
    return [
        LoopNode(loop, spec.max_steps, None, (Carried(steps, MakeList(())),), body, (after,)),
        LmCall(NodeId(own), spec.name, (*arguments, Operand(STEPS, Ref(after.id))), outputs),
    ]


def _step_outputs(spec: ModuleSpec, step: str, signatures: Mapping[str, SignatureTypes]) -> RecordType:
    tools = tuple(signatures[tool] for tool in spec.tools)
    derived = react_modules(spec, tools, {tool.name: "" for tool in tools})[1]
    return RecordType(f"{step}.out", derived.outputs)


def _dispatch(
    tools: Sequence[str],
    action: Expr,
    loop: NodeId,
    nodes: list[Node],
    signatures: Mapping[str, SignatureTypes],
    claim: Claim,
) -> Expr:
    """Appends the call of the chosen tool; the text of what it gave back, or of why it failed."""
    first, *rest = tools
    call = _tool_call(first, action, loop, signatures, claim)
    if not rest:
        nodes.append(call)
        return Ref(ValueId(call.id))
    id = claim(f"{loop}/is_{first}")
    others: list[Node] = []
    otherwise = _dispatch(rest, action, loop, others, signatures, claim)
    chosen = Apply("==", (GetField(action, "tool"), Const(first)))
    then = Region((), (call,), _value(Ref(ValueId(call.id))))
    result = Parameter(id, Field("", STR))
    nodes.append(IfNode(NodeId(id), chosen, then, Region((), tuple(others), _value(otherwise)), (result,)))
    return Ref(id)


def _tool_call(
    tool: str, action: Expr, loop: NodeId, signatures: Mapping[str, SignatureTypes], claim: Claim
) -> CatchNode:
    signature = signatures[tool]
    assert signature.kind in EXTERN_NODES
    arguments = tuple(Operand(one.name, GetField(action, one.name)) for one in signature.inputs)
    call = ExternCall(NodeId(claim(f"{loop}/{tool}")), tool, arguments, signature.result, EXTERN_NODES[signature.kind])
    message = Parameter(claim(f"{loop}/{tool}.error"), Field("error", STR))
    return CatchNode(
        NodeId(claim(f"{loop}/{tool}.try")),
        Region((), (call,), _value(Apply("text", (Ref(ValueId(call.id)),)))),
        message,
        Region((), (), _value(Apply("+", (Const("error: "), Ref(message.id))))),
        STR,
    )
