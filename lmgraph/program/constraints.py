"""What a field's constraint says, as bounds: for JSON Schema, which holds decoders to it, and for prompts, in words.

Only comparisons of `it` or `len(it)` with constants, joined by `and`, are bounds. What else a constraint says is
checked when a value is read, like all of it (values.py), and shown as the author wrote it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lmgraph.graph.expressions import IT, Apply, Const, Expr, Ref
from lmgraph.graph.types import Constraint, ListType, OptionalType, ScalarType, Type

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}


@dataclass(slots=True)
class Range:
    """Numbers between two ends, each in or out; None is no end."""

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    def narrow(self, operator: str, number: float) -> None:
        """Keep the numbers that are ``operator`` ``number``."""
        if operator in (">", ">=", "=="):
            is_open = operator == ">"
            if self.low is None or (number, is_open) > (self.low, self.low_open):
                self.low, self.low_open = number, is_open
        if operator in ("<", "<=", "=="):
            is_open = operator == "<"
            if self.high is None or (number, not is_open) < (self.high, not self.high_open):
                self.high, self.high_open = number, is_open

    def whole(self) -> tuple[int | None, int | None]:
        """The least and the greatest whole number, both in."""
        low = None if self.low is None else math.floor(self.low) + 1 if self.low_open else math.ceil(self.low)
        high = None if self.high is None else math.ceil(self.high) - 1 if self.high_open else math.floor(self.high)
        return low, high


@dataclass(frozen=True, slots=True)
class Bounds:
    value: Range
    length: Range
    complete: bool
    """Whether they say all that the constraint says."""


def bounds_of(constraint: Constraint) -> Bounds:
    value, length = Range(), Range()
    complete = _narrow(constraint.condition, value, length)
    return Bounds(value, length, complete)


def _narrow(condition: Expr, value: Range, length: Range) -> bool:
    """Whether all of the condition is in the ranges now."""
    if not isinstance(condition, Apply):
        return False
    if condition.operator == "and":
        parts = [_narrow(part, value, length) for part in condition.operands]  # each of them, whatever the first says
        return all(parts)
    if condition.operator not in _MIRRORED:
        return False
    left, right = condition.operands
    operator: str = condition.operator
    if _number(left) is not None:
        left, right, operator = right, left, _MIRRORED[condition.operator]
    number = _number(right)
    if number is None:
        return False
    match left:
        case Ref(value=name) if name == IT:
            value.narrow(operator, number)
        case Apply(operator="len", operands=(Ref(value=name),)) if name == IT:
            length.narrow(operator, number)
        case _:
            return False
    return True


def _number(expression: Expr) -> float | None:
    match expression:
        case Const(value=bool()):
            return None
        case Const(value=int() | float() as number):
            return number
        case Apply(operator="neg", operands=(inner,)):
            negated = _number(inner)
            return None if negated is None else -negated
        case _:
            return None


def schema_keywords(type_: Type, constraint: Constraint) -> dict[str, Any]:
    """JSON Schema keywords beside ``type`` that say what of the constraint can be said."""
    bounds = bounds_of(constraint)
    if isinstance(type_, OptionalType):
        return schema_keywords(type_.inner, constraint)
    if isinstance(type_, ListType):
        return _present(zip(("minItems", "maxItems"), _lengths(bounds.length), strict=True))
    if not isinstance(type_, ScalarType):
        return {}
    value = bounds.value
    if type_.name == "str":
        return _present(zip(("minLength", "maxLength"), _lengths(bounds.length), strict=True))
    if type_.name == "int":
        return _present(zip(("minimum", "maximum"), value.whole(), strict=True))
    if type_.name == "float":
        low, high = "exclusiveMinimum" if value.low_open else "minimum", "maximum"
        return _present([(low, value.low), ("exclusiveMaximum" if value.high_open else high, value.high)])
    return {}


def _lengths(length: Range) -> tuple[int | None, int | None]:
    least, most = length.whole()
    return (None if least is None or least <= 0 else least), (None if most is None else max(most, 0))


def _present(pairs: Any) -> dict[str, Any]:
    return {name: value for name, value in pairs if value is not None}


def constraint_text(type_: Type, constraint: Constraint) -> str:
    """In words: `from 0 to 1`, `at most 4 elements`; as the author wrote it where that says more than bounds do."""
    bounds = bounds_of(constraint)
    inner = type_.inner if isinstance(type_, OptionalType) else type_
    has_length = isinstance(inner, ListType) or inner == ScalarType("str")
    is_number = inner in (ScalarType("int"), ScalarType("float"))
    if bounds.complete and is_number and bounds.length == Range():
        return _number_words(bounds.value)
    if bounds.complete and has_length and bounds.value == Range():
        return _length_words(bounds.length, "element" if isinstance(inner, ListType) else "character")
    return f"where {constraint.text}"


def _number_words(found: Range) -> str:
    low, high = found.low, found.high
    if low is not None and high is not None and not found.low_open and not found.high_open:
        return f"exactly {low:g}" if low == high else f"from {low:g} to {high:g}"
    words = [] if low is None else [f"{'more than' if found.low_open else 'at least'} {low:g}"]
    words += [] if high is None else [f"{'less than' if found.high_open else 'at most'} {high:g}"]
    return " and ".join(words)


def _length_words(found: Range, noun: str) -> str:
    least, most = _lengths(found)

    def counted(number: int) -> str:
        return f"{number} {noun}{'' if number == 1 else 's'}"

    if least is not None and most is not None:
        return f"exactly {counted(least)}" if least == most else f"from {least} to {counted(most)}"
    if least is not None:
        return f"at least {counted(least)}"
    return f"at most {counted(most)}" if most is not None else "of any length"
