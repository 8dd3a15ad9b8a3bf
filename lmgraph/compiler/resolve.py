"""Names: which declaration a name means. Every declared name is unique in its file, whatever its kind.

A name whose declaration is not compiled yet was reported once by unlowered.py; uses of it say nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, TypeVar

from lmgraph.compiler.reporter import Reporter
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

BUILTIN_TYPES = ("str", "int", "float", "bool", "list", "map")
BUILTIN_FUNCTIONS = ("len",)

Named: TypeAlias = (
    tree.Enum | tree.Record | tree.Lm | tree.Extern | tree.Module | tree.Instance | tree.Flow | tree.Dataset
    | tree.Metric | tree.Objective
)
_Wanted = TypeVar(
    "_Wanted", tree.Enum, tree.Record, tree.Lm, tree.Module, tree.Flow, tree.Dataset, tree.Metric, tree.Objective
)

_KINDS: dict[type, str] = {
    tree.Enum: "an enum",
    tree.Record: "a record",
    tree.Lm: "an lm",
    tree.Module: "a module",
    tree.Instance: "a module",
    tree.Flow: "a flow",
    tree.Dataset: "a dataset",
    tree.Metric: "a metric",
    tree.Objective: "an objective",
}


def kind_of(declaration: Named) -> str:
    """"a module", with its article, for messages."""
    if isinstance(declaration, tree.Extern):
        return f"a {declaration.kind}"
    return _KINDS[type(declaration)]


class Names:
    """The declarations of one file by name, and lookups that report what is wrong with a name."""

    def __init__(self, file: tree.File, reporter: Reporter) -> None:
        self._reporter = reporter
        self.declared: dict[str, Named] = {}
        self.silent: set[str] = set()
        """Names that a declaration which is not compiled yet brings in."""
        for declaration in file.declarations:
            if isinstance(declaration, tree.Import):
                self.silent.update((item.alias or item.name).text for item in declaration.names)
            elif not isinstance(declaration, tree.Test | tree.Moved):
                self._declare(declaration)

    def _declare(self, declaration: Named) -> None:
        name = declaration.name
        first = self.declared.get(name.text)
        if first is not None:
            self._reporter.error(
                "E0202",
                name.span,
                f"`{name.text}` is declared a second time",
                secondary=[Label(first.name.span, f"first declared here, as {kind_of(first)}")],
                help="every declaration of a file needs a name of its own; rename one of the two",
            )
            return
        if name.text in BUILTIN_TYPES + BUILTIN_FUNCTIONS:
            self._reporter.error(
                "E0202", name.span, f"`{name.text}` is a name of the language itself", help="choose another name"
            )
        self.declared[name.text] = declaration
        if isinstance(declaration, tree.Extern | tree.Instance):
            self.silent.add(name.text)

    def every(self, kind: type[_Wanted]) -> Iterator[_Wanted]:
        """The declarations of one kind, each name once, in source order."""
        for declaration in self.declared.values():
            if isinstance(declaration, kind):
                yield declaration

    def of_kind(self, *kinds: type) -> list[str]:
        return [name for name, declaration in self.declared.items() if isinstance(declaration, kinds)]

    def find(self, name: str, span: Span, kind: type[_Wanted]) -> _Wanted | None:
        """The declaration of that kind, or None after reporting an unknown name or one of another kind."""
        found = self.declared.get(name)
        if isinstance(found, kind):
            return found
        if name in self.silent:
            return None
        wanted = _KINDS[kind]
        if found is None:
            known = self.of_kind(kind)
            plain = wanted.split(" ", 1)[1]
            self._reporter.unknown(
                "E0201",
                span,
                f"no {plain} is named `{name}`",
                name,
                known,
                otherwise=f"the file declares no {plain}" if not known else f"the names known here are {_some(known)}",
            )
        else:
            self.wrong_kind(name, span, found, wanted)
        return None

    def wrong_kind(self, name: str, span: Span, found: Named, wanted: str) -> None:
        self._reporter.error(
            "E0204",
            span,
            f"`{name}` is {kind_of(found)}; {wanted} is needed here",
            secondary=[Label(found.name.span, "declared here")],
        )


def _some(names: list[str], most: int = 6) -> str:
    shown = ", ".join(f"`{name}`" for name in sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
