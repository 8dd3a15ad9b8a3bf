"""How types, expressions, fields and blocks are set: documents for layout.py. format.py sets what holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.comments import Comment, Margin
from lmgraph.syntax.layout import HARD, NOTHING, SPACE, Break, Document, Suffix, WhenBroken, group, join, nest
from lmgraph.syntax.strings import write_string

_LEVELS: dict[str, int] = {"or": 1, "and": 2, "+": 5, "-": 5, "*": 6, "/": 6}
_WHOLE, _OR, _NOT, _COMPARISON, _SUM, _MINUS, _POSTFIX, _ATOM = 0, 1, 3, 4, 5, 7, 8, 9


class Placed(Protocol):
    """Anything with a span."""

    @property
    def span(self) -> Span: ...


_Node = TypeVar("_Node", bound=Placed)


class PartsFormatter:
    """Sets one file's parts; ``margin`` hands out the comments on the way."""

    def __init__(self, margin: Margin) -> None:
        self.margin = margin

    # -- comments ----------------------------------------------------------------------------------------------------

    def with_comments(self, node: _Node, build: Callable[[_Node], Document]) -> Document:
        """``node`` under the comments that stand before it or somewhere within it where no line can end."""
        above = self.margin.before(node.span.start)
        built = build(node)
        above += self.margin.before(node.span.end)
        return (*comment_lines(above), built)

    def suffix(self, offset: int, *, closed: bool = False) -> Document:
        """The comment at the end of the line, after the construct that ends at ``offset`` (and a `)` if ``closed``)."""
        text = self.margin.trailing(offset, closed=closed)
        return Suffix(text) if text else ()

    def enclosed(
        self, opening: str, nodes: Sequence[_Node], closing: str, build: Callable[[_Node], Document], end: int
    ) -> Document:
        """``(a, b)``, one item a line with a last comma where they do not fit. ``end`` is where the bracket closes."""
        items: list[Document] = []
        for index, node in enumerate(nodes):
            comma: Document = "," if index < len(nodes) - 1 else WhenBroken(",")
            items.append((self.with_comments(node, build), comma, self.suffix(node.span.end)))
        dangling = self.margin.before(end)
        if not items and not dangling:
            return opening + closing
        inside = join(SPACE, [*items, *_comment_items(dangling)])
        return group(opening, nest(2, NOTHING, *inside), NOTHING, closing)

    # -- types -------------------------------------------------------------------------------------------------------

    def type(self, node: tree.TypeNode) -> str:
        """Types are set on one line."""
        if isinstance(node, tree.NamedType):
            return ".".join(part.text for part in node.path)
        if isinstance(node, tree.GenericType):
            return f"{node.name.text}[{', '.join(self.type(argument) for argument in node.arguments)}]"
        if isinstance(node, tree.LiteralTypeNode):
            return write_string(node.value) if isinstance(node.value, str) else str(node.value)
        if isinstance(node, tree.OptionalTypeNode):
            return f"{self.type(node.inner)}?"
        if isinstance(node, tree.PrivateTypeNode):
            return f"private {self.type(node.inner)}"
        return " | ".join(self.type(option) for option in node.options)

    # -- expressions -------------------------------------------------------------------------------------------------

    def expression(self, node: tree.Expression, level: int = _WHOLE) -> Document:
        """``node``, in parentheses where it binds looser than ``level``."""
        built = self._expression(node)
        if _level(node) < level:
            return group("(", nest(2, NOTHING, built), NOTHING, ")")
        return built

    def _expression(self, node: tree.Expression) -> Document:
        if isinstance(node, tree.Constant):
            return self._constant(node)
        if isinstance(node, tree.Reference):
            return node.name
        if isinstance(node, tree.Attribute):
            return (self.expression(node.base, _POSTFIX), f".{node.name.text}")
        if isinstance(node, tree.Index):
            return (self.expression(node.base, _POSTFIX), "[", self.expression(node.index), "]")
        if isinstance(node, tree.CallExpression):
            callee = self.expression(node.callee, _POSTFIX)
            return (callee, self.arguments(node.arguments, node.span.end))
        if isinstance(node, tree.ListExpression):
            return self.enclosed("[", node.items, "]", self.expression, node.span.end)
        if isinstance(node, tree.Comprehension):
            return self._comprehension(node)
        if isinstance(node, tree.Conditional):
            branches = (
                *(SPACE, "then ", self.expression(node.when_true)),
                *(SPACE, "else ", self.expression(node.when_false)),
            )
            return group("if ", self.expression(node.condition), nest(2, *branches))
        if isinstance(node, tree.Catch):
            fallback = (SPACE, "catch ", self.expression(node.fallback))
            return group(self.expression(node.call, _OR), nest(2, *fallback))
        if isinstance(node, tree.Comparison):
            return self._comparison(node)
        if isinstance(node, tree.Binary):
            return self._chain(node)
        operator, level = ("not ", _NOT) if node.operator == "not" else ("-", _MINUS)
        return (operator, self.expression(node.operand, level))

    def _constant(self, node: tree.Constant) -> str:
        value = node.value
        if isinstance(value, str):
            return write_string(value)
        if isinstance(value, float) or type(value) is int:
            # A number keeps the digits that its author wrote: 0.80, 1e-5.
            written = self.margin.text[node.span.start : node.span.end].strip("() \t\r\n")
            return written if written and written[0].isdigit() and _same_number(written, value) else repr(value)
        return "null" if value is None else "true" if value else "false"

    def _comprehension(self, node: tree.Comprehension) -> Document:
        condition: tuple[Document, ...] = ()
        element = self.expression(node.element)
        iterable = self.expression(node.iterable, _OR)
        if node.condition is not None:
            condition = (SPACE, "if ", self.expression(node.condition, _OR))
        source = (SPACE, f"for {node.variable.text} in ", iterable)
        return group("[", nest(2, NOTHING, element, *source, *condition), NOTHING, "]")

    def _comparison(self, node: tree.Comparison) -> Document:
        first, *others = (self.expression(operand, _SUM) for operand in node.operands)
        rest: list[Document] = []
        for operator, operand in zip(node.operators, others, strict=True):
            rest += [SPACE, f"{operator} ", operand]
        return group(first, nest(2, *rest))

    def _chain(self, node: tree.Binary) -> Document:
        """Operators of one level in a row break together."""
        level = _LEVELS[node.operator]
        links: list[tree.Binary] = []
        first: tree.Expression = node
        while isinstance(first, tree.Binary) and _LEVELS[first.operator] == level:
            links.append(first)
            first = first.left
        parts: list[Document] = [self.expression(first, level)]
        rest: list[Document] = []
        for link in reversed(links):
            rest += [SPACE, f"{link.operator} ", self.expression(link.right, level + 1)]
        return group(*parts, nest(2, *rest))

    def arguments(self, arguments: Sequence[tree.Argument], end: int) -> Document:
        return self.enclosed("(", arguments, ")", self._argument, end)

    def _argument(self, node: tree.Argument) -> Document:
        value = self.expression(node.value)
        return (f"{node.name.text}=", value) if node.name else value

    # -- fields and blocks -------------------------------------------------------------------------------------------

    def field(self, node: tree.FieldNode) -> Document:
        parts: list[Document] = [f"{node.name.text}: {self.type(node.type)}"]
        if node.default is not None:
            parts += [" = ", self.expression(node.default)]
        if node.description is not None:
            parts.append(f" {write_string(node.description)}")
        if node.constraint is not None:
            parts.append(nest(2, SPACE, "where ", self.expression(node.constraint)))
        return group(*parts)

    def block(self, node: tree.Block, separator: str = "  ") -> Document:
        """On one line where its author began it on one line and it fits."""
        return self.braces(node.entries, self._entry, node.span.start, node.span.end, separator)

    def _entry(self, node: tree.Entry) -> Document:
        value = node.value
        built = self.block(value, ", ") if isinstance(value, tree.Block) else self.expression(value)
        return (f"{node.key.text}: ", built)

    def braces(
        self, nodes: Sequence[_Node], build: Callable[[_Node], Document], start: int, end: int, separator: str
    ) -> Document:
        """`{ a  b }`: ``start`` and ``end`` are the offsets of the braces (end exclusive)."""
        if not nodes and not self.margin.holds(start, end):
            return "{}"
        one_line = bool(nodes) and bool(self.margin.text) and not self.margin.holds(start, end)
        if one_line and not self.margin.broken(start, nodes[0].span.start):
            items = [build(node) for node in nodes]
            return group("{", nest(2, SPACE, *join(Break(separator), items)), SPACE, "}")
        opening = ("{", self.suffix(start + 1))
        return (*opening, nest(2, *self.lines(nodes, build, end)), HARD, "}")

    def lines(
        self, nodes: Sequence[_Node], build: Callable[[_Node], Document], end: int, *, first: bool = True
    ) -> list[Document]:
        """One node a line, each after a line break, with its comments and the blank lines its author left (one).

        ``first``: nothing but the opening brace stands above.
        """
        lines: list[Document] = []
        for node in nodes:
            blank = self.margin.blank_before(node.span.start)
            above = self.margin.before(node.span.start)
            built = build(node)
            within = self.margin.before(node.span.end)
            lines += spaced_comments([*above, *within], first=first and not lines)
            if blank and (lines or not first):
                lines.append(HARD)
            lines += [HARD, built, self.suffix(node.span.end)]
        lines += spaced_comments(self.margin.before(end), first=first and not lines)
        return lines


def spaced_comments(comments: Sequence[Comment], *, first: bool) -> list[Document]:
    """Comments on lines of their own, each after a line break; ``first`` where nothing stands above them."""
    lines: list[Document] = []
    for comment in comments:
        if comment.blank_before and not (first and not lines):
            lines.append(HARD)
        lines += [HARD, comment.text]
    return lines


def comment_lines(comments: Sequence[Comment]) -> tuple[Document, ...]:
    """Comments on lines of their own, each before a line break."""
    return tuple(part for comment in comments for part in (comment.text, HARD))


def _comment_items(comments: Sequence[Comment]) -> list[Document]:
    if not comments:
        return []
    last: Document = (*comment_lines(comments[:-1]), comments[-1].text)
    return [group(last, broken=True)]


def _same_number(written: str, value: int | float) -> bool:
    try:
        return float(written) == value
    except ValueError:
        return False


def _level(node: tree.Expression) -> int:
    if isinstance(node, (tree.Conditional, tree.Catch)):
        return _WHOLE
    if isinstance(node, tree.Binary):
        return _LEVELS[node.operator]
    if isinstance(node, tree.Unary):
        return _NOT if node.operator == "not" else _MINUS
    if isinstance(node, tree.Comparison):
        return _COMPARISON
    if isinstance(node, (tree.Attribute, tree.Index, tree.CallExpression)):
        return _POSTFIX
    return _ATOM
