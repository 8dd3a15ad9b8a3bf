"""What names, fields and members mean inside an expression, and which local names are free."""

from __future__ import annotations

from lmgraph.compiler.checker import UNION_HELP, Checker
from lmgraph.compiler.relations import UNKNOWN, a_type
from lmgraph.compiler.reporter import listed
from lmgraph.compiler.resolve import BUILTIN_FUNCTIONS, Named, kind_of
from lmgraph.compiler.scope import Scope
from lmgraph.graph.types import ListType, OptionalType, RecordType, Type, UnionType
from lmgraph.source.diagnostic import Label
from lmgraph.syntax import tree


def reference_type(node: tree.Reference, scope: Scope, checker: Checker) -> Type:
    """The type of a local name; UNKNOWN after reporting that there is none."""
    local = scope.locals.get(node.name)
    if local is not None:
        return local.type
    names = checker.declarations.names
    found = names.get(node.name, node.span)
    if found is None and names.is_silent(node.name, node.span):
        return UNKNOWN
    if found is not None:
        checker.reporter.error(
            "E0311",
            node.span,
            f"`{node.name}` is {kind_of(found)}, not a value",
            secondary=[Label(found.name.span, "declared here")],
            help=_use_of(found),
        )
    elif node.name in BUILTIN_FUNCTIONS:
        checker.reporter.error("E0311", node.span, f"`{node.name}` is a function; call it", help="write `len(xs)`")
    elif node.name in scope.hidden:
        checker.reporter.error(
            "E0201",
            node.span,
            f"`{node.name}` is known only inside the block that binds it",
            secondary=[Label(scope.hidden[node.name], "bound here")],
            help=f"declare it before the block, `var {node.name}: T = …`, and set it inside: `{node.name} := …`",
        )
    elif not names.report_elsewhere(node.name, node.span):
        known = [*scope.locals, *names.of_kind(node.span, tree.Enum)]
        visible = list(scope.locals)
        checker.reporter.unknown(
            "E0201",
            node.span,
            f"nothing here is named `{node.name}`",
            node.name,
            known,
            otherwise=_known(visible),
        )
    return UNKNOWN


def _known(visible: list[str]) -> str:
    match visible:
        case []:
            return "no value is known here"
        case [one]:
            return f"the only value known here is `{one}`"
        case _:
            more = f" and {len(visible) - 6} more" if len(visible) > 6 else ""
            return f"the values known here are {listed(visible[:6])}{more}"


def attribute_type(node: tree.Attribute, scope: Scope, checker: Checker) -> Type:
    """The type of `r.note`, or of a member such as `Team.billing`."""
    if isinstance(node.base, tree.Reference) and node.base.name not in scope.locals:
        found = checker.declarations.names.get(node.base.name, node.base.span)
        if isinstance(found, tree.Enum):
            member = checker.declarations.member(node)
            if member is None:
                return UNKNOWN
            checker.facts.set_label(node, member[1])
            return member[0]
    base = checker.infer(node.base, scope)
    if base is UNKNOWN:
        return UNKNOWN
    if isinstance(base, RecordType):
        field = base.field(node.name.text)
        if field is not None:
            return field.type
    _no_field(node, base, checker)
    return UNKNOWN


def _no_field(node: tree.Attribute, base: Type, checker: Checker) -> None:
    name = node.name
    if isinstance(base, RecordType):
        fields = [field.name for field in base.fields]
        checker.reporter.unknown(
            "E0306",
            name.span,
            f"`{base}` has no field `{name.text}`",
            name.text,
            fields,
            otherwise=f"its {'only field is' if len(fields) == 1 else 'fields are'} {listed(fields)}",
        )
    elif isinstance(base, OptionalType):
        checker.report_null(node.base, f"the value before `.{name.text}` may be null")
    elif isinstance(base, ListType) and isinstance(base.element, RecordType):
        inside = base.element.field(name.text) is not None
        checker.reporter.error(
            "E0306",
            name.span,
            f"a list has no field `{name.text}`",
            help=f"read it of each element: `[x.{name.text} for x in …]`" if inside else None,
        )
    else:
        help = UNION_HELP if isinstance(base, UnionType) else None
        checker.reporter.error("E0306", name.span, f"{a_type(base)} has no fields, so no `{name.text}`", help=help)


def declare_local(name: tree.Identifier, scope: Scope, checker: Checker) -> None:
    """Reports a local name that is taken already by another local or by something that expressions can name."""
    found = scope.locals.get(name.text)
    if found is not None:
        set_it = f", or set the variable: `{name.text} := …`" if found.kind == "variable" else ""
        checker.reporter.error(
            "E0202",
            name.span,
            f"`{name.text}` is bound a second time",
            secondary=[Label(found.span, "first bound here")],
            help=f"a name is bound once; choose another name for the second value{set_it}",
        )
        return
    declared = checker.declarations.names.get(name.text, name.span)
    if isinstance(declared, tree.Module | tree.Instance | tree.Record | tree.Enum | tree.Flow | tree.Extern):
        checker.reporter.error(
            "E0202",
            name.span,
            f"`{name.text}` is the name of {kind_of(declared)}",
            secondary=[Label(declared.name.span, "declared here")],
            help="choose another name for the value",
        )


def _use_of(found: Named) -> str | None:
    match found:
        case tree.Module(name=name) | tree.Flow(name=name) | tree.Instance(name=name) | tree.Extern(name=name):
            return f"call it: `{name.text}(…)`"
        case tree.Record(name=name):
            return f"make one: `{name.text}(…)`"
        case tree.Enum(name=name, members=(first, *_)):
            return f"name a member: `{name.text}.{first.name.text}`"
        case tree.Lm(name=name):
            return f"a module names the model it uses: `lm: {name.text}`"
        case _:
            return "an expression reads values; bind one first, `x = …`"
