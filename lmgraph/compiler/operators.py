"""Operators on types: arithmetic, comparison, membership."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from lmgraph.compiler.checker import Checker, is_empty_list
from lmgraph.compiler.facts import (
    UNKNOWN,
    Scope,
    a_type,
    comparable,
    is_number,
    is_text,
    join,
    mentions_unknown,
    present,
)
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
)
from lmgraph.source.diagnostic import Label
from lmgraph.source.suggest import did_you_mean
from lmgraph.source.text import Span
from lmgraph.syntax import tree


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
    """A chain is checked pair by pair. What stands between two operators becomes part of two pairs when lowered, so
    it must not hold a chain itself: each level would double the expression."""
    inner = next((chain for operand in node.operands[1:-1] for chain in _chains(operand)), None)
    if inner is not None:
        checker.reporter.error(
            "E0001",
            inner.span,
            "a chain of comparisons inside another one is not compiled yet",
            help="bind the inner one to a name of its own first",
        )
    for index, operator in enumerate(node.operators):
        left, right = node.operands[index], node.operands[index + 1]
        if operator in ("in", "not in"):
            _check_membership(left, right, operator, scope, checker)
        elif operator in ("==", "!="):
            _check_equality(left, right, operator, scope, checker)
        else:
            _check_order(left, right, operator, scope, checker)


def _chains(node: object) -> Iterator[tree.Comparison]:
    if isinstance(node, tree.Comparison) and len(node.operators) > 1:
        yield node
    elif isinstance(node, tuple):
        for item in node:
            yield from _chains(item)
    elif is_dataclass(node) and not isinstance(node, Span):
        for field in fields(node):
            yield from _chains(getattr(node, field.name))


def _check_order(
    left: tree.Expression, right: tree.Expression, operator: str, scope: Scope, checker: Checker
) -> None:
    found = (checker.infer(left, scope), checker.infer(right, scope))
    for side, one in zip((left, right), found, strict=True):
        if isinstance(one, OptionalType):
            checker.report_null(side, f"`{operator}` needs a value; this may be null")
            return
    if any(mentions_unknown(one) for one in found) or all(map(is_number, found)) or all(map(is_text, found)):
        return
    _does_not_fit(operator, (left, found[0]), (right, found[1]), checker)


def _check_equality(
    left: tree.Expression, right: tree.Expression, operator: str, scope: Scope, checker: Checker
) -> None:
    left_type, right_type = _sides(left, right, scope, checker)
    if _check_text(left, right_type, checker) or _check_text(right, left_type, checker):
        return
    if comparable(left_type, right_type):
        return
    outcome = "false" if operator == "==" else "true"
    if NULL in (left_type, right_type):
        value, found = (right, right_type) if left_type == NULL else (left, left_type)
        checker.reporter.error(
            "E0316",
            value.span,
            f"this is {a_type(found)}, never null",
            help=f"the comparison is always {outcome}; leave it out",
        )
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


def _check_membership(
    left: tree.Expression, right: tree.Expression, operator: str, scope: Scope, checker: Checker
) -> None:
    item = checker.infer(left, scope)
    if is_empty_list(right):
        checker.reporter.error("E0316", right.span, "nothing is in an empty list", help="leave the comparison out")
        return
    found = checker.infer(right, scope)
    if mentions_unknown(item) or mentions_unknown(found):
        return
    if isinstance(found, OptionalType):
        checker.report_null(right, f"`{operator}` needs a list or a text; this may be null")
        return
    if isinstance(found, ListType):
        if _check_text(left, found.element, checker):
            return
        if isinstance(right, tree.ListExpression) and [one for one in right.items if _check_text(one, item, checker)]:
            return
        if not comparable(item, found.element) and not (item == NULL and isinstance(found.element, OptionalType)):
            _never_in(left, item, right, found, checker)
    elif is_text(found) or isinstance(found, MapType):
        if not (is_text(present(item)) or isinstance(present(item), EnumType)):
            _never_in(left, item, right, found, checker)
    else:
        checker.reporter.error(
            "E0309", right.span, f"`{operator}` looks into a list or a text; this is {a_type(found)}"
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
    if is_empty_list(left) and not is_empty_list(right):
        found = checker.infer(right, scope)
        checker.check(left, scope, present(found), "the left side")
        return (present(found) if isinstance(present(found), ListType) else UNKNOWN), found
    found = checker.infer(left, scope)
    if is_empty_list(right):
        checker.check(right, scope, present(found), "the right side")
        return found, (present(found) if isinstance(present(found), ListType) else UNKNOWN)
    return found, checker.infer(right, scope)


def _check_text(node: tree.Expression, other: Type, checker: Checker) -> bool:
    """Whether ``node`` is a text written out beside a value of an enum or literal type that never has this text.

    A text that an enum's value is compared with must be one of its labels: a mistyped one would never be equal.
    """
    if not (isinstance(node, tree.Constant) and isinstance(node.value, str)):
        return False
    wanted = present(other)
    if isinstance(wanted, EnumType) and node.value not in wanted.labels:
        _unknown_label(wanted, node.value, node.span, checker)
        return True
    if isinstance(wanted, LiteralType) and node.value not in wanted.values:
        checker.reporter.error(
            "E0316",
            node.span,
            f"{a_type(wanted)} is never this text",
            help=did_you_mean(node.value, [str(value) for value in wanted.values]),
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
        help=did_you_mean(text, enum.labels) or f"name a member, as in `{enum.name}.{enum.members[0].name}`",
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
    )
