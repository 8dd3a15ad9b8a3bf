"""Types of expressions. Finds out what each part means, reports what does not fit, and leaves `Facts` for lowering."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraph.compiler.calls import check_call
from lmgraph.compiler.checker import is_empty_list
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import (
    UNKNOWN,
    Facts,
    Local,
    Scope,
    a_type,
    fits,
    join,
    mentions_unknown,
    path_of,
    present,
    proves_not_null,
)
from lmgraph.compiler.mismatch import report_mismatch
from lmgraph.compiler.operators import binary_type, check_comparison, negated_type
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.compiler.resolve import BUILTIN_FUNCTIONS, kind_of
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
)
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

_BIND_FIRST = "bind it to a name of its own first, and use the name here; it then always runs"
_IN_FILTER = ("in the filter of a map", "run over the list once to make the calls, and filter what they gave back")


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
            case tree.ListExpression(items=items) if isinstance(present(target), ListType):
                wanted = present(target)
                assert isinstance(wanted, ListType)
                for item in items:
                    self.check(item, scope, wanted.element, f"an element of {what}", declared)
                return self._known(node, wanted)
            case tree.Conditional():
                self._condition(node.condition, scope)
                then, otherwise = self._branches(node, scope)
                self.check(node.when_true, then, target, what, declared)
                self.check(node.when_false, otherwise, target, what, declared)
                return self._known(node, target)
            case tree.Constant(value=value) if isinstance(present(target), LiteralType) and value is not None:
                literal = present(target)
                assert isinstance(literal, LiteralType)
                if value in literal.values and not isinstance(value, bool):
                    return self._known(node, literal)
        found = self.infer(node, scope)
        if not fits(found, target):
            report_mismatch(node, found, target, what, declared, self.reporter)
        return found

    def infer(self, node: tree.Expression, scope: Scope) -> Type:
        found = self._infer(node, scope)
        if isinstance(found, OptionalType) and path_of(node) in scope.not_null:
            found = found.inner
        return self._known(node, found)

    def condition(self, node: tree.Expression, scope: Scope) -> None:
        self._condition(node, scope)

    def _known(self, node: tree.Expression, found: Type) -> Type:
        self.facts.set_type(node, found)
        return found

    def _infer(self, node: tree.Expression, scope: Scope) -> Type:
        match node:
            case tree.Constant(value=value):
                return _constant_type(value)
            case tree.Reference():
                return self._reference(node, scope)
            case tree.Attribute():
                return self._attribute(node, scope)
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
                self._condition(node.left, scope)
                proved = proves_not_null(node.left, operator == "and")
                right = scope.knowing(proved).without_calls((f"on the right of `{operator}`", _BIND_FIRST))
                self._condition(node.right, right)
                return BOOL
            case tree.Binary():
                return binary_type(node, scope, self)
            case tree.Unary(operator="not"):
                self._condition(node.operand, scope)
                return BOOL
            case tree.Unary():
                return negated_type(node, scope, self)
            case tree.Catch():
                self.infer(node.call, scope)
                self.infer(node.fallback, scope)
                return UNKNOWN

    # -- names -------------------------------------------------------------------------------------------------------

    def _reference(self, node: tree.Reference, scope: Scope) -> Type:
        local = scope.locals.get(node.name)
        if local is not None:
            return local.type
        names = self.declarations.names
        if node.name in names.silent:
            return UNKNOWN
        found = names.declared.get(node.name)
        if found is not None:
            self.reporter.error(
                "E0311",
                node.span,
                f"`{node.name}` is {kind_of(found)}, not a value",
                secondary=[Label(found.name.span, "declared here")],
                help=_use_of(found),
            )
        elif node.name in BUILTIN_FUNCTIONS:
            self.reporter.error("E0311", node.span, f"`{node.name}` is a function; call it", help="write `len(xs)`")
        else:
            known = [*scope.locals, *names.of_kind(tree.Enum)]
            visible = list(scope.locals)
            self.reporter.unknown(
                "E0201",
                node.span,
                f"nothing here is named `{node.name}`",
                node.name,
                known,
                otherwise=f"the values known here are {listed(visible[:6])}" if visible else "no value is known here",
            )
        return UNKNOWN

    def _attribute(self, node: tree.Attribute, scope: Scope) -> Type:
        if isinstance(node.base, tree.Reference) and node.base.name not in scope.locals:
            found = self.declarations.names.declared.get(node.base.name)
            if isinstance(found, tree.Enum):
                member = self.declarations.member(node)
                if member is None:
                    return UNKNOWN
                self.facts.set_label(node, member[1])
                return member[0]
        base = self.infer(node.base, scope)
        if base is UNKNOWN:
            return UNKNOWN
        if isinstance(base, RecordType):
            field = base.field(node.name.text)
            if field is not None:
                return field.type
        self._no_field(node, base)
        return UNKNOWN

    def _no_field(self, node: tree.Attribute, base: Type) -> None:
        name = node.name
        if isinstance(base, RecordType):
            fields = [field.name for field in base.fields]
            self.reporter.unknown(
                "E0306",
                name.span,
                f"`{base}` has no field `{name.text}`",
                name.text,
                fields,
                otherwise=f"its fields are {listed(fields)}",
            )
        elif isinstance(base, OptionalType):
            self.report_null(node.base, f"the value before `.{name.text}` may be null")
        elif isinstance(base, ListType) and isinstance(base.element, RecordType):
            inside = base.element.field(name.text) is not None
            self.reporter.error(
                "E0306",
                name.span,
                f"a list has no field `{name.text}`",
                help=f"read it of each element: `[x.{name.text} for x in …]`" if inside else None,
            )
        else:
            self.reporter.error("E0306", name.span, f"{a_type(base)} has no fields")

    def report_null(self, node: tree.Expression, message: str) -> None:
        path = path_of(node)
        subject = ".".join(path) if path else "the value"
        self.reporter.error(
            "E0308",
            node.span,
            message,
            help=f"ask first: `if {subject} != null then … else …`, or `if {subject} != null` in a comprehension",
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
        self.declare_local(node.variable, scope)
        inner = scope.binding(node.variable.text, Local(element, node.variable.span, "element"))
        if node.condition is not None:
            self._condition(node.condition, inner.without_calls(_IN_FILTER))
            inner = inner.knowing(proves_not_null(node.condition, True))
        found = self.infer(node.element, inner)
        return UNKNOWN if found is UNKNOWN else ListType(found)

    def _conditional(self, node: tree.Conditional, scope: Scope) -> Type:
        self._condition(node.condition, scope)
        return self._joined((node.when_true, node.when_false), self._branches(node, scope), "branches")

    def _branches(self, node: tree.Conditional, scope: Scope) -> tuple[Scope, Scope]:
        inner = scope.without_calls(("in a branch of `if … then … else …`", _BIND_FIRST))
        then = inner.knowing(proves_not_null(node.condition, True))
        return then, inner.knowing(proves_not_null(node.condition, False))

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

    def _condition(self, node: tree.Expression, scope: Scope) -> None:
        self.check(node, scope, BOOL, "a condition")

    def declare_local(self, name: tree.Identifier, scope: Scope) -> None:
        """Reports a local name that is taken already by another local or by something that expressions can name."""
        found = scope.locals.get(name.text)
        if found is not None:
            self.reporter.error(
                "E0202",
                name.span,
                f"`{name.text}` is bound a second time",
                secondary=[Label(found.span, "first bound here")],
                help="a name is bound once; choose another name for the second value",
            )
            return
        declared = self.declarations.names.declared.get(name.text)
        if isinstance(declared, tree.Module | tree.Record | tree.Enum | tree.Flow):
            self.reporter.error(
                "E0202",
                name.span,
                f"`{name.text}` is the name of {kind_of(declared)}",
                secondary=[Label(declared.name.span, "declared here")],
                help="choose another name for the value",
            )

    def no_calls(self, span: Span, what: str, scope: Scope) -> None:
        """Reports ``what`` where the scope says that it cannot stand there yet."""
        if scope.no_calls is not None:
            where, instead = scope.no_calls
            self.reporter.error("E0001", span, f"{what} {where} is not compiled yet", help=instead)


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


def _use_of(found: object) -> str | None:
    match found:
        case tree.Module(name=name) | tree.Flow(name=name):
            return f"call it: `{name.text}(…)`"
        case tree.Record(name=name):
            return f"make one: `{name.text}(…)`"
        case tree.Enum(name=name, members=(first, *_)):
            return f"name a member: `{name.text}.{first.name.text}`"
        case _:
            return None


def _list_field(found: Type) -> str | None:
    if isinstance(found, RecordType):
        lists = [field.name for field in found.fields if isinstance(field.type, ListType)]
        return f"its list is `.{lists[0]}`" if len(lists) == 1 else None
    return None
