"""The graph for people: indented text, a Mermaid flowchart, Graphviz dot. Draws what is there and decides nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

from lmgraph.graph.graph import FlowSpec, Graph, ModuleSpec
from lmgraph.graph.nodes import (
    Apply,
    Choose,
    Const,
    Expr,
    ExprNode,
    GetField,
    GetItem,
    LmCall,
    MakeList,
    MakeRecord,
    MapNode,
    Node,
    Operand,
    Ref,
    Region,
)
from lmgraph.graph.topology import critical_path, result_of, to_networkx
from lmgraph.graph.types import Field

MOST_CHARACTERS = 60
"""A longer text inside an expression is cut."""


# -- text ------------------------------------------------------------------------------------------------------------


def to_text(graph: Graph) -> str:
    """The whole graph, one line a declaration or node."""
    return "\n".join(_text_lines(graph)) + "\n"


def _text_lines(graph: Graph) -> Iterator[str]:
    yield f"graph {graph.name} (edition {graph.edition})" + (f", entry {graph.entry}" if graph.entry else "")
    for enum in graph.enums:
        yield f"enum {enum.name}: {_cut(', '.join(member.name for member in enum.members))}"
    for record in graph.records:
        yield f"record {record.name}({_fields(record.fields)})"
    for lm in graph.lms:
        settings = [("model", lm.model), ("engine", lm.engine), ("temperature", lm.temperature)]
        told = ", ".join(f"{key} {value}" for key, value in settings if value is not None)
        yield f"lm {lm.name}: {told or 'bound at run time'}"
    for module in graph.modules:
        yield f"module {module.name}({_fields(module.inputs)}) -> ({_fields(module.outputs)}): {_settings(module)}"
    for flow in graph.flows:
        yield ""
        yield f"flow {flow.name}({_fields(flow.inputs)}) -> ({_fields(flow.outputs)})"
        yield from _region_lines(flow.body, "  ")
        yield f"  return {_operands(flow.body.results)}"
        chain = critical_path(graph, flow.name)
        yield f"  longest chain of calls: {' > '.join(chain) if chain else 'none'}"
    if graph.datasets or graph.metrics or graph.objectives:
        yield ""
    for dataset in graph.datasets:
        splits = ", ".join(
            f"{split.name} {next(one for one in (split.share, split.count, split.path) if one is not None)}"
            for split in dataset.splits
        )
        told = f" split {splits}, seed {dataset.seed}" if splits else ""
        yield f"dataset {dataset.name}: {dataset.record} = {dataset.format} {json.dumps(dataset.path)}{told}"
    for metric in graph.metrics:
        body = expression_text(metric.expression) if metric.expression is not None else f"py {metric.python}"
        gold, pred = metric.gold, metric.pred
        yield (
            f"metric {metric.name}({gold.name}: {gold.type}, {pred.name}: {metric.flow}.{metric.reads}) "
            f"-> {metric.result} = {body}"
        )
    for objective in graph.objectives:
        terms = [f"{weight:g} {name}" for name, weight in zip(objective.metrics, objective.weights, strict=True)]
        knobs = ", ".join(f"{module}.{knob}" for module, knob in objective.knobs) or "everything that may be"
        yield (
            f"objective {objective.name}: {' + '.join(terms)} of {objective.flow} on {objective.data}, "
            f"from {objective.low:g} to {objective.high:g}; optimizes {knobs}"
        )


def _settings(module: ModuleSpec) -> str:
    parts = [module.strategy, f"lm {module.lm}", f"max_tokens {module.max_tokens}"]
    parts += [f"temperature {module.temperature:g}"] if module.temperature is not None else []
    parts += [f"retries {module.retries}"] if module.retries else []
    parts += [] if module.optimize else ["not optimized"]
    return ", ".join(parts)


def _fields(fields: tuple[Field, ...]) -> str:
    return ", ".join(f"{one.name}: {one.type}{_default(one)}" for one in fields)


def _default(field: Field) -> str:
    return f" = {json.dumps(field.default, ensure_ascii=False)}" if field.has_default else ""


def _region_lines(region: Region, indent: str) -> Iterator[str]:
    for node in region.nodes:
        yield f"{indent}{node.id} = {_node_text(node)}"
        if isinstance(node, MapNode):
            yield from _region_lines(node.body, indent + "  ")
            yield f"{indent}  yield {expression_text(node.body.results[0].value)}"


def _node_text(node: Node) -> str:
    match node:
        case LmCall(module=module, arguments=arguments):
            return f"{module}({_operands(arguments)})"
        case ExprNode(expression=expression, type=type):
            return f"{expression_text(expression)}: {type}"
        case MapNode(items=items, condition=condition, body=body, type=type):
            kept = f" if {expression_text(condition)}" if condition is not None else ""
            return f"map {body.parameters[0].id} in {expression_text(items)}{kept}: {type}"


def _operands(operands: tuple[Operand, ...]) -> str:
    return ", ".join(f"{operand.name}={expression_text(operand.value)}" for operand in operands)


def expression_text(expression: Expr) -> str:
    """The expression over value ids, in the language's own notation; operators inside operators in parentheses."""
    match expression:
        case Const(value=value):
            return _cut(json.dumps(value, ensure_ascii=False))
        case Ref(value=value):
            return value
        case GetField(base=base, name=name):
            return f"{_inner(base)}.{name}"
        case GetItem(base=base, index=index):
            return f"{_inner(base)}[{expression_text(index)}]"
        case MakeList(items=items):
            return f"[{', '.join(expression_text(item) for item in items)}]"
        case MakeRecord(record=record, fields=fields):
            return f"{record}({', '.join(f'{field.name}={expression_text(field.value)}' for field in fields)})"
        case Apply(operator="len", operands=(operand,)):
            return f"len({expression_text(operand)})"
        case Apply(operator="not", operands=(operand,)):
            return f"not {_inner(operand)}"
        case Apply(operator="neg", operands=(operand,)):
            return f"-{_inner(operand)}"
        case Apply(operator=operator, operands=operands):
            return f" {operator} ".join(_inner(operand) for operand in operands)
        case Choose(condition=condition, when_true=when_true, when_false=when_false):
            return f"if {_inner(condition)} then {_inner(when_true)} else {_inner(when_false)}"


def _inner(expression: Expr) -> str:
    text = expression_text(expression)
    plain = isinstance(expression, Apply) and expression.operator == "len"
    return f"({text})" if isinstance(expression, Apply | Choose) and not plain else text


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


# -- pictures --------------------------------------------------------------------------------------------------------


def to_mermaid(graph: Graph) -> str:
    """A Mermaid flowchart, one subgraph a flow; maps are subgraphs of their own."""
    lines = ["flowchart TD"]
    for flow in graph.flows:
        names = _numbered(graph, flow, len(lines))
        lines.append(f'  subgraph {names[flow.name]}["{_mermaid(f"flow {flow.name}")}"]')
        lines += [f'    {names[one.id]}(["{_mermaid(one.field.name)}"])' for one in flow.body.parameters]
        lines += _mermaid_region(flow.body, names, "    ")
        lines.append(f'    {names[result_of(flow.name)]}(["{_mermaid("return")}"])')
        lines.append("  end")
        lines += [f"  {names[source]} --> {names[target]}" for source, target in to_networkx(graph, flow.name).edges]
    return "\n".join(lines) + "\n"


def _mermaid_region(region: Region, names: dict[str, str], indent: str) -> Iterator[str]:
    for node in region.nodes:
        match node:
            case LmCall(id=id, module=module):
                yield f'{indent}{names[id]}["{_mermaid(module)}<br/>{_mermaid(_short(id))}"]'
            case ExprNode(id=id, expression=expression):
                yield f'{indent}{names[id]}["{_mermaid(_short(id))} = {_mermaid(_cut(expression_text(expression)))}"]'
            case MapNode(id=id, body=body):
                element = body.parameters[0]
                yield f'{indent}subgraph {names[id]}_body["{_mermaid(f"map {_short(id)}")}"]'
                yield f'{indent}  {names[element.id]}(["{_mermaid(element.field.name)}"])'
                yield from _mermaid_region(body, names, indent + "  ")
                yield f"{indent}end"
                yield f'{indent}{names[id]}["{_mermaid(_short(id))}"]'


def _mermaid(text: str) -> str:
    """Text inside a quoted label: every sign that Mermaid or HTML could read as markup becomes an entity."""
    return "".join(char if char.isalnum() or char in " _.,:=" else f"#{ord(char)};" for char in text)


def to_dot(graph: Graph) -> str:
    """Graphviz dot, one cluster a flow; maps are clusters of their own."""
    lines = [f"digraph {_dot(graph.name)} {{", "  node [shape=box];"]
    for flow in graph.flows:
        names = _numbered(graph, flow, len(lines))
        lines.append(f"  subgraph cluster_{names[flow.name]} {{")
        lines.append(f"    label={_dot(f'flow {flow.name}')};")
        lines += [f"    {names[one.id]} [label={_dot(one.field.name)}, shape=oval];" for one in flow.body.parameters]
        lines += _dot_region(flow.body, names, "    ")
        lines.append(f"    {names[result_of(flow.name)]} [label={_dot('return')}, shape=oval];")
        lines.append("  }")
        lines += [f"  {names[source]} -> {names[target]};" for source, target in to_networkx(graph, flow.name).edges]
    return "\n".join([*lines, "}"]) + "\n"


def _dot_region(region: Region, names: dict[str, str], indent: str) -> Iterator[str]:
    for node in region.nodes:
        match node:
            case LmCall(id=id, module=module):
                label = f"{module}\n{_short(id)}"
                yield f"{indent}{names[id]} [label={_dot(label)}];"
            case ExprNode(id=id, expression=expression):
                yield f"{indent}{names[id]} [label={_dot(f'{_short(id)} = {_cut(expression_text(expression))}')}];"
            case MapNode(id=id, body=body):
                element = body.parameters[0]
                yield f"{indent}subgraph cluster_{names[id]} {{"
                yield f"{indent}  label={_dot(f'map {_short(id)}')};"
                yield f"{indent}  {names[element.id]} [label={_dot(element.field.name)}, shape=oval];"
                yield from _dot_region(body, names, indent + "  ")
                yield f"{indent}}}"
                yield f"{indent}{names[id]} [label={_dot(_short(id))}];"


def _dot(text: str) -> str:
    """A quoted dot string. Backslashes are doubled, so that no text of a program is read as an escape."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "")
    return f'"{escaped}"'


def _short(id: str) -> str:
    return id.split("/", 1)[1]


def _numbered(graph: Graph, flow: FlowSpec, start: int) -> dict[str, str]:
    """A name without special signs for the flow and each of its vertices, unique in the whole picture."""
    return {one: f"n{start}_{number}" for number, one in enumerate([flow.name, *to_networkx(graph, flow.name).nodes])}
