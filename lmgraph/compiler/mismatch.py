"""The report of a value that does not have the type its place wants: what most likely was meant."""

from __future__ import annotations

from lmgraph.compiler.relations import a_type, described, fits, present
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.compiler.scope import path_of
from lmgraph.graph.types import (
    FLOAT,
    INT,
    NULL,
    STR,
    EnumType,
    ListType,
    LiteralType,
    OptionalType,
    RecordType,
    ScalarType,
    Type,
)
from lmgraph.source.diagnostic import Fix, Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree


def report_mismatch(
    node: tree.Expression, found: Type, target: Type, what: str, declared: Label | None, reporter: Reporter
) -> None:
    """Reports E0308 where only null is in the way, else E0301, with the nearest fix."""
    secondary = [declared] if declared is not None else []
    if isinstance(found, OptionalType) and fits(found.inner, target):
        path = path_of(node)
        subject, bound = (".".join(path), "") if path else ("x", "bind it, `x = …`, and ")
        reporter.error(
            "E0308",
            node.span,
            f"this may be null; {what} must be `{described(target)}`",
            secondary=secondary,
            help=f"{bound}say what to use instead: `if {subject} != null then {subject} else …`",
        )
        return
    help, fix = _advice(node, found, target, reporter)
    reporter.error(
        "E0301",
        node.span,
        f"this is {_shown(node, found, target)}; {what} must be `{described(target)}`",
        secondary=secondary,
        help=help,
        fix=fix,
    )


def _shown(node: tree.Expression, found: Type, target: Type) -> str:
    if found == NULL:
        return "null"
    if isinstance(node, tree.Constant) and isinstance(present(target), LiteralType):
        written = f'"{node.value}"' if isinstance(node.value, str) else str(node.value)
        return f"`{written}`" if len(written) <= 40 else f"`{written[:37]}...`"
    if isinstance(node, tree.Constant) and isinstance(node.value, str):
        return "a text"
    return f"{a_type(found)}"


def _advice(node: tree.Expression, found: Type, target: Type, reporter: Reporter) -> tuple[str | None, Fix | None]:
    wanted = present(target)
    after = Span(node.span.file, node.span.end, node.span.end)
    if isinstance(node, tree.Constant) and isinstance(node.value, str):
        if isinstance(wanted, EnumType):
            return _member_for(node, node.value, wanted, reporter)
        if isinstance(wanted, LiteralType):
            return reporter.did_you_mean(node.value, [str(value) for value in wanted.values]), None
    if isinstance(found, RecordType):
        fitting = [field.name for field in found.fields if fits(field.type, target)]
        if len(fitting) == 1:
            return None, Fix(after, f".{fitting[0]}", f"read its field `{fitting[0]}`")
        if fitting:
            return f"read one of its fields, such as `.{fitting[0]}`", None
    if isinstance(found, ListType) and fits(found.element, target):
        return "use one element, or run over the list: `[… for x in xs]`", None
    if isinstance(wanted, ListType) and fits(found, wanted.element):
        return "put it in a list of one: `[…]`", None
    if found == FLOAT and wanted == INT:
        return "a float never becomes an int by itself; declare the place as `float`", None
    if found == NULL:
        return f"give a value, or declare the place as `{described(target)}?`", None
    if isinstance(found, EnumType) and wanted == STR:
        return f"an enum's value is no text; declare the place as `{found.name}`", None
    if found == STR and isinstance(wanted, EnumType | LiteralType):
        return f"any text may come here; declare where it comes from as `{described(wanted)}`", None
    if wanted == STR and isinstance(found, ScalarType):
        return "nothing becomes a text by itself; let an `fn` or a module write it", None
    return None, None


def _member_for(node: tree.Constant, text: str, enum: EnumType, reporter: Reporter) -> tuple[str | None, Fix | None]:
    for member in enum.members:
        if text in (member.name, member.label):
            written = f"{enum.name}.{member.name}"
            return None, Fix(node.span, written, f"write `{written}`")
    names = [member.name for member in enum.members]
    close = [f"{enum.name}.{name}" for name in reporter.close_to(text, names)]
    if close:
        return f"did you mean {listed(close, 'or')}?", None
    return f"write a member of the enum, as in `{enum.name}.{enum.members[0].name}`", None
