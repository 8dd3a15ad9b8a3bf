"""Calls and their arguments: modules, records made by name, `len`. Arguments are named or punned, never positional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmgraph.compiler.checker import Checker, Holds
from lmgraph.compiler.declare import HasSignature
from lmgraph.compiler.relations import UNKNOWN, a_type, described, fits, is_text, mentions_unknown
from lmgraph.compiler.reporter import listed, some
from lmgraph.compiler.resolve import BUILTIN_FUNCTIONS, kind_of
from lmgraph.compiler.scope import Scope
from lmgraph.graph.types import INT, Field, ListType, MapType, OptionalType, RecordType, Type
from lmgraph.source.diagnostic import Fix, Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree


@dataclass(frozen=True, slots=True)
class Target:
    """What arguments are given to: a call of ``name``, or the outputs of a flow that returns."""

    name: str
    span: Span
    """Where a missing argument is reported."""
    declared: Label
    returns: bool = False

    @property
    def parameter(self) -> str:
        return "output" if self.returns else "argument"

    @property
    def place(self) -> str:
        return f"the return of `{self.name}`" if self.returns else f"`{self.name}`"


def check_call(node: tree.CallExpression, scope: Scope, checker: Checker) -> Type:
    """The type of what the call gives back."""
    match node.callee:
        case tree.Reference(name=name) if name not in scope.locals:
            return _named_call(node, node.callee, scope, checker)
        case tree.Attribute(base=tree.Reference(name=name, span=at), name=member) if (
            name not in scope.locals and isinstance(checker.declarations.names.get(name, at), tree.Enum)
        ):
            if checker.infer(node.callee, scope) is not UNKNOWN:
                checker.reporter.error(
                    "E0310",
                    node.callee.span,
                    f"`{name}.{member.text}` is an enum's member, not something to call",
                    help="leave the parentheses out",
                )
        case _:
            found = checker.infer(node.callee, scope)
            if not mentions_unknown(found):
                checker.reporter.error(
                    "E0310",
                    node.callee.span,
                    f"this is a value of type `{described(found)}`, not something to call",
                    help="only modules, flows, records, Python references and `len` can be called",
                )
    return _uncallable(node, scope, checker)


def _named_call(node: tree.CallExpression, callee: tree.Reference, scope: Scope, checker: Checker) -> Type:
    names = checker.declarations.names
    found = names.get(callee.name, callee.span)
    match found:
        case tree.Module() | tree.Instance() | tree.Flow() | tree.Extern():
            if scope.no_calls is not None:
                # The signature is not read: it may be the one that this stands in.
                checker.no_calls(node.span, f"a call of {kind_of(found)}", scope)
                return _uncallable(node, scope, checker)
            signature = checker.declarations.signature(found)
            if signature.bare is UNKNOWN:
                return _uncallable(node, scope, checker)
            checker.facts.set_callee(node, signature)
            check_arguments(node.arguments, signature.inputs, _target(found, callee), scope, checker)
            return signature.result
        case tree.Record():
            record = checker.declarations.record(found)
            if not isinstance(record, RecordType) or record is UNKNOWN:
                return _uncallable(node, scope, checker)
            checker.facts.set_callee(node, record)
            check_arguments(node.arguments, record.fields, _target(found, callee), scope, checker)
            return record
        case None if names.is_silent(callee.name, callee.span):
            pass
        case None if callee.name in BUILTIN_FUNCTIONS:
            return _len(node, scope, checker)
        case None if names.report_elsewhere(callee.name, callee.span):
            pass
        case None:
            at = callee.span
            callable_kinds = (tree.Module, tree.Instance, tree.Flow, tree.Record, tree.Extern)
            known = names.of_kind(at, *callable_kinds)
            checker.reporter.unknown(
                "E0201",
                at,
                f"nothing that can be called is named `{callee.name}`",
                callee.name,
                [*known, *BUILTIN_FUNCTIONS],
                otherwise=f"what can be called here: {some(known)}" if known else "the file declares no module or flow",
            )
        case _:
            checker.reporter.error(
                "E0310",
                callee.span,
                f"`{callee.name}` is {kind_of(found)}; it cannot be called",
                secondary=[Label(found.name.span, "declared here")],
            )
    return _uncallable(node, scope, checker)


def _target(found: HasSignature | tree.Record, callee: tree.Reference) -> Target:
    return Target(callee.name, callee.span, Label(found.name.span, f"`{found.name.text}` is declared here"))


def _uncallable(node: tree.CallExpression, scope: Scope, checker: Checker) -> Type:
    """Looks at the arguments for problems of their own."""
    for argument in node.arguments:
        checker.infer(argument.value, scope)
    return UNKNOWN


def _len(node: tree.CallExpression, scope: Scope, checker: Checker) -> Type:
    checker.facts.set_callee(node, "len")
    if len(node.arguments) != 1 or node.arguments[0].name is not None:
        checker.reporter.error(
            "E0303", node.span, "`len` takes one value and no name", help="write `len(xs)` for a list or a text"
        )
        _uncallable(node, scope, checker)
        return INT
    value = node.arguments[0].value
    found = checker.infer(value, scope)
    if isinstance(found, OptionalType):
        checker.report_null(value, "`len` needs a list or a text; this may be null")
    elif not (mentions_unknown(found) or is_text(found) or isinstance(found, ListType | MapType)):
        checker.reporter.error("E0301", value.span, f"`len` needs a list, a map or a text; this is {a_type(found)}")
    return INT


def check_arguments(
    arguments: Sequence[tree.Argument], parameters: Sequence[Field], target: Target, scope: Scope, checker: Checker
) -> None:
    """Every argument names a parameter once and fits it; every parameter without a default is there.

    One mistake is reported once: a mistyped, renamed or unnamed argument counts as the one that is missing.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    given: dict[str, Span] = {}
    meant: set[str] = set()
    strangers = 0
    for argument in arguments:
        name = argument_name(argument)
        if name is None or (argument.name is None and name not in by_name):
            checker.infer(argument.value, scope)
            meant |= _report_unnamed(argument, parameters, given, target, scope, checker)
            continue
        place = argument.name.span if argument.name else argument.span
        if name in given:
            checker.reporter.error(
                "E0305",
                place,
                f"{target.parameter} `{name}` is given twice",
                secondary=[Label(given[name], "first given here")],
                help="delete one of the two",
            )
            checker.infer(argument.value, scope)
        elif name in by_name:
            given[name] = place
            found = checker.check(argument.value, scope, by_name[name].type, f"`{name}`", target.declared)
            _check_constraint(argument.value, found, by_name[name], target, checker)
        else:
            known = [parameter.name for parameter in parameters]
            checker.reporter.unknown(
                "E0302",
                place,
                f"{target.place} has no {target.parameter} `{name}`",
                name,
                [one for one in known if one not in given],
                secondary=[target.declared],
                otherwise=_parameters(known, target),
            )
            meant |= set(checker.reporter.close_to(name, known))
            strangers += 1
            checker.infer(argument.value, scope)
    missing = [
        one.name for one in parameters if not one.has_default and one.name not in given and one.name not in meant
    ]
    if len(missing) > strangers:
        noun = target.parameter if len(missing) == 1 else f"{target.parameter}s"
        checker.reporter.error(
            "E0303",
            target.span,
            f"{target.place} lacks the {noun} {listed(missing)}",
            secondary=[target.declared],
            help=f"add {', '.join(f'`{name}=…`' for name in missing)}",
        )


def _parameters(known: list[str], target: Target) -> str:
    if len(known) < 2:
        return f"its only {target.parameter} is `{known[0]}`" if known else f"it takes no {target.parameter}s"
    return f"its {target.parameter}s are {listed(known)}"


def _check_constraint(value: tree.Expression, found: Type, parameter: Field, target: Target, checker: Checker) -> None:
    """Reports a constant that does not meet the constraint of its parameter."""
    if parameter.constraint is None or not isinstance(value, tree.Constant) or not fits(found, parameter.type):
        return
    if not Holds(parameter.constraint.condition)(value.value):
        checker.reporter.error(
            "E0320",
            value.span,
            f"this does not meet the constraint `{parameter.constraint.text}` of `{parameter.name}`",
            secondary=[target.declared],
            help="give a value that meets it, or mend the constraint",
        )


def argument_name(argument: tree.Argument) -> str | None:
    """The parameter that an argument names: written out, or punned as in `Judge(claim)`."""
    if argument.name is not None:
        return argument.name.text
    return argument.value.name if isinstance(argument.value, tree.Reference) else None


def _report_unnamed(
    argument: tree.Argument,
    parameters: Sequence[Field],
    given: dict[str, Span],
    target: Target,
    scope: Scope,
    checker: Checker,
) -> set[str]:
    """Reports an argument without a name; gives back the parameters that it may have meant."""
    open_parameters = [parameter.name for parameter in parameters if parameter.name not in given]
    value = argument.value
    if isinstance(value, tree.Reference) and value.name not in scope.locals:
        return set(open_parameters)
    written = f"`{value.name}`" if isinstance(value, tree.Reference) else "this value"
    fix = None
    if len(open_parameters) == 1:
        start = Span(value.span.file, value.span.start, value.span.start)
        fix = Fix(start, f"{open_parameters[0]}=", f"name the {target.parameter}")
    checker.reporter.error(
        "E0304",
        value.span,
        f"{written} does not say which {target.parameter} of {target.place} it is",
        secondary=[target.declared],
        help=None if fix else _named_help(open_parameters, target),
        fix=fix,
    )
    return set(open_parameters)


def _named_help(parameters: list[str], target: Target) -> str:
    if not parameters:
        return f"{target.place} takes no more {target.parameter}s"
    return f"give it a name: {', '.join(f'`{name}=…`' for name in parameters[:4])}"
