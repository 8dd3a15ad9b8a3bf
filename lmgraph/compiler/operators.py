"""Operators on types: arithmetic, comparison, membership."""

from __future__ import annotations

from dataclasses import dataclass

from lmgraph.compiler.checker import UNION_HELP, Checker, is_empty_list
from lmgraph.compiler.relations import UNKNOWN, a_type, comparable, is_number, is_text, join, mentions_unknown, present
from lmgraph.compiler.scope import Scope, path_of
from lmgraph.graph.types import (
    FLOAT,
    INT,
    NULL,
    STR,
    EnumType,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    Type,
    UnionType,
)
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.tree_walk import walk


def binary_type(node: tree.Binary, scope: Scope, checker: Checker) -> Type:
    """The type of `left + right` and of the other arithmetic operators."""
    left, right = _sides(node.left, node.right, scope, checker)
    for side, found in ((node.left, left), (node.right, right)):
        if isinstance(found, OptionalType):
            checker.report_null(side, f"`{node.operator}` needs a value; this may be null")
            return UNKNOWN
    if mentions_unknown(left) or mentions_unknown(right):
        return UNKNOWN
    if is_number(left) and is_number(right):
        return FLOAT if node.operator == "/" or FLOAT in (left, right) else INT
    if node.operator == "+":
        if is_text(left) and is_text(right):
            return STR
        if isinstance(left, ListType) and isinstance(right, ListType):
            joined = join(left, right)
            if joined is not None:
                return joined
    _does_not_fit(node.operator, (node.left, left), (node.right, right), checker)
    return UNKNOWN


def negated_type(node: tree.Unary, scope: Scope, checker: Checker) -> Type:
    found = checker.infer(node.operand, scope)
    if mentions_unknown(found):
        return UNKNOWN
    if isinstance(found, OptionalType):
        checker.report_null(node.operand, "`-` needs a number; this may be null")
        return UNKNOWN
    if is_number(found):
        return FLOAT if found == FLOAT else INT
    checker.reporter.error("E0309", node.operand.span, f"`-` needs a number; this is {a_type(found)}")
    return UNKNOWN


def check_comparison(node: tree.Comparison, scope: Scope, checker: Checker) -> None:
    """A chain is checked pair by pair, and what stands between two operators is part of two pairs. A flow binds it to
    a value of its own; where there are no values, a chain inside a chain would double the expression at each level."""
    if scope.no_calls is not None:
        inner = next((one for one in walk(node.operands[1:-1]) if _is_chain(one)), None)
        if inner is not None:
            checker.no_calls(inner.span, "a chain of comparisons inside another one", scope)
    found = [None if is_empty_list(operand) else checker.infer(operand, scope) for operand in node.operands]
    for index, operator in enumerate(node.operators):
        pair = _Pair(node.operands[index], found[index], node.operands[index + 1], found[index + 1], operator)
        if operator in ("in", "not in"):
            _check_membership(pair, scope, checker)
        elif operator in ("==", "!="):
            _check_equality(pair, scope, checker)
        else:
            _check_order(pair, scope, checker)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two operands with their types; None of an empty list, which takes its type from the other side."""

    left: tree.Expression
    left_type: Type | None
    right: tree.Expression
    right_type: Type | None
    operator: str


def _is_chain(node: object) -> bool:
    return isinstance(node, tree.Comparison) and len(node.operators) > 1


def _check_order(pair: _Pair, scope: Scope, checker: Checker) -> None:
    left, right = pair.left_type or checker.infer(pair.left, scope), pair.right_type or checker.infer(pair.right, scope)
    for side, one in ((pair.left, left), (pair.right, right)):
        if isinstance(one, OptionalType):
            checker.report_null(side, f"`{pair.operator}` needs a value; this may be null")
            return
    both = (left, right)
    if any(mentions_unknown(one) for one in both) or all(map(is_number, both)) or all(map(is_text, both)):
        return
    _does_not_fit(pair.operator, (pair.left, left), (pair.right, right), checker)


def _check_equality(pair: _Pair, scope: Scope, checker: Checker) -> None:
    left, right = pair.left, pair.right
    left_type, right_type = _filled(left, pair.left_type, right, pair.right_type, scope, checker)
    if _check_constant(left, right_type, checker) or _check_constant(right, left_type, checker):
        return
    if comparable(left_type, right_type):
        return
    outcome = "false" if pair.operator == "==" else "true"
    if NULL in (left_type, right_type) and left_type != right_type:
        value, found = (right, right_type) if left_type == NULL else (left, left_type)
        if path_of(value) in scope.not_null:
            checker.reporter.warning(
                "W0012",
                value.span,
                "this is never null here: it was compared with null, or set to a value, before",
                help=f"the comparison is always {outcome}; leave it out",
            )
            return
        checker.reporter.error(
            "E0316",
            value.span,
            f"this is {a_type(found)}, never null",
            help=f"the comparison is always {outcome}; leave it out",
        )
        return
    if left_type == right_type == NULL:
        checker.reporter.error("E0316", left.span.to(right.span), "null is compared with itself", help="leave it out")
        return
    checker.reporter.error(
        "E0316",
        left.span.to(right.span),
        f"{a_type(left_type)} never equals {a_type(right_type)}",
        secondary=[
            Label(left.span, f"{a_type(left_type)}"),
            Label(right.span, f"{a_type(right_type)}"),
        ],
        help=f"as it stands the comparison is always {outcome}",
    )


def _check_membership(pair: _Pair, scope: Scope, checker: Checker) -> None:
    left, right, operator = pair.left, pair.right, pair.operator
    if pair.right_type is None:
        checker.reporter.error("E0316", right.span, "nothing is in an empty list", help="leave the comparison out")
        return
    found = pair.right_type
    if pair.left_type is None and isinstance(found, ListType):
        checker.check(left, scope, found.element, "an element of the list")
        return
    item = pair.left_type or checker.infer(left, scope)
    if mentions_unknown(item) or mentions_unknown(found):
        return
    if isinstance(found, OptionalType):
        checker.report_null(right, f"`{operator}` needs a list or a text; this may be null")
        return
    if isinstance(found, ListType):
        if _check_constant(left, found.element, checker):
            return
        written = right.items if isinstance(right, tree.ListExpression) else ()
        if [one for one in written if _check_constant(one, item, checker)]:
            return
        if not comparable(item, found.element) and not (item == NULL and isinstance(found.element, OptionalType)):
            _never_in(left, item, right, found, checker)
    elif is_text(found) or isinstance(found, MapType):
        if isinstance(item, OptionalType) and is_text(found):
            checker.report_null(left, f"`{operator}` looks for a text; this may be null")
        elif not (is_text(present(item)) or isinstance(present(item), EnumType)):
            _never_in(left, item, right, found, checker)
    else:
        checker.reporter.error(
            "E0309", right.span, f"`{operator}` looks into a list, a map or a text; this is {a_type(found)}"
        )


def _never_in(left: tree.Expression, item: Type, right: tree.Expression, found: Type, checker: Checker) -> None:
    checker.reporter.error(
        "E0316",
        left.span.to(right.span),
        f"{a_type(item)} is never in {a_type(found)}",
        secondary=[Label(left.span, f"{a_type(item)}"), Label(right.span, f"{a_type(found)}")],
    )


def _sides(left: tree.Expression, right: tree.Expression, scope: Scope, checker: Checker) -> tuple[Type, Type]:
    """The types of both sides; an empty list has the type of the other side."""
    found = [None if is_empty_list(side) else checker.infer(side, scope) for side in (left, right)]
    return _filled(left, found[0], right, found[1], scope, checker)


def _filled(
    left: tree.Expression,
    left_type: Type | None,
    right: tree.Expression,
    right_type: Type | None,
    scope: Scope,
    checker: Checker,
) -> tuple[Type, Type]:
    """Both types, where an empty list has that of the other side."""
    if left_type is None and right_type is None:
        return checker.infer(left, scope), checker.infer(right, scope)
    if left_type is None and right_type is not None:
        return _as_empty(left, right_type, "the left side", scope, checker), right_type
    if right_type is None and left_type is not None:
        return left_type, _as_empty(right, left_type, "the right side", scope, checker)
    assert left_type is not None
    assert right_type is not None
    return left_type, right_type


def _as_empty(node: tree.Expression, other: Type, what: str, scope: Scope, checker: Checker) -> Type:
    wanted = present(other)
    checker.check(node, scope, wanted, what)
    return wanted if isinstance(wanted, ListType) else UNKNOWN


def _check_constant(node: tree.Expression, other: Type, checker: Checker) -> bool:
    """Whether ``node`` is a text or number written out that a value of the closed type ``other`` never equals.

    A text that an enum's value is compared with must be one of its labels: a mistyped one would never be equal.
    """
    if not isinstance(node, tree.Constant) or isinstance(node.value, bool):
        return False
    wanted, value = present(other), node.value
    if isinstance(wanted, EnumType) and isinstance(value, str):
        if value in checker.declarations.labels(wanted).values():
            return False
        _unknown_label(wanted, value, node.span, checker)
        return True
    if isinstance(wanted, LiteralType) and isinstance(value, str | int) and value not in wanted.values:
        checker.reporter.error(
            "E0316",
            node.span,
            f"{a_type(wanted)} is never this {'text' if isinstance(value, str) else 'number'}",
            help=checker.reporter.did_you_mean(str(value), [str(one) for one in wanted.values]),
        )
        return True
    return False


def _unknown_label(enum: EnumType, text: str, span: Span, checker: Checker) -> None:
    names = {member.name: member for member in enum.members}
    if text in names:
        checker.reporter.error(
            "E0307",
            span,
            f'this text is the name of a member of `{enum.name}`; its label is "{names[text].label}"',
            help=f"write `{enum.name}.{text}`",
        )
        return
    checker.reporter.error(
        "E0307",
        span,
        f"no member of `{enum.name}` has this label",
        help=checker.reporter.did_you_mean(text, enum.labels)
        or f"name a member, as in `{enum.name}.{enum.members[0].name}`",
    )


def _does_not_fit(
    operator: str, left: tuple[tree.Expression, Type], right: tuple[tree.Expression, Type], checker: Checker
) -> None:
    wanted = "numbers, two texts or two lists" if operator == "+" else "numbers"
    if operator in ("<", "<=", ">", ">="):
        wanted = "numbers or two texts"
    checker.reporter.error(
        "E0309",
        left[0].span.to(right[0].span),
        f"`{operator}` needs two {wanted}",
        secondary=[Label(node.span, f"{a_type(found)}") for node, found in (left, right)],
        help=_without(operator, left[1], right[1]),
    )


def _without(operator: str, left: Type, right: Type) -> str | None:
    """What to do where the operator does not fit."""
    if UnionType in (type(left), type(right)):
        return UNION_HELP
    if operator == "+" and (is_text(left) or is_text(right)):
        return "a number becomes no text by itself; let an `fn` or a module write it"
    return None
