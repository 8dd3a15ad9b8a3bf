"""Privacy labels of expressions, from those of the values that they read."""

from __future__ import annotations

from collections.abc import Mapping

from lmgraph.graph.certain import Certain
from lmgraph.graph.expressions import (
    Apply,
    Choose,
    Const,
    Ensure,
    Expr,
    GetField,
    GetItem,
    MakeList,
    MakeRecord,
    Ref,
    ValueId,
)
from lmgraph.graph.labels import PUBLIC, Declared, Shape, Taint, join, joined, make_list, make_record, under
from lmgraph.graph.types import RecordType
from lmgraph.graph.walk import inner_expressions


class ExpressionLabels:
    """Labels of the values of one flow, as they become known. Values that are not told are public."""

    def __init__(self, records: Mapping[str, RecordType], declared: Declared, certain: Certain) -> None:
        self.values: dict[ValueId, Shape] = {}
        self.failing: dict[ValueId, Taint] = {}
        """Values that may fail, or not, because of something private, even where the value itself is public."""
        self.seen: Taint | None = None
        """The first private thing that was read."""
        self._records = records
        self._declared = declared
        self._certain = certain

    def of(self, expression: Expr) -> Shape:
        """The labels of the expression's value."""
        match expression:
            case Const():
                return PUBLIC
            case Ref() | GetField():
                return self._noted(self._path(expression))
            case GetItem(base=base, index=index):
                return self._noted(under(self._path(base).element(), self.of(index).any()))
            case MakeList(items=items):
                return make_list(joined(self.of(item) for item in items))
            case MakeRecord(record=record, fields=fields):
                given = make_record({one.name: self.of(one.value) for one in fields})
                found = self._records.get(record)
                return given if found is None else join(given, self._declared.record(found))
            case Apply(operator="==" | "!=", operands=(operand, Const(value=None)) | (Const(value=None), operand)):
                return self._noted(under(PUBLIC, self._path(operand).own))
            case Apply(operator="len", operands=(operand,)):
                return self._noted(under(PUBLIC, self._path(operand).own))
            case Apply(operator="+", operands=operands):
                return joined(self.of(operand) for operand in operands)
            case Apply(operator="best", operands=(candidates, scores, *_)):
                return under(self.of(candidates).element(), self.of(scores).any())
            case Apply(operator="vote", operands=(candidates, *_)):
                shape = self.of(candidates)
                return under(shape.element(), shape.any())
            case Apply(operands=operands):
                return under(PUBLIC, *[self.of(operand).any() for operand in operands])
            case Choose(condition=condition, when_true=when_true, when_false=when_false):
                decided = self.of(condition).any()
                return under(join(self.of(when_true), self.of(when_false)), decided)
            case Ensure(value=value):
                return self.of(value)

    def failure(self, expression: Expr) -> Taint | None:
        """What private thing it may follow from whether the expression has a value."""
        if isinstance(expression, Ref):
            return self.failing.get(expression.value)
        if not self.failing and self._certain.is_steady(expression):
            return None
        for part in inner_expressions(expression):
            found = self.failure(part)
            if found is not None:
                return found
        return self._own_failure(expression)

    def _own_failure(self, expression: Expr) -> Taint | None:
        """As `failure`, where all that the expression is made of has values."""
        match expression:
            case GetItem(base=base, index=index):
                return self._path(base).own or self.of(index).any()
            case Ensure(value=value):
                return self.of(value).any()
            case Apply(operator="best", operands=(_, scores, *_)):
                return self.of(scores).any()
            case Apply(operator="and" | "or", operands=(left, right)):
                return None if self._certain.is_sure(right) else self.of(left).any()
            case Choose(condition=condition, when_true=when_true, when_false=when_false):
                sure = self._certain.is_sure(when_true) and self._certain.is_sure(when_false)
                return None if sure else self.of(condition).any()
            case Apply(operands=operands) if not self._certain.is_total(expression):
                return under(PUBLIC, *(self.of(operand).any() for operand in operands)).own
            case _:
                return None

    def _path(self, expression: Expr) -> Shape:
        """As `of`, but what is not read of a value is not seen: `row.id` says nothing about `row.name`."""
        match expression:
            case Ref(value=value):
                return self.values.get(value, PUBLIC)
            case GetField(base=base, name=name):
                return self._path(base).field(name)
            case _:
                return self.of(expression)

    def _noted(self, shape: Shape) -> Shape:
        if self.seen is None:
            self.seen = shape.any()
        return shape
