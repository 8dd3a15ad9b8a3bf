"""What an expression can see: local names, and which of them cannot be null here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from lmgraph.compiler.layers import Layers, names_above
from lmgraph.graph.types import Type
from lmgraph.source.text import Span
from lmgraph.syntax import tree


@dataclass(frozen=True, slots=True)
class Local:
    """A name bound inside a flow or metric, where it was bound, and as what."""

    type: Type
    span: Span
    kind: Literal["input", "binding", "variable", "element", "index"] = "binding"


Path: TypeAlias = tuple[str, ...]
"""`r.note` as ("r", "note")."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression can see, and what it may do."""

    locals: Mapping[str, Local]
    not_null: frozenset[Path] = frozenset()
    """Paths that are not null here: a condition around has compared them with null."""
    asserted: frozenset[Path] = frozenset()
    """Those of them that only an assert has compared. What stands after an assert runs beside it, so that a value read
    there may be null at run time: lowering guards it."""
    no_calls: tuple[str, str] | None = None
    """Where this is and what to do instead, in words, if nothing can be called here."""
    hidden: Mapping[str, Span] = field(default_factory=dict)
    """Names that blocks before this place have bound for themselves, for the words of a message."""

    def knowing(self, paths: frozenset[Path]) -> Scope:
        """Where these paths were found not to be null before anything here runs."""
        if not paths:
            return self
        return replace(self, not_null=self.not_null | paths, asserted=self.asserted - paths)

    def asserting(self, paths: frozenset[Path]) -> Scope:
        """Behind an assert that these paths are not null."""
        new = paths - self.not_null
        return replace(self, not_null=self.not_null | new, asserted=self.asserted | new) if new else self

    def forgetting(self, names: frozenset[str]) -> Scope:
        """Without what is known of variables that change."""
        if not any(path[0] in names for path in self.not_null):
            return self
        return self._knowing_only(frozenset(path for path in self.not_null if path[0] not in names), self.asserted)

    def without_calls(self, why: tuple[str, str]) -> Scope:
        return replace(self, no_calls=self.no_calls or why)

    def binding(self, name: str, local: Local) -> Scope:
        """A scope in which ``name`` means ``local``; what was known of an outer value of that name is forgotten."""
        return replace(self.forgetting(frozenset([name])), locals=Layers({name: local}, self.locals))

    def block(self) -> Scope:
        """The scope at the start of a block that stands here."""
        return replace(self, locals=Layers({}, self.locals), hidden=Layers({}, self.hidden))

    def extended(self, name: str, local: Local) -> Scope:
        """The scope of a block, in which from here on the new ``name`` means ``local``; scopes before it see it too."""
        assert isinstance(self.locals, Layers)
        self.locals[name] = local
        return self.forgetting(frozenset([name]))

    def after(self, *blocks: Scope) -> Scope:
        """The scope of a block, behind inner ones that ended with the scopes ``blocks``: their own names are gone, and
        told apart."""
        assert isinstance(self.hidden, Layers)
        for block in blocks:
            for name, span in names_above(block.hidden, self.hidden).items():
                self.hidden[name] = span
            for name, local in names_above(block.locals, self.locals).items():
                if name not in self.locals:
                    self.hidden[name] = local.span
        return self

    def meeting(self, ways: Sequence[Scope]) -> Scope:
        """This scope where control comes from the ends of ``ways``: what is known at all of them."""
        if not ways:
            return self
        known = frozenset[Path].intersection(*(way.not_null for way in ways))
        asserted = frozenset[Path].union(*(way.asserted for way in ways))
        return self._knowing_only(frozenset(path for path in known if path[0] in self.locals), asserted)

    def _knowing_only(self, paths: frozenset[Path], asserted: frozenset[Path]) -> Scope:
        return replace(self, not_null=paths, asserted=asserted & paths)


def path_of(expression: tree.Expression) -> Path | None:
    """`r.note` as a path; None for anything but names and attributes of names."""
    match expression:
        case tree.Reference(name=name):
            return (name,)
        case tree.Attribute(base=base, name=name):
            inner = path_of(base)
            return (*inner, name.text) if inner else None
        case _:
            return None


def proves_not_null(condition: tree.Expression, outcome: bool) -> frozenset[Path]:
    """The paths that cannot be null where ``condition`` came out as ``outcome``."""
    match condition:
        case tree.Comparison(operands=(left, right), operators=("!=" | "==" as operator,)):
            for side, other in ((left, right), (right, left)):
                path = path_of(side)
                if path and isinstance(other, tree.Constant):
                    # Equal to a text or number, or not equal to null.
                    wanted = "!=" if other.value is None else "=="
                    return frozenset([path]) if (operator == wanted) == outcome else frozenset()
            return frozenset()
        case tree.Unary(operator="not", operand=operand):
            return proves_not_null(operand, not outcome)
        case tree.Binary(operator="and" | "or" as operator, left=left, right=right) if (operator == "and") == outcome:
            return proves_not_null(left, outcome) | proves_not_null(right, outcome)
        case tree.Binary(operator="and" | "or", left=left, right=right):
            # One of the two sides decided: what follows from either is known.
            return proves_not_null(left, outcome) & proves_not_null(right, outcome)
        case _:
            return frozenset()
