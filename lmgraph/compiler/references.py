"""Python references, `py "module:callable"`: checked against the source text. Compiling never imports user code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.reporter import Reporter
from lmgraph.source.suggest import did_you_mean
from lmgraph.syntax import tree

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def check_python(reference: tree.PythonReference, arguments: int, files: ProgramFiles, reporter: Reporter) -> str:
    """Reports unless the reference names a function of the program's folder that can take ``arguments`` values.

    Returns the reference as written.
    """
    text = str(reference.target.value)
    span = reference.target.span
    if not _FORM.fullmatch(text):
        reporter.error(
            "E0504",
            span,
            "a Python reference names a module and a function in it",
            help='write `py "metrics:exact"` for the function `exact` of the file `metrics.py`',
        )
        return text
    if files.root is None:
        return text
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
        return text
    problem = _problem_of(path, path.relative_to(files.root).as_posix(), function, arguments)
    if problem is not None:
        reporter.error("E0504", span, problem[0], help=problem[1])
    return text


def _module_file(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    choices = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((path for path in choices if path.is_file()), None)


def _problem_of(path: Path, shown: str, function: str, arguments: int) -> tuple[str, str | None] | None:
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        return f"`{shown}` is no Python that can be read: {error}", None
    names: list[str] = []
    for node in _statements(body):
        names += _bound(node)
        if isinstance(node, ast.FunctionDef) and node.name == function:
            if _takes(node.args, arguments):
                return None
            return f"`{function}` in `{shown}` cannot be called with {arguments} values", None
        if isinstance(node, ast.AsyncFunctionDef) and node.name == function:
            return f"`{function}` in `{shown}` is async; a plain function is needed", "write `def`, not `async def`"
    if function in names or "*" in names:
        return None
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    return f"`{shown}` has no function `{function}`", did_you_mean(function, functions)


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
