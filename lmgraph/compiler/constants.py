"""Values that are written out in the program: defaults of fields, and the expressions that give them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmgraph.compiler.blocks import number_of
from lmgraph.compiler.relations import described, mentions_unknown, present
from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.nodes import Const, Expr, MakeList
from lmgraph.graph.types import BOOL, FLOAT, INT, STR, EnumType, ListType, LiteralType, OptionalType, Type, UnionType
from lmgraph.source.diagnostic import Fix
from lmgraph.syntax import tree

MemberReader = Callable[[tree.Attribute], tuple[EnumType, str] | None]
"""Gives the enum and the label that `Team.billing` means; None where it is no member or was reported."""


class Refused(Exception):
    """The default was reported, or its type was."""


def default_value(node: tree.Expression, target: Type, member: MemberReader, reporter: Reporter) -> Any:
    """The plain value of a default of type ``target``; whole numbers become floats where the type says float.

    Raises: Refused.
    """
    if mentions_unknown(target):
        raise Refused
    inner = present(target)
    if isinstance(inner, UnionType):
        for option in inner.options:
            try:
                return default_value(node, option, member, Reporter())
            except Refused:
                pass
    match node:
        case tree.Constant(value=None) if isinstance(target, OptionalType):
            return None
        case tree.Constant(value=bool() as value) if inner == BOOL:
            return value
        case tree.Constant(value=str() as text) if inner == STR or (
            isinstance(inner, LiteralType) and text in inner.values
        ):
            return text
        case tree.Constant() | tree.Unary(operator="-"):
            number = number_of(node)
            if number is not None and inner == FLOAT:
                return float(number)
            if isinstance(number, int) and (
                inner == INT or (isinstance(inner, LiteralType) and number in inner.values)
            ):
                return number
        case tree.ListExpression(items=items) if isinstance(inner, ListType):
            return [default_value(item, inner.element, member, reporter) for item in items]
        case tree.Attribute(base=tree.Reference()):
            found = member(node)
            if found is None:
                raise Refused
            if found[0] == inner:
                return found[1]
        case tree.ListExpression():
            pass
        case _:
            reporter.error(
                "E0313",
                node.span,
                "a default is a value written out, not something to compute",
                help="write a number, a text, `true`, `false`, `null`, a list of these, or an enum member",
            )
            raise Refused
    fix = None
    if isinstance(inner, EnumType) and isinstance(node, tree.Constant):
        name = next((one.name for one in inner.members if node.value in (one.name, one.label)), None)
        fix = Fix(node.span, f"{inner.name}.{name}", f"write `{inner.name}.{name}`") if name else None
    reporter.error("E0301", node.span, f"this default is no `{described(target)}`", fix=fix)
    raise Refused


def constant(value: Any) -> Expr:
    """The expression whose plain value is ``value``, a default."""
    return MakeList(tuple(constant(item) for item in value)) if isinstance(value, list) else Const(value)
