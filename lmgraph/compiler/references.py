"""Python references, `py "module:callable"`: checked against the source text. Compiling never imports user code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from lmgraph.compiler.annotations import gives, takes
from lmgraph.compiler.facts import SignatureTypes
from lmgraph.compiler.files import ProgramFiles, is_file
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class _Found:
    """A function in the program's folder."""

    shown: str
    """The file, relative to the root."""
    function: _Function


def check_python(reference: tree.PythonReference, arguments: int, files: ProgramFiles, reporter: Reporter) -> str:
    """Reports unless the reference names a plain function that can take ``arguments`` values by position.

    Returns the reference as written.
    """
    span = reference.target.span
    found = _find(reference, files, reporter)
    if found is not None:
        name = found.function.name
        if isinstance(found.function, ast.AsyncFunctionDef):
            reporter.error(
                "E0505", span, f"`{name}` in `{found.shown}` is async; a plain function is needed",
                help="write `def`, not `async def`",
            )  # fmt: skip
        elif not _takes(found.function.args, arguments):
            reporter.error(
                "E0505",
                span,
                f"`{name}` in `{found.shown}`, line {found.function.lineno}, cannot be called with {arguments} values",
                help=f"it is given the row and what the flow gave back: `def {name}(gold, pred)`",
            )
    return str(reference.target.value)


def check_extern(
    reference: tree.PythonReference, signature: SignatureTypes, files: ProgramFiles, reporter: Reporter
) -> str:
    """Reports unless the reference names a function whose parameters and annotations agree with the signature.

    It is called with keyword arguments. Returns the reference as written.
    """
    span = reference.target.span
    declared = Label(signature.span, f"`{signature.name}` is declared here")
    found = _find(reference, files, reporter)
    if found is None:
        return str(reference.target.value)
    where = f"`{found.function.name}` in `{found.shown}`, line {found.function.lineno},"
    _check_parameters(where, found.function.args, signature, span, declared, reporter)
    if not gives(found.function.returns, signature.result):
        reporter.error(
            "E0505",
            span,
            f"{where} gives back `{_shown(found.function.returns)}`; it is declared as `{signature.result}`",
            secondary=[declared],
            help="change one of the two",
        )
    return str(reference.target.value)


def _check_parameters(
    where: str, args: ast.arguments, signature: SignatureTypes, span: Span, declared: Label, reporter: Reporter
) -> None:
    by_name = {one.arg: one for one in (*args.args, *args.kwonlyargs)}
    by_place = {one.arg for one in args.posonlyargs}
    inputs = [field.name for field in signature.inputs]
    for field in signature.inputs:
        parameter = by_name.get(field.name)
        if field.name in by_place:
            reporter.error(
                "E0505",
                span,
                f"{where} takes `{field.name}` by its place only, and is called by names",
                secondary=[declared],
                help="delete the `/` from its parameters",
            )
        elif parameter is None and args.kwarg is None:
            reporter.error(
                "E0505",
                span,
                f"{where} has no parameter `{field.name}`",
                secondary=[declared],
                help=reporter.did_you_mean(field.name, [one for one in by_name if one not in inputs])
                or _taken(by_name),
            )
        elif parameter is not None and not takes(parameter.annotation, field.type):
            reporter.error(
                "E0505",
                span,
                f"{where} takes `{field.name}` as `{_shown(parameter.annotation)}`; it is declared as `{field.type}`",
                secondary=[declared],
                help="change one of the two",
            )
    spare = {"idempotency_key"} if signature.kind == "tool" else set[str]()
    missing = [one for one in _required(args) if one not in inputs and one not in spare]
    meant = [name for name in inputs if name not in by_name and name not in by_place]
    if missing and not (args.kwarg is None and len(missing) <= len(meant)):
        reporter.error(
            "E0505",
            span,
            f"{where} needs {listed(missing)}, which `{signature.name}` does not declare",
            secondary=[declared],
            help="declare it as an input, or give it a default in Python",
        )


def _taken(names: Iterable[str]) -> str:
    shown = listed(names)
    return f"it takes {shown}, and is called by these names" if shown else "it takes nothing; add the parameter"


def _required(args: ast.arguments) -> list[str]:
    """Names of the parameters without a default."""
    placed = [*args.posonlyargs, *args.args]
    found = placed[: len(placed) - len(args.defaults)]
    found += [one for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default is None]
    return [one.arg for one in found]


def _shown(annotation: ast.expr | None) -> str:
    return ast.unparse(annotation) if annotation is not None else "anything"


def _find(reference: tree.PythonReference, files: ProgramFiles, reporter: Reporter) -> _Found | None:
    """The function that the reference names. None after reporting that there is none, and where it cannot be told:
    the program is in no folder, or the name is bound by something other than `def`."""
    text, span = str(reference.target.value), reference.target.span
    if not _FORM.fullmatch(text):
        reporter.error(
            "E0504",
            span,
            "a Python reference names a module and a function in it",
            help='write `py "metrics:exact"` for the function `exact` of the file `metrics.py`',
        )
        return None
    if files.root is None:
        return None
    module, function = text.split(":")
    path = _module_file(module, files.root)
    if path is None:
        where = "/".join(module.split("."))
        reporter.error(
            "E0504",
            span,
            f"the program's folder has no Python module `{module}`",
            help=f"write the function in `{where}.py`, beside the program",
        )
        return None
    shown = path.relative_to(files.root).as_posix()
    if path not in files.python:
        files.python[path] = _read(path)
    statements = files.python[path]
    if isinstance(statements, str):
        reporter.error("E0504", span, f"`{shown}` {statements}")
        return None
    functions = {node.name: node for node in statements if isinstance(node, _Function)}
    if function in functions:
        return _Found(shown, functions[function])
    bound = [name for node in statements for name in _bound(node)]
    if function not in bound and "*" not in bound:
        reporter.error(
            "E0504", span, f"`{shown}` has no function `{function}`", help=reporter.did_you_mean(function, functions)
        )
    return None


def _read(path: Path) -> list[ast.stmt] | str:
    """The statements of a module, or why there are none, behind the file's name."""
    try:
        return _statements(ast.parse(path.read_bytes()).body)
    except SyntaxError as error:
        return f"is no Python that can be read: line {error.lineno}, {error.msg}"
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        return f"cannot be read: {error}"


def _module_file(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    choices = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((path for path in choices if is_file(path)), None)


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements of a module that run when it is imported, those in `if` and `try` included."""
    found: list[ast.stmt] = []
    for node in body:
        found.append(node)
        if isinstance(node, ast.If):
            found += _statements(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            found += _statements(node.body + node.orelse + node.finalbody)
            for handler in node.handlers:
                found += _statements(handler.body)
    return found


def _bound(node: ast.stmt) -> list[str]:
    """Names that a statement binds otherwise than by `def`: what they hold is not looked into."""
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [(alias.asname or alias.name) for alias in names]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.ClassDef(name=name):
            return [name]
        case _:
            return []


def _takes(arguments: ast.arguments, count: int) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    keyword_only = any(default is None for default in arguments.kw_defaults)
    return required <= count and (positional >= count or arguments.vararg is not None) and not keyword_only
