"""Tools, retrievers and fns: their settings, and the Python behind them."""

from __future__ import annotations

from lmgraph.compiler.blocks import Settings
from lmgraph.compiler.constraints import Conditions
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.references import check_extern
from lmgraph.compiler.relations import mentions_unknown
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.written_types import is_private
from lmgraph.graph.graph import ExternSpec
from lmgraph.graph.types import ListType
from lmgraph.syntax import tree

EXTERN_SETTINGS = ("description", "cache", "timeout", "returns_at_most", "files")
CLEARED_SETTINGS = (*EXTERN_SETTINGS, "clearance")
"""Of what may pass on what it is given. An `fn` is pure: what it gives back is as private as what it was given."""
LONGEST = 86_400.0
"""Seconds that a Python call may be given."""


def read_extern(
    declaration: tree.Extern,
    declarations: Declarations,
    conditions: Conditions,
    files: ProgramFiles,
    reporter: Reporter,
) -> ExternSpec:
    name = declaration.name.text
    signature = declarations.signature(declaration)
    entries = declaration.block.entries if declaration.block else ()
    known = EXTERN_SETTINGS if declaration.kind == "fn" else CLEARED_SETTINGS
    settings = Settings(f"{declaration.kind} `{name}`", entries, known, reporter)
    cache = settings.word("cache", ("forever", "never"))
    if cache == "forever" and declaration.kind == "tool":
        reporter.error(
            "E0312",
            settings.span("cache"),
            "a tool may act, so its answers are not remembered",
            help="declare it as a `retriever` if it only reads",
        )
    bound = settings.expression("returns_at_most")
    most = None
    if bound is not None and mentions_unknown(signature.result):
        pass  # what the list holds was reported
    elif bound is not None and not isinstance(signature.result, ListType):
        reporter.error("E0312", bound.span, f"`returns_at_most` bounds a list; `{name}` gives back none")
    elif bound is not None:
        places = {node.name.text: node.name for node in declaration.signature.inputs}
        most = conditions.bound(bound, {one.name: (one, places[one.name]) for one in signature.inputs})
    cleared = "clearance" in settings and settings.word("clearance", ("public", "private")) == "private"
    given = declaration.signature.result
    python = check_extern(declaration.target, signature, files, reporter)
    return ExternSpec(
        name=name,
        kind=declaration.kind,
        inputs=signature.inputs,
        result=signature.result,
        python=python,
        description=settings.text("description"),
        cache=cache == "forever",
        timeout=settings.number("timeout", 0.001, LONGEST),
        returns_at_most=most,
        files=_files(settings, files, reporter),
        clearance="private" if cleared else "public",
        label="private" if given is not None and is_private(given) else "public",
    )


def _files(settings: Settings, files: ProgramFiles, reporter: Reporter) -> tuple[str, ...]:
    """Paths that the Python reads. One that is not there yet is a warning: a build step may make it."""
    value = settings.expression("files")
    if value is None:
        return ()
    found: list[str] = []
    for node in value.items if isinstance(value, tree.ListExpression) else (value,):
        if not (isinstance(node, tree.Constant) and isinstance(node.value, str)):
            reporter.error("E0312", node.span, '`files` must be a list of paths, as in `["data/pages.jsonl"]`')
            continue
        relative = files.relative(node)
        if relative is not None and not files.exists(relative):
            reporter.warning(
                "W0005",
                node.span,
                f"there is no file `{relative}` in the program's folder yet",
                help="the Python that reads it may fail; artifacts are made without it",
            )
        if relative is not None:
            found.append(relative)
    return tuple(found)
