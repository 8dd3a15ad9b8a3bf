"""The graph as text: one line a declaration or node, what stands in a region indented under its node."""

from __future__ import annotations

from collections.abc import Iterator

from lmgraph.graph.draw_declarations import (
    dataset_text,
    extern_text,
    fields_text,
    lm_text,
    module_lines,
    objective_text,
    quoted,
)
from lmgraph.graph.expression_text import cut, expression_text, short_text
from lmgraph.graph.graph import FlowSpec, Graph, MetricSpec
from lmgraph.graph.nodes import (
    CatchNode,
    CheckNode,
    ExitIf,
    ExprNode,
    ExternCall,
    FlowCall,
    IfNode,
    LmCall,
    LoopNode,
    MapNode,
    Node,
    Operand,
    Parameter,
    Region,
    ReleaseNode,
    Return,
)
from lmgraph.graph.topology import Chain, critical_paths


def to_text(graph: Graph) -> str:
    """The whole graph, one line a declaration or node."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield f"graph {graph.name} (edition {graph.edition})" + (f", entry {graph.entry}" if graph.entry else "")
    for enum in graph.enums:
        yield f"enum {enum.name}: {cut(', '.join(member.name for member in enum.members))}"
    for record in graph.records:
        yield f"record {record.name}({fields_text(record.fields)})"
    for lm in graph.lms:
        yield lm_text(lm)
    for extern in graph.externs:
        yield extern_text(extern)
    for module in graph.modules:
        yield from module_lines(module)
    for moved in graph.moved:
        yield f"moved {moved.old} -> {moved.new}"
    chains = critical_paths(graph)
    for flow in graph.flows:
        yield ""
        yield from _flow(flow, chains)
    if graph.datasets or graph.metrics or graph.objectives:
        yield ""
    for dataset in graph.datasets:
        yield dataset_text(dataset)
    for metric in graph.metrics:
        yield from _metric(metric)
    for objective in graph.objectives:
        yield objective_text(objective)


# -- flows and metrics -----------------------------------------------------------------------------------------------


def _flow(flow: FlowSpec, chains: dict[str, Chain]) -> Iterator[str]:
    yield f"flow {flow.name}({fields_text(flow.inputs)}) -> ({fields_text(flow.outputs)})"
    yield from _region(flow.body, "  ", "return")
    chain = chains[flow.name]
    # Steps that stand for more than one call each are counted; the others speak for themselves.
    counted = f" ({chain.calls} calls)" if chain.calls != len(chain.steps) else ""
    yield f"  longest chain of calls: {' > '.join(chain.steps) if chain.steps else 'none'}{counted}"


def _metric(metric: MetricSpec) -> Iterator[str]:
    gold, pred, body = metric.gold, metric.pred, metric.body
    header = f"metric {metric.name}({gold.name}: {gold.type}, {pred.name}: {metric.flow}.{metric.reads})"
    if body is None:
        yield f"{header} -> {metric.result} = py {metric.python}"
    elif not body.nodes:
        yield f"{header} -> {metric.result} = {short_text(body.results[0].value)}"
    else:
        yield f"{header} -> {metric.result}"
        yield from _region(body, "  ", "return")


def _region(region: Region, indent: str, word: str = "yield") -> Iterator[str]:
    for node in region.nodes:
        yield f"{indent}{node.id} = {_node(node)}"
        if isinstance(node, LoopNode):
            for one in node.carried:
                parameter = one.parameter
                yield f"{indent}  carry {parameter.id} = {expression_text(one.initial)}: {parameter.field.type}"
        for name, inner in _inner(node):
            if name:
                yield f"{indent}{name}"
            yield from _region(inner, f"{indent}  ")
    if region.results and not (region.nodes and isinstance(region.nodes[-1], Return)):
        yield f"{indent}{word} {_operands(region.results)}"


def _inner(node: Node) -> Iterator[tuple[str, Region]]:
    """The regions of a node, each with the line that stands before it."""
    match node:
        case MapNode(condition=condition, body=body):
            if condition is not None and condition.nodes:
                yield "where", condition
                yield "each", body
            else:
                yield "", body
        case IfNode(then=then, otherwise=otherwise):
            yield "", then
            if otherwise.nodes or otherwise.results:
                yield "else", otherwise
        case LoopNode(body=body):
            yield "", body
        case CatchNode(body=body, message=message, fallback=fallback):
            yield "", body
            yield f"where it fails{f' with {message.id}' if message is not None else ''}", fallback
        case _:
            return


def _node(node: Node) -> str:
    match node:
        case LmCall(module=module, arguments=arguments):
            return f"{module}({_operands(arguments)})"
        case ExternCall(extern=extern, arguments=arguments, type=type, kind=kind):
            return f"{kind.removesuffix('.call')} {extern}({_operands(arguments)}): {type}"
        case FlowCall(flow=flow, arguments=arguments):
            return f"flow {flow}({_operands(arguments)})"
        case ExprNode(expression=expression, type=type, label=label):
            return f"{expression_text(expression)}: {'private ' if label == 'private' else ''}{type}"
        case ReleaseNode(expression=expression, reason=reason, type=type):
            return f"release {expression_text(expression)} because {quoted(reason)}: {type}"
        case CheckNode(condition=condition, message=message, kind=kind):
            return f"{kind} {expression_text(condition)} else {quoted(message)}"
        case MapNode(element=element, items=items, condition=condition, type=type):
            simple = condition is not None and not condition.nodes
            kept = f" if {_operands(condition.results)}" if condition is not None and simple else ""
            return f"map {element.id} in {expression_text(items)}{kept}: {type}"
        case IfNode(condition=condition, results=results):
            return f"if {expression_text(condition)}{_results(results)}"
        case LoopNode(limit=limit, index=index, results=results):
            counted = f" as {index.id}" if index is not None else ""
            gives = f": ({', '.join(one.field.name for one in results)})" if results else ""
            return f"loop at most {limit}{counted}{gives}"
        case ExitIf(condition=condition, loop=loop, results=results):
            given = f" with {_operands(results)}" if results else ""
            return f"exit {loop} if {expression_text(condition)}{given}"
        case Return(results=results):
            return f"return {_operands(results)}"
        case CatchNode(type=type):
            return f"catch: {type}"


def _results(results: tuple[Parameter, ...]) -> str:
    """What an if gives: a type, or names with their types; the values are `node:name`."""
    if not results:
        return ""
    if not results[0].field.name:
        return f": {results[0].field.type}"
    return f": ({', '.join(f'{one.field.name}: {one.field.type}' for one in results)})"


def _operands(operands: tuple[Operand, ...]) -> str:
    return ", ".join(
        f"{operand.name}={expression_text(operand.value)}" if operand.name else expression_text(operand.value)
        for operand in operands
    )
