"""Tree nodes out of grammar rules: one method a rule of lmg.lark, called as the parser reduces it.

A method gets the rule's children in order, every token included; a token is a string with ``type``, ``start_pos``
and ``end_pos``. What a rule cannot refuse (an escape, a number's range) is noted in ``problems`` and the tree goes on
with a stand-in. Knows the grammar's rule names, and nothing of the parser that calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from lmgraph.source.diagnostic import Diagnostic, Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree
from lmgraph.syntax.strings import ESCAPES_IN_WORDS, Unquoted, read_long_string, read_string

INTEGER_DIGITS = 18
EDITIONS = (1,)

Children = list[Any]
"""Tokens, nodes and pieces: their types follow from the rule's text in lmg.lark."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a node under construction that is no node itself."""

    value: Any
    span: Span


class TreeBuilder:
    """Builds one file's tree at a time: set ``file`` and clear ``problems`` before each parse."""

    def __init__(self) -> None:
        self.file = ""
        self.problems: list[Diagnostic] = []

    # -- places and texts --------------------------------------------------------------------------------------------

    def span(self, children: Children) -> Span:
        first, last = children[0], children[-1]
        start: int = first.span.start if hasattr(first, "span") else first.start_pos
        end: int = last.span.end if hasattr(last, "span") else last.end_pos
        return Span(self.file, start, end)

    def _text(self, token: Any) -> str:
        return self._unquoted(token, read_string)

    def _unquoted(self, token: Any, read: Callable[[str], Unquoted]) -> str:
        found = read(str(token))
        for bad in found.bad:
            self._problem(
                "E0106",
                "unknown escape in a string",
                Span(self.file, token.start_pos + bad.start, token.start_pos + bad.end),
                f"`{token[bad.start : bad.end]}` is no escape",
                f"the escapes are {ESCAPES_IN_WORDS}; a backslash itself is written `\\\\`",
            )
        return found.text

    def _integer(self, token: Any) -> int:
        if len(token) > INTEGER_DIGITS:
            self._out_of_range(token, f"a whole number has at most {INTEGER_DIGITS} digits, this one has {len(token)}")
            return 0
        return int(token)

    def _float(self, token: Any) -> float:
        value = float(token)
        if value in (float("inf"), float("-inf")):
            self._out_of_range(token, "this number is beyond the range of a 64-bit float")
            return 0.0
        return value

    def _out_of_range(self, token: Any, message: str) -> None:
        self._problem("E0112", "number is out of range", self.span([token]), message, "write a smaller number")

    def _problem(self, code: str, title: str, span: Span, message: str, help: str) -> None:
        self.problems.append(Diagnostic(code, title, Label(span, message), help=help))

    # -- the file and its declarations -------------------------------------------------------------------------------

    def start(self, children: Children) -> tree.File:
        edition: int | None = None
        if children and isinstance(children[0], _Piece):
            edition = children.pop(0).value
        return tree.File(edition, tuple(children))

    def edition(self, children: Children) -> _Piece:
        number = self._integer(children[1])
        if number not in EDITIONS:
            self._problem(
                "E0111",
                "edition is not known",
                self.span([children[1]]),
                f"this version reads edition {EDITIONS[-1]}, not {children[1]}",
                f"write `edition {EDITIONS[-1]}`, or install a version of lmgraph that reads this edition",
            )
        return _Piece(number, self.span(children))

    def import_(self, children: Children) -> tree.Import:
        names = tuple(child for child in children if isinstance(child, tree.ImportName))
        return tree.Import(self._string_constant(children[1]), names, self.span(children))

    def import_name(self, children: Children) -> tree.ImportName:
        alias = children[2] if len(children) == 3 else None
        return tree.ImportName(children[0], alias, self.span(children))

    def moved(self, children: Children) -> tree.Moved:
        return tree.Moved(children[1], children[3], self.span(children))

    def enum_inline(self, children: Children) -> tree.Enum:
        members = tuple(child for child in children if isinstance(child, tree.EnumMemberNode))
        return tree.Enum(children[1], members, None, self.span(children))

    def enum_file(self, children: Children) -> tree.Enum:
        return tree.Enum(children[1], (), children[3], self.span(children))

    def member(self, children: Children) -> tree.EnumMemberNode:
        parts = _without_comma(children)
        label: str | None = None
        description: str | None = None
        rest = parts[1:]
        if rest and rest[0].type == "EQUAL":
            label, rest = self._text(rest[1]), rest[2:]
        if rest:
            description = self._text(rest[0])
        return tree.EnumMemberNode(parts[0], label, description, self.span(parts))

    def record(self, children: Children) -> tree.Record:
        fields = tuple(child for child in children if isinstance(child, tree.FieldNode))
        return tree.Record(children[1], _doc(children), fields, self.span(children))

    def lm(self, children: Children) -> tree.Lm:
        return tree.Lm(children[1], children[2], self.span(children))

    def extern(self, children: Children) -> tree.Extern:
        kind = cast(Literal["tool", "retriever", "fn"], str(children[0]))
        block = children[5] if len(children) == 6 else None
        return tree.Extern(kind, children[1], children[2], children[4], block, self.span(children))

    def module(self, children: Children) -> tree.Module:
        entries = tuple(child for child in children if isinstance(child, tree.Entry))
        checks = tuple(child for child in children if isinstance(child, (tree.Assert, tree.Check)))
        return tree.Module(children[1], children[2], _doc(children), entries, checks, self.span(children))

    def instance(self, children: Children) -> tree.Instance:
        block = children[4] if len(children) == 5 else None
        return tree.Instance(children[1], children[3], block, self.span(children))

    def flow(self, children: Children) -> tree.Flow:
        body = tuple(_nodes(children[4:-1]))
        return tree.Flow(children[1], children[2], _doc(children), body, self.span(children))

    def dataset(self, children: Children) -> tree.Dataset:
        block = children[6] if len(children) == 7 else None
        return tree.Dataset(children[1], children[3], children[5], block, self.span(children))

    def metric(self, children: Children) -> tree.Metric:
        return tree.Metric(children[1], children[2], children[4], self.span(children))

    def objective(self, children: Children) -> tree.Objective:
        return tree.Objective(children[1], children[2], self.span(children))

    def test(self, children: Children) -> tree.Test:
        return tree.Test(self._text(children[1]), tuple(_nodes(children[3:-1])), self.span(children))

    # -- their parts -------------------------------------------------------------------------------------------------

    def signature(self, children: Children) -> tree.Signature:
        inputs = tuple(child for child in children[:-1] if isinstance(child, tree.FieldNode))
        last = children[-1]
        if isinstance(last, _Piece):
            return tree.Signature(inputs, last.value, None, self.span(children))
        return tree.Signature(inputs, (), last, self.span(children))

    def outputs(self, children: Children) -> _Piece:
        return _Piece(tuple(_nodes(children)), self.span(children))

    def field(self, children: Children) -> tree.FieldNode:
        default: tree.Expression | None = None
        description: str | None = None
        constraint: tree.Expression | None = None
        index = 3
        while index < len(children):
            child = children[index]
            if child.type == "EQUAL":
                default = children[index + 1]
            elif child.type == "WHERE":
                constraint = children[index + 1]
            else:
                description = self._text(child)
                index -= 1
            index += 2
        return tree.FieldNode(children[0], children[2], default, description, constraint, self.span(children))

    def doc(self, children: Children) -> _Piece:
        return _Piece(self._unquoted(children[0], read_long_string), self.span(children))

    def file_source(self, children: Children) -> tree.FileSource:
        return tree.FileSource(children[0], self._string_constant(children[1]), self.span(children))

    def python_reference(self, children: Children) -> tree.PythonReference:
        return tree.PythonReference(self._string_constant(children[1]), self.span(children))

    def block(self, children: Children) -> tree.Block:
        return tree.Block(tuple(_nodes(children)), self.span(children))

    def entry(self, children: Children) -> tree.Entry:
        return tree.Entry(children[0], children[2], self.span(children))

    def label(self, children: Children) -> tree.Reference:
        return tree.Reference(str(children[0]), self.span(children))

    # -- statements --------------------------------------------------------------------------------------------------

    def bind(self, children: Children) -> tree.Bind:
        annotation = children[2] if len(children) == 5 else None
        return tree.Bind(children[0], annotation, children[-1], self.span(children))

    def var(self, children: Children) -> tree.Var:
        annotation = children[3] if len(children) == 6 else None
        return tree.Var(children[1], annotation, children[-1], self.span(children))

    def update(self, children: Children) -> tree.Update:
        return tree.Update(children[0], children[2], self.span(children))

    def release(self, children: Children) -> tree.Release:
        return tree.Release(children[1], children[3], self._text(children[5]), self.span(children))

    def if_(self, children: Children) -> tree.If:
        otherwise: tuple[tree.Statement, ...] | None = None
        if len(children) == 5:
            last = children[4]
            otherwise = (last,) if isinstance(last, tree.If) else last.value
        return tree.If(children[1], children[2].value, otherwise, self.span(children))

    def repeat(self, children: Children) -> tree.Repeat:
        index = children[4] if len(children) == 6 else None
        return tree.Repeat(self._integer(children[2]), index, children[-1].value, self.span(children))

    def stop(self, children: Children) -> tree.Stop:
        return tree.Stop(children[2], self.span(children))

    def assert_(self, children: Children) -> tree.Assert:
        return tree.Assert(children[1], self._text(children[3]), self.span(children))

    def check(self, children: Children) -> tree.Check:
        return tree.Check(children[1], self._text(children[3]), self.span(children))

    def return_(self, children: Children) -> tree.Return:
        return tree.Return(children[1].value, self.span(children))

    def stub(self, children: Children) -> tree.Stub:
        answers = tuple(child.value for child in children if isinstance(child, _Piece))
        return tree.Stub(children[1], answers, self.span(children))

    def body(self, children: Children) -> _Piece:
        return _Piece(tuple(_nodes(children)), self.span(children))

    # -- types -------------------------------------------------------------------------------------------------------

    def union(self, children: Children) -> tree.UnionTypeNode:
        return tree.UnionTypeNode(tuple(children[::2]), self.span(children))

    def optional(self, children: Children) -> tree.OptionalTypeNode:
        return tree.OptionalTypeNode(children[0], self.span(children))

    def named(self, children: Children) -> tree.NamedType:
        return tree.NamedType(tuple(children[::2]), self.span(children))

    def generic(self, children: Children) -> tree.GenericType:
        return tree.GenericType(children[0], tuple(children[2:-1:2]), self.span(children))

    def literal(self, children: Children) -> tree.LiteralTypeNode:
        token = children[0]
        value = self._integer(token) if token.type == "INT" else self._text(token)
        return tree.LiteralTypeNode(value, self.span(children))

    def private(self, children: Children) -> tree.PrivateTypeNode:
        return tree.PrivateTypeNode(children[1], self.span(children))

    # -- expressions -------------------------------------------------------------------------------------------------

    def conditional(self, children: Children) -> tree.Conditional:
        return tree.Conditional(children[1], children[3], children[5], self.span(children))

    def catch(self, children: Children) -> tree.Catch:
        return tree.Catch(children[0], children[2], self.span(children))

    def _binary(self, children: Children) -> tree.Expression:
        left: tree.Expression = children[0]
        start = left.span.start
        for index in range(1, len(children), 2):
            right = children[index + 1]
            span = Span(self.file, start, right.span.end)
            left = tree.Binary(_operator(children[index]), left, right, span)
        return left

    disjunction = conjunction = sum = product = _binary

    def negation(self, children: Children) -> tree.Unary:
        return tree.Unary("not", children[1], self.span(children))

    def minus(self, children: Children) -> tree.Unary:
        return tree.Unary("-", children[1], self.span(children))

    def comparison(self, children: Children) -> tree.Comparison:
        operators = tuple(piece.value for piece in children[1::2])
        return tree.Comparison(tuple(children[::2]), operators, self.span(children))

    def operator(self, children: Children) -> _Piece:
        return _Piece(" ".join(children), self.span(children))

    def postfix(self, children: Children) -> tree.Expression:
        node: tree.Expression = children[0]
        start = node.span.start
        for trailer in children[1:]:
            span = Span(self.file, start, trailer.span.end)
            value = trailer.value
            if isinstance(value, tree.Identifier):
                node = tree.Attribute(node, value, span)
            elif isinstance(value, tuple):
                node = tree.CallExpression(node, cast(tuple[tree.Argument, ...], value), span)
            else:
                node = tree.Index(node, value, span)
        return node

    def attribute(self, children: Children) -> _Piece:
        return _Piece(children[1], self.span(children))

    def index(self, children: Children) -> _Piece:
        return _Piece(children[1], self.span(children))

    def arguments(self, children: Children) -> _Piece:
        return _Piece(tuple(_nodes(children)), self.span(children))

    def argument(self, children: Children) -> tree.Argument:
        name = children[0] if len(children) == 3 else None
        return tree.Argument(name, children[-1], self.span(children))

    def reference(self, children: Children) -> tree.Reference:
        identifier: tree.Identifier = children[0]
        return tree.Reference(identifier.text, identifier.span)

    def constant(self, children: Children) -> tree.Constant:
        token = children[0]
        if token.type == "STRING":
            return self._string_constant(token)
        value: int | float | bool | None
        if token.type == "INT":
            value = self._integer(token)
        elif token.type == "FLOAT":
            value = self._float(token)
        else:
            value = {"TRUE": True, "FALSE": False, "NULL": None}[token.type]
        return tree.Constant(value, self.span(children))

    def _string_constant(self, token: Any) -> tree.Constant:
        return tree.Constant(self._text(token), self.span([token]))

    def parenthesis(self, children: Children) -> tree.Expression:
        inner: tree.Expression = children[1]
        return replace(inner, span=self.span(children))

    def list(self, children: Children) -> tree.ListExpression:
        return tree.ListExpression(tuple(_nodes(children)), self.span(children))

    def comprehension(self, children: Children) -> tree.Comprehension:
        condition = children[7] if len(children) == 9 else None
        return tree.Comprehension(children[1], children[3], children[5], condition, self.span(children))

    def name(self, children: Children) -> tree.Identifier:
        return tree.Identifier(str(children[0]), self.span(children))


def _nodes(children: Children) -> Iterable[Any]:
    return (child for child in children if not isinstance(child, (str, _Piece)))


def _without_comma(children: Children) -> Children:
    last = children[-1]
    return children[:-1] if isinstance(last, str) and cast(Any, last).type == "COMMA" else children


def _doc(children: Children) -> str | None:
    return next((child.value for child in children if isinstance(child, _Piece)), None)


def _operator(token: Any) -> Literal["+", "-", "*", "/", "and", "or"]:
    return cast(Literal["+", "-", "*", "/", "and", "or"], str(token))
