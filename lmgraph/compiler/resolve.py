"""Names: which declaration a name means at a place. A declared name is unique in all files of the program.

A file sees what it declares and what it imports. A name whose import was reported is silent: uses of it say no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar, cast

from lmgraph.compiler.imports import Closure, imported_names
from lmgraph.compiler.reporter import Reporter, some
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

BUILTIN_TYPES = ("str", "int", "float", "bool", "list", "map")
BUILTIN_FUNCTIONS = ("len",)

Named: TypeAlias = (
    tree.Enum
    | tree.Record
    | tree.Lm
    | tree.Extern
    | tree.Module
    | tree.Instance
    | tree.Flow
    | tree.Dataset
    | tree.Metric
    | tree.Objective
)
_Wanted = TypeVar("_Wanted", bound=Named)

_KINDS: dict[type, str] = {
    tree.Enum: "an enum",
    tree.Record: "a record",
    tree.Lm: "an lm",
    tree.Extern: "a tool, retriever or fn",
    tree.Module: "a module",
    tree.Instance: "a module",
    tree.Flow: "a flow",
    tree.Dataset: "a dataset",
    tree.Metric: "a metric",
    tree.Objective: "an objective",
}


def kind_of(declaration: Named) -> str:
    """ "a module", with its article, for messages."""
    if isinstance(declaration, tree.Extern):
        return f"{'an' if declaration.kind == 'fn' else 'a'} {declaration.kind}"
    return _KINDS[type(declaration)]


def _by_kind(declared: Mapping[str, Named]) -> dict[type, list[tuple[int, str]]]:
    """The names of each kind, with their numbers among all names."""
    found: dict[type, list[tuple[int, str]]] = {}
    for number, (name, declaration) in enumerate(declared.items()):
        found.setdefault(type(declaration), []).append((number, name))
    return found


class Names:
    """The declarations of a program by name, and lookups that report what is wrong with a name."""

    def __init__(self, closure: Closure, reporter: Reporter) -> None:
        self._reporter = reporter
        self.declared: dict[str, Named] = {}
        """Every declaration by the name that the graph knows it by; the root file's first."""
        self.root = closure.root.source.name
        own: dict[str, dict[str, tree.Declaration]] = {name: {} for name in closure.units}
        for name, unit in closure.units.items():
            for declaration in unit.file.declarations:
                if isinstance(declaration, Named):
                    own[name].setdefault(declaration.name.text, declaration)
                    self._declare(declaration)
        self._visible: dict[str, dict[str, Named]] = {}
        self._paths = {name: unit.path for name, unit in closure.units.items()}
        self._silent: dict[str, set[str]] = {}
        for name, unit in closure.units.items():
            imported, self._silent[name] = imported_names(unit, own, reporter)
            self._visible[name] = cast(dict[str, Named], dict(own[name]))
            for local, (place, declaration) in imported.items():
                self._check_free(local, place, own[name])
                self._visible[name].setdefault(local, cast(Named, declaration))
        self._declared_by_kind = _by_kind(self.declared)
        self._visible_by_kind = {name: _by_kind(visible) for name, visible in self._visible.items()}
        self.alone = self._lone_module()
        """The module that is a program by itself: the only one of a file without a flow."""

    def _lone_module(self) -> tree.Module | None:
        callables = self._visible_by_kind[self.root]
        found = [one for kind in (tree.Module, tree.Instance, tree.Flow) for one in callables.get(kind, ())]
        only = self._visible[self.root][found[0][1]] if len(found) == 1 else None
        return only if isinstance(only, tree.Module) and only.name.span.file == self.root else None

    def _declare(self, declaration: Named) -> None:
        name = declaration.name
        first = self.declared.get(name.text)
        if first is not None:
            elsewhere = first.name.span.file != name.span.file
            self._reporter.error(
                "E0202",
                name.span,
                f"`{name.text}` is declared a second time",
                secondary=[Label(first.name.span, f"first declared here, as {kind_of(first)}")],
                help="names are unique in all files of a program; rename one of the two"
                if elsewhere
                else "every declaration of a file needs a name of its own; rename one of the two",
            )
            return
        if name.text in BUILTIN_TYPES + BUILTIN_FUNCTIONS:
            self._reserved(name)
        self.declared[name.text] = declaration

    def _check_free(self, local: str, place: tree.Identifier, own: dict[str, tree.Declaration]) -> None:
        """Reports an imported name that the file declares itself, or that belongs to the language."""
        if local in BUILTIN_TYPES + BUILTIN_FUNCTIONS:
            self._reserved(place)
        first = own.get(local)
        if isinstance(first, Named) and first is not self.declared.get(local):
            return  # the second declaration was reported
        if isinstance(first, Named):
            self._reporter.error(
                "E0202",
                place.span,
                f"`{local}` is imported here and declared in this file",
                secondary=[Label(first.name.span, f"declared here, as {kind_of(first)}")],
                help="import it under another name: `import A as B`",
            )

    def _reserved(self, name: tree.Identifier) -> None:
        self._reporter.error(
            "E0202", name.span, f"`{name.text}` is a name of the language itself", help="choose another name"
        )

    def get(self, name: str, at: Span) -> Named | None:
        """What the name means in the file of ``at``."""
        return self._visible.get(at.file, {}).get(name)

    def is_silent(self, name: str, at: Span) -> bool:
        """Whether the name's import was reported already."""
        return name in self._silent.get(at.file, ())

    def every(self, kind: type[_Wanted], *, root_only: bool = False) -> Iterator[_Wanted]:
        """The declarations of one kind, each name once, in source order, the root file's first."""
        for _, name in self._declared_by_kind.get(kind, ()):
            declaration = cast(_Wanted, self.declared[name])
            if not root_only or declaration.name.span.file == self.root:
                yield declaration

    def of_kind(self, at: Span, *kinds: type) -> list[str]:
        """Names of these kinds that the file of ``at`` sees."""
        visible = self._visible_by_kind.get(at.file, {})
        found = [pair for kind in kinds for pair in visible.get(kind, ())]
        return [name for _, name in (sorted(found) if len(kinds) > 1 else found)]

    def report_elsewhere(self, name: str, at: Span, *kinds: type) -> bool:
        """Reports a name that another file of the program declares and this one does not import."""
        found = self.declared.get(name)
        if found is None or name in self._visible.get(at.file, {}) or not isinstance(found, kinds or object):
            return False
        there = found.name.span.file
        inside = there == self.root
        self._reporter.error(
            "E0201",
            at,
            f"`{name}` is declared in another file, and not imported here",
            secondary=[Label(found.name.span, f"declared here, as {kind_of(found)}")],
            help="move it to a file that both import"
            if inside
            else f'write `from "{self._paths[there]}" import {name}`',
        )
        return True

    def find(self, name: str, at: Span, kind: type[_Wanted]) -> _Wanted | None:
        """The declaration of that kind, or None after reporting an unknown name or one of another kind."""
        found = self._find(name, at, _KINDS[kind], kind)
        return found if isinstance(found, kind) else None

    def find_module(self, name: str, at: Span) -> tree.Module | tree.Instance | None:
        """As ``find``, for a module, made from another one or not."""
        found = self._find(name, at, _KINDS[tree.Module], tree.Module, tree.Instance)
        return found if isinstance(found, tree.Module | tree.Instance) else None

    def find_callable(self, name: str, at: Span) -> tree.Module | tree.Instance | tree.Flow | tree.Extern | None:
        """As ``find``, for what has a signature."""
        wanted = "a module, flow, tool, retriever or fn"
        found = self._find(name, at, wanted, tree.Module, tree.Instance, tree.Flow, tree.Extern)
        return found if isinstance(found, tree.Module | tree.Instance | tree.Flow | tree.Extern) else None

    def _find(self, name: str, at: Span, wanted: str, *kinds: type) -> Named | None:
        found = self.get(name, at)
        if isinstance(found, kinds):
            return found
        if found is None and self.is_silent(name, at):
            return None
        if found is None:
            if self.report_elsewhere(name, at, *kinds):
                return None
            known = self.of_kind(at, *kinds)
            plain = wanted.split(" ", 1)[1]
            self._reporter.unknown(
                "E0201",
                at,
                f"no {plain} is named `{name}`",
                name,
                known,
                otherwise=f"{_plural(plain)} known here: {some(known)}" if known else f"the file declares no {plain}",
            )
        else:
            self.wrong_kind(name, at, found, wanted, self.of_kind(at, *kinds))
        return None

    def wrong_kind(self, name: str, span: Span, found: Named, wanted: str, known: Sequence[str] | None = None) -> None:
        """Reports a name of another kind than ``wanted``; ``known`` are those that would do, if one can list them."""
        plain = wanted.split(" ", 1)[1]
        help = None
        if known is not None:
            help = f"{_plural(plain)} known here: {some(known)}" if known else f"the file declares no {plain}"
        self._reporter.error(
            "E0204",
            span,
            f"`{name}` is {kind_of(found)}; {wanted} is needed here",
            secondary=[Label(found.name.span, "declared here")],
            help=help,
        )


def _plural(plain: str) -> str:
    """ "modules" of "module", "tools, retrievers or fns" of "tool, retriever or fn"."""
    return re.sub(r"(\w\w+)(?=,|$| or )", r"\1s", plain)
