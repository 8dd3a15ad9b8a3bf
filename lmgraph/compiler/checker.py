"""What the parts of the expression checker ask of one another. expressions.py is the one that answers."""

from __future__ import annotations

from typing import Any, Protocol

from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import Facts
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.scope import Scope
from lmgraph.graph.expressions import IT, Expr
from lmgraph.graph.types import Type
from lmgraph.program.expressions import NoValue, compile_expression
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree


class Checker(Protocol):
    declarations: Declarations
    reporter: Reporter
    facts: Facts

    def infer(self, node: tree.Expression, scope: Scope) -> Type:
        """The type of the expression; `UNKNOWN` after reporting that it has none."""
        ...

    def check(
        self, node: tree.Expression, scope: Scope, target: Type, what: str, declared: Label | None = None
    ) -> Type:
        """Reports unless the expression fits ``target``. ``what`` names the place, as in "`issue`"."""
        ...

    def no_calls(self, span: Span, what: str, scope: Scope) -> None:
        """Reports ``what`` where the scope says that nothing can be called."""
        ...

    def report_null(self, node: tree.Expression, message: str) -> None:
        """Reports a value that may be null where it must not be."""
        ...


UNION_HELP = "nothing here says which case of the union this is; give it to an `fn` that tells them apart"


def require_text(text: str, statement: Span, what: str, reporter: Reporter) -> None:
    """Reports a text that says nothing, at the end of the statement that it stands in."""
    if not text.strip():
        span = Span(statement.file, max(statement.start, statement.end - len(text) - 2), statement.end)
        reporter.error("E0322", span, f"{what} is empty", help="say it in a few words, for whoever reads it")


def is_empty_list(node: tree.Expression) -> bool:
    return isinstance(node, tree.ListExpression) and not node.items


class Holds:
    """Whether a value meets a condition; one without an outcome, as after a division by zero, does not."""

    def __init__(self, condition: Expr) -> None:
        self.condition = condition
        self._evaluate = compile_expression(condition)

    def __call__(self, value: Any) -> bool:
        try:
            return bool(self._evaluate({IT: value}))
        except NoValue:
            return False
