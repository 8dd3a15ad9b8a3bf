"""Types of expressions. Finds out what each part means, reports what does not fit, and leaves `Facts` for lowering."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraph.compiler.calls import check_call
from lmgraph.compiler.checker import is_empty_list
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import Facts
from lmgraph.compiler.lookups import attribute_type, declare_local, reference_type
from lmgraph.compiler.mismatch import report_mismatch
from lmgraph.compiler.operators import binary_type, check_comparison, negated_type
from lmgraph.compiler.relations import UNKNOWN, a_type, fits, join, mentions_unknown, present
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.scope import Local, Scope, path_of, proves_not_null
from lmgraph.graph.types import (
    BOOL,
    FLOAT,
    INT,
    NULL,
    STR,
    ListType,
    LiteralType,
    MapType,
    OptionalType,
    RecordType,
    Type,
    UnionType,
)
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree


class Expressions:
    """`infer` finds the type of an expression; `check` also demands that it fits one."""

    def __init__(self, declarations: Declarations, reporter: Reporter, facts: Facts) -> None:
        self.declarations = declarations
        self.reporter = reporter
        self.facts = facts

    def check(
        self, node: tree.Expression, scope: Scope, target: Type, what: str, declared: Label | None = None
    ) -> Type:
        """Reports unless the value fits ``target``, in words such as "`issue` is `str`", where ``what`` is `issue`."""
        match node:
            case tree.ListExpression(items=()) if target is UNKNOWN:
                return self._known(node, UNKNOWN)
            case tree.ListExpression(items=items) if (wanted := _list_in(target)) is not None:
                for item in items:
                    self.check(item, scope, wanted.element, f"an element of {what}", declared)
                return self._known(node, wanted)
            case tree.Comprehension() if (wanted := _list_in(target)) is not None:
                inner = self._each(node, scope)
                self.check(node.element, inner, wanted.element, f"an element of {what}", declared)
                return self._known(node, wanted)
            case tree.Conditional():
                self.condition(node.condition, scope)
                then, otherwise = self._branches(node, scope)
                self.check(node.when_true, then, target, what, declared)
                self.check(node.when_false, otherwise, target, what, declared)
                return self._known(node, target)
            case tree.Constant(value=value) if value is not None and not isinstance(value, bool):
                for literal in _literals(target):
                    if any(value == one and type(value) is type(one) for one in literal.values):
                        return self._known(node, literal)
            case tree.Catch():
                self.no_calls(node.span, "a `catch`", scope)
                self.check(node.call, scope, target, what, declared)
                self.check(node.fallback, scope, target, what, declared)
                return self._known(node, target)
        found = self.infer(node, scope)
        if not fits(found, target):
            report_mismatch(node, found, target, what, declared, self.reporter)
        return found

    def infer(self, node: tree.Expression, scope: Scope) -> Type:
        found = self._infer(node, scope)
        path = path_of(node) if isinstance(found, OptionalType) else None
        if isinstance(found, OptionalType) and path in scope.not_null:
            found = found.inner
            if path in scope.asserted:
                self.facts.set_guarded(node)
        return self._known(node, found)

    def condition(self, node: tree.Expression, scope: Scope) -> None:
        """Reports unless the expression is a bool."""
        self.check(node, scope, BOOL, "a condition")

    def _known(self, node: tree.Expression, found: Type) -> Type:
        self.facts.set_type(node, found)
        return found

    def _infer(self, node: tree.Expression, scope: Scope) -> Type:
        match node:
            case tree.Constant(value=value):
                return _constant_type(value)
            case tree.Reference():
                return reference_type(node, scope, self)
            case tree.Attribute():
                return attribute_type(node, scope, self)
            case tree.Index():
                return self._index(node, scope)
            case tree.CallExpression():
                return check_call(node, scope, self)
            case tree.ListExpression():
                return self._list(node, scope)
            case tree.Comprehension():
                return self._comprehension(node, scope)
            case tree.Conditional():
                return self._conditional(node, scope)
            case tree.Comparison():
                check_comparison(node, scope, self)
                return BOOL
            case tree.Binary(operator="and" | "or" as operator):
                self.condition(node.left, scope)
                proved = proves_not_null(node.left, operator == "and")
                self.condition(node.right, scope.knowing(proved))
                return BOOL
            case tree.Binary():
                return binary_type(node, scope, self)
            case tree.Unary(operator="not"):
                self.condition(node.operand, scope)
                return BOOL
            case tree.Unary():
                return negated_type(node, scope, self)
            case tree.Catch():
                self.no_calls(node.span, "a `catch`", scope)
                return self._joined((node.call, node.fallback), [scope, scope], "values of a `catch`")

    def report_null(self, node: tree.Expression, message: str) -> None:
        path = path_of(node)
        subject, bound = (".".join(path), "") if path else ("x", "bind it, `x = …`, and ")
        self.reporter.error(
            "E0308",
            node.span,
            message,
            help=f"{bound}ask first: `if {subject} != null then … else …`, `if {subject} != null {{ … }}`, "
            "or the same as the condition of a map",
        )

    # -- parts -------------------------------------------------------------------------------------------------------

    def _index(self, node: tree.Index, scope: Scope) -> Type:
        base = self.infer(node.base, scope)
        if isinstance(base, ListType):
            self.check(node.index, scope, INT, "a place in a list")
            return base.element
        if isinstance(base, MapType):
            self.check(node.index, scope, STR, "a key of a map")
            return base.value
        self.infer(node.index, scope)
        if isinstance(base, OptionalType):
            self.report_null(node.base, "the value before `[` may be null")
        elif not mentions_unknown(base):
            self.reporter.error("E0309", node.base.span, f"{a_type(base)} has no elements to pick")
        return UNKNOWN

    def _list(self, node: tree.ListExpression, scope: Scope) -> Type:
        if not node.items:
            self.reporter.error(
                "E0315",
                node.span,
                "nothing here says what this empty list holds",
                help="say it where the value is bound: `xs: list[str] = []`",
            )
            return UNKNOWN
        return self._joined(node.items, [scope] * len(node.items), "elements", ListType)

    def _comprehension(self, node: tree.Comprehension, scope: Scope) -> Type:
        found = self.infer(node.element, self._each(node, scope))
        return UNKNOWN if found is UNKNOWN else ListType(found)

    def _each(self, node: tree.Comprehension, scope: Scope) -> Scope:
        """What the body of a map sees."""
        self.no_calls(node.span, "a map", scope)
        items = self.infer(node.iterable, scope)
        element: Type = UNKNOWN
        if isinstance(items, ListType):
            element = items.element
        elif isinstance(items, OptionalType):
            self.report_null(node.iterable, "the list of this map may be null")
        elif not mentions_unknown(items):
            self.reporter.error(
                "E0301",
                node.iterable.span,
                f"a map runs over a list; this is {a_type(items)}",
                help=_list_field(items),
            )
        declare_local(node.variable, scope, self)
        inner = scope.binding(node.variable.text, Local(element, node.variable.span, "element"))
        if node.condition is None:
            return inner
        self.condition(node.condition, inner)
        return inner.knowing(proves_not_null(node.condition, True))

    def _conditional(self, node: tree.Conditional, scope: Scope) -> Type:
        self.condition(node.condition, scope)
        return self._joined((node.when_true, node.when_false), self._branches(node, scope), "branches")

    def _branches(self, node: tree.Conditional, scope: Scope) -> tuple[Scope, Scope]:
        then = scope.knowing(proves_not_null(node.condition, True))
        return then, scope.knowing(proves_not_null(node.condition, False))

    def _joined(
        self,
        nodes: Sequence[tree.Expression],
        scopes: Sequence[Scope],
        what: str,
        wrap: type[ListType] | None = None,
    ) -> Type:
        """The common type of several values. An empty list among them takes its type from the others."""
        waiting = [(node, scope) for node, scope in zip(nodes, scopes, strict=True) if is_empty_list(node)]
        ready = [(node, scope) for node, scope in zip(nodes, scopes, strict=True) if not is_empty_list(node)]
        if not ready:
            ready, waiting = waiting, []
        first, *rest = ready
        found = self.infer(*first)
        for node, scope in rest:
            one = self.infer(node, scope)
            joined = join(found, one)
            if joined is None:
                self.reporter.error(
                    "E0301",
                    node.span,
                    f"this is {a_type(one)}; what stands before it is {a_type(found)}",
                    secondary=[Label(first[0].span, f"{a_type(found)}")],
                    help=f"all {what} must have one type",
                )
                return UNKNOWN
            found = joined
        for node, scope in waiting:
            self.check(node, scope, found, f"one of the {what}")
        return wrap(found) if wrap is not None and found is not UNKNOWN else found

    def no_calls(self, span: Span, what: str, scope: Scope) -> None:
        """Reports ``what`` where the scope says that nothing can be called."""
        if scope.no_calls is not None:
            where, instead = scope.no_calls
            self.reporter.error("E0321", span, f"{what} cannot stand {where}", help=instead)


def _constant_type(value: str | int | float | bool | None) -> Type:
    match value:
        case None:
            return NULL
        case bool():
            return BOOL
        case int():
            return INT
        case float():
            return FLOAT
        case str():
            return STR


def _options(target: Type) -> tuple[Type, ...]:
    """The target without null, or the options of a union."""
    wanted = present(target)
    return wanted.options if isinstance(wanted, UnionType) else (wanted,)


def _literals(target: Type) -> list[LiteralType]:
    """The literal types that the target is, or has among its options."""
    return [option for option in _options(target) if isinstance(option, LiteralType)]


def _list_in(target: Type) -> ListType | None:
    """The one list type that the target is, or has among its options."""
    lists = [option for option in _options(target) if isinstance(option, ListType)]
    return lists[0] if len(lists) == 1 else None


def _list_field(found: Type) -> str | None:
    if isinstance(found, RecordType):
        lists = [field.name for field in found.fields if isinstance(field.type, ListType)]
        return f"its list is `.{lists[0]}`" if len(lists) == 1 else None
    return None
