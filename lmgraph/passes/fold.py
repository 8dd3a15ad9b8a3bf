"""Constant folding: what is known before the run is computed once, and an `if` whose condition is known is its branch.

A value that is a constant, or another value under a second name, is read directly by those after it. Checks keep what
they say: a record of one names what the author wrote. An expression that would fail stays where it is and fails there.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmgraph.graph.expressions import (
    Apply,
    Choose,
    Const,
    Ensure,
    Expr,
    GetField,
    GetItem,
    MakeList,
    MakeRecord,
    Ref,
    with_parts,
)
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import ExprNode, IfNode, Node, NodeId, Region, ValueId
from lmgraph.graph.walk import leaves
from lmgraph.passes.facts import Facts
from lmgraph.passes.rewrite import each_body, with_expressions, with_nodes, with_regions
from lmgraph.program.expressions import compile_expression

LONGEST_TEXT = 1_000
"""Longer texts are made in the run: a graph of doubled and doubled ones would not fit in memory."""
LARGEST_NUMBER = 10**18


def fold(graph: Graph) -> Graph:
    """Assumes that expressions are well typed."""
    facts = Facts(graph)
    return each_body(graph, lambda name, body: _Folding(facts).region(body))


def simplified(expression: Expr, facts: Facts) -> Expr:
    """An expression that is equal to it in every run, with what is known computed."""
    return _Folding(facts).expression(expression)


class _Folding:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._known: dict[ValueId, Const | Ref] = {}

    def region(self, region: Region) -> Region:
        nodes = [inner for node in region.nodes for inner in self._node(node)]
        return with_nodes(region, nodes, self.expression)

    def _node(self, node: Node) -> Iterator[Node]:
        node = with_regions(with_expressions(node, self.expression), self.region)
        if isinstance(node, ExprNode) and isinstance(node.expression, Const | Ref):
            self._known[ValueId(node.id)] = node.expression
        # Where an assert in it is false, nothing that reads its results is called; one that acts may not begin at all.
        if (
            isinstance(node, IfNode)
            and isinstance(node.condition, Const)
            and not leaves(node)
            and node.id not in self._facts.must_succeed
        ):
            branch = node.then if node.condition.value else node.otherwise
            if all(self._facts.is_total(result.value) for result in branch.results):
                yield from branch.nodes
                for parameter, result in zip(node.results, branch.results, strict=True):
                    if isinstance(result.value, Const | Ref):
                        self._known[parameter.id] = result.value
                    yield ExprNode(NodeId(parameter.id), result.value, parameter.field.type)
                return
        yield node

    def expression(self, expression: Expr) -> Expr:
        """Equal to the expression in every run."""
        if isinstance(expression, Ref):
            return self._known.get(expression.value, expression)
        expression = with_parts(expression, self.expression)
        match expression:
            case Choose(condition=Const(value=value)):
                return expression.when_true if value else expression.when_false
            case Apply(operator="and", operands=(Const(value=value) as left, right)):
                return right if value else left
            case Apply(operator="or", operands=(Const(value=value) as left, right)):
                return left if value else right
            case GetField(base=MakeRecord(fields=fields), name=name) if all(
                self._facts.is_sure(field.value) for field in fields if field.name != name
            ):
                return next((field.value for field in fields if field.name == name), expression)
            case Apply(operands=parts) | GetItem(base=MakeList(items=parts), index=Const()):
                return _computed(expression) if all(isinstance(one, Const) for one in parts) else expression
            case Ensure(value=Const()):
                return _computed(expression)
            case _:
                return expression


def _computed(expression: Expr) -> Expr:
    """Its value, or the expression where there is none, or none that is small and plain."""
    try:
        value = compile_expression(expression)({})
    except Exception:  # it has no value, or stands where no run gets to, such as len(x) behind `x != null and`
        return expression
    match value:
        case bool() | None:
            return Const(value)
        case int() | float() if abs(value) <= LARGEST_NUMBER:
            return Const(value)
        case str() if len(value) <= LONGEST_TEXT:
            return Const(value)
        case _:
            return expression
