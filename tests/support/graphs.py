"""Short ways to write programs by hand, for tests of what runs them: nodes, flows, and runs by a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraph.errors import EngineError
from lmgraph.graph.graph import (
    DEFAULT_LM,
    ExternKind,
    ExternSpec,
    FlowSpec,
    Graph,
    LmSpec,
    MetricSpec,
    ModuleSpec,
)
from lmgraph.graph.nodes import (
    Apply,
    Carried,
    CatchNode,
    CheckNode,
    Const,
    ExitIf,
    Expr,
    ExprNode,
    ExternCall,
    FlowCall,
    GetField,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    NodeId,
    Operand,
    Operator,
    Parameter,
    Ref,
    Region,
    Return,
    ValueId,
)
from lmgraph.graph.types import INT, STR, Field, ListType, RecordType, Type
from lmgraph.passes import PASSES
from lmgraph.program import Program
from lmgraph.runtime import RunOptions, Runtime, Trace
from lmgraph.testing import ScriptedEngine

OUT = Field("out", STR)
M_OUT = RecordType("M.out", (OUT,))
TEXTS = ListType(STR)


def ref(value: str) -> Ref:
    return Ref(ValueId(value))


def out(value: str, name: str = "out") -> GetField:
    """One output of a call."""
    return GetField(ref(value), name)


def apply(operator: Operator, *operands: Any) -> Apply:
    return Apply(operator, tuple(expression(operand) for operand in operands))


def expression(value: Any) -> Expr:
    """Plain values are constants."""
    return value if hasattr(value, "kind") else Const(value)


def operands(values: Mapping[str, Any]) -> tuple[Operand, ...]:
    return tuple(Operand(name, expression(value)) for name, value in values.items())


def parameter(value: str, type_: Type = STR, name: str | None = None) -> Parameter:
    return Parameter(ValueId(value), Field(name or value.rpartition("/")[2].rpartition(":")[2], type_))


def region(nodes: Sequence[Node] = (), value: Any = None, /, **results: Any) -> Region:
    """A region that yields ``results``, or one unnamed value."""
    return Region((), tuple(nodes), operands(results if value is None else {"": value}))


# -- nodes -----------------------------------------------------------------------------------------------------------


def lm(id: str, text: Any = "x", module: str = "M") -> LmCall:
    return LmCall(NodeId(id), module, operands({"text": text}), RecordType(f"{module}.out", (OUT,)))


def python(id: str, extern: str, kind: ExternKind, type_: Type = STR, **arguments: Any) -> ExternCall:
    kinds: Any = {"fn": "fn.call", "retriever": "retrieve", "tool": "tool.call"}
    return ExternCall(NodeId(id), extern, operands(arguments), type_, kinds[kind])


def call(id: str, flow: str, **arguments: Any) -> FlowCall:
    return FlowCall(NodeId(id), flow, operands(arguments), RecordType(f"{flow}.out", (OUT,)))


def expr(id: str, value: Any, type_: Type = STR) -> ExprNode:
    return ExprNode(NodeId(id), expression(value), type_)


def check(id: str, condition: Any, message: str = "it holds", kind: Any = "assert") -> CheckNode:
    return CheckNode(NodeId(id), expression(condition), message, kind)


def each(id: str, items: Any, body: Region, element: str, condition: Region | None = None) -> MapNode:
    return MapNode(NodeId(id), expression(items), parameter(element), condition, body, ListType(STR))


def either(id: str, condition: Any, then: Region, otherwise: Region, *names: str) -> IfNode:
    """Its values are `id:name`; without names it has one, named as the node."""
    results = tuple(parameter(f"{id}:{name}") for name in names) or (parameter(id),)
    return IfNode(NodeId(id), expression(condition), then, otherwise, results)


def when(id: str, condition: Any, then: Sequence[Node], otherwise: Sequence[Node] = ()) -> IfNode:
    """An if statement that changes nothing."""
    return IfNode(NodeId(id), expression(condition), region(then), region(otherwise), ())


def repeat(id: str, limit: int, carried: Mapping[str, Any], body: Region, index: str | None = None) -> LoopNode:
    inside = tuple(Carried(parameter(f"{id}/{name}"), expression(value)) for name, value in carried.items())
    counter = None if index is None else parameter(f"{id}/{index}", INT)
    given = (*([counter] if counter else []), *(one.parameter for one in inside))
    results = tuple(parameter(f"{id}:{name}") for name in carried)
    return LoopNode(NodeId(id), limit, counter, inside, Region(given, body.nodes, body.results), results)


def stop(id: str, condition: Any, loop: str, **values: Any) -> ExitIf:
    return ExitIf(NodeId(id), expression(condition), NodeId(loop), operands(values))


def leave(id: str, **values: Any) -> Return:
    return Return(NodeId(id), operands(values))


def catch(id: str, body: Region, fallback: Region, message: str | None = None) -> CatchNode:
    return CatchNode(NodeId(id), body, None if message is None else parameter(message), fallback, STR)


# -- programs --------------------------------------------------------------------------------------------------------


def module(name: str = "M", **settings: Any) -> ModuleSpec:
    settings = {"inputs": (Field("text", STR),), "outputs": (OUT,), "instruction": f"Do {name}.", **settings}
    return ModuleSpec(name, **settings)


def flow(
    name: str,
    nodes: Sequence[Node],
    results: Mapping[str, Any],
    inputs: Mapping[str, Type] | None = None,
    outputs: Mapping[str, Type] | None = None,
) -> FlowSpec:
    """Types of outputs are str where nothing else is said."""
    given = tuple(Field(one, type_) for one, type_ in (inputs or {}).items())
    gives = tuple(Field(one, (outputs or {}).get(one, STR)) for one in results)
    parameters = tuple(Parameter(ValueId(f"{name}/{field.name}"), field) for field in given)
    return FlowSpec(name, given, gives, Region(parameters, tuple(nodes), operands(results)))


def extern(
    name: str, kind: ExternKind, result: Type = STR, inputs: Sequence[Field] = (), **settings: Any
) -> ExternSpec:
    """`def name` of the program's tools.py."""
    return ExternSpec(name, kind, tuple(inputs), result, f"tools:{name}", **settings)


def program(
    *flows: FlowSpec,
    root: Path | None = None,
    modules: Iterable[ModuleSpec] = (),
    externs: Iterable[ExternSpec] = (),
    metrics: Iterable[MetricSpec] = (),
    **parts: Any,
) -> Program:
    """A program with the module `M`, and these."""

    def by_name(these: Iterable[Any]) -> Any:
        return tuple(sorted(these, key=lambda one: one.name))

    parts.setdefault("lms", (LmSpec(DEFAULT_LM),))
    graph = Graph(
        "hand",
        modules=by_name([module(), *modules]),
        externs=by_name(externs),
        flows=by_name(flows),
        metrics=by_name(metrics),
        entry=flows[0].name,
        **parts,
    )
    return Program.default(graph, root)


def write_tools(folder: Path, text: str) -> Path:
    (folder / "tools.py").write_text(text, encoding="utf-8")
    return folder


def text_of(prompt: str) -> str:
    """What the module `M` was given."""
    from lmgraph.testing import last_user_turn

    return last_user_turn(prompt).partition("text: ")[2].partition("\n")[0]


PASS_NAMES = tuple(one.name for one in PASSES)


def echo() -> ScriptedEngine:
    """Answers with what it was given, in brackets."""
    return ScriptedEngine(lambda prompt, request: f"[{text_of(prompt)}]")


def scripted(answers: Callable[[str], Any]) -> ScriptedEngine:
    """Answers by a function of what `M` was given."""
    return ScriptedEngine(lambda prompt, request: answers(text_of(prompt)))


def failing(*texts: str) -> ScriptedEngine:
    """An engine that fails where `M` is given one of these."""
    return scripted(lambda text: EngineError(f"no {text}") if text in texts else f"[{text}]")


async def run(
    of: Program,
    engine: ScriptedEngine | None = None,
    /,
    flow: str | None = None,
    options: RunOptions | None = None,
    **inputs: Any,
) -> Trace:
    """Run it as it is written: graphs made by hand hold calls that nobody reads, and passes would remove them."""
    async with Runtime(everything=engine or echo(), passes_off=PASS_NAMES) as runtime:
        return await runtime.run(of, inputs, flow=flow, options=options)


def keys(trace: Trace) -> list[str]:
    return [one.call_key for one in trace.calls]
