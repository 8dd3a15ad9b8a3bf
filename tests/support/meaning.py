"""What a program of programs.py means, read off its syntax tree: statement by statement, with variables that are set.

The graph has to give the same outputs. Nothing here knows nodes, regions or SSA. Calls are answered by `answer`, which
the test of the graph uses, too; what a module gives follows from its name and inputs alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from lmgraph.syntax import tree

KINDS = {"plain": "plain", "odd": "an odd one", "last": "last"}


class Unclear(Exception):
    """Something failed outside a catch: what else happens then is not told here."""


class _Failed(Exception):
    """An expression has no value."""


class _Stop(Exception):
    pass


class _Returned(Exception):
    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values


def answer(name: str, inputs: Mapping[str, Any]) -> Any:
    """What the module, fn, retriever or tool gives back for these inputs."""
    number = zlib.crc32(repr((name, sorted(inputs.items()))).encode())
    text = f"{name[0].lower()}{number % 7}"
    match name:
        case "Ask":
            return {
                "text": text,
                "ok": number % 2 == 0,
                "n": number % 5,
                "kind": list(KINDS.values())[number % 3],
                "note": None if number % 3 == 0 else text,
                "items": [f"i{one}" for one in range(number % 4)],
            }
        case "Think" | "Twice" | "Act":
            return {"text": text}
        case "Best":
            return {"text": text, "ok": number % 2 == 0}
        case "Act.step":
            return {"thought": "enough", "action": {"tool": "finish"}}
        case "joined" | "measured" | "look" | "put":
            return {"joined": text, "measured": number % 9, "look": [text, "l"], "put": number % 2 == 0}[name]
        case _:
            raise AssertionError(name)


class Meaning:
    """Runs the flows of one file."""

    def __init__(self, file: tree.File) -> None:
        self._flows = {one.name.text: one for one in file.declarations if isinstance(one, tree.Flow)}

    def run(self, flow: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of the flow. Raises: Unclear."""
        try:
            return self._flow(flow, inputs)
        except _Failed as failed:
            raise Unclear from failed

    def _flow(self, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self._block(self._flows[name].body, dict(inputs))
        except _Returned as returned:
            return returned.values
        raise AssertionError("every way returns")

    def _block(self, body: tuple[tree.Statement, ...], values: dict[str, Any]) -> None:
        """Runs statements. ``values`` gains what they bind; what a block inside binds is taken away again."""
        for statement in body:
            match statement:
                case tree.Bind() | tree.Var() | tree.Update() | tree.Release():
                    values[statement.name.text] = self._value(statement.value, values)
                case tree.If(condition=condition, then=then, otherwise=otherwise):
                    chosen = then if self._value(condition, values) else otherwise or ()
                    self._inside(chosen, values)
                case tree.Repeat():
                    self._repeat(statement, values)
                case tree.Stop(condition=condition):
                    if self._value(condition, values):
                        raise _Stop
                case tree.Assert(condition=condition):
                    if not self._value(condition, values):
                        raise Unclear
                case tree.Check(condition=condition):
                    self._value(condition, values)
                case tree.Return(arguments=arguments):
                    given = [(one.name.text, one.value) for one in arguments if one.name is not None]
                    raise _Returned({name: self._value(value, values) for name, value in given})
                case tree.Stub():
                    raise AssertionError("no stub in a flow")

    def _inside(self, body: tuple[tree.Statement, ...], values: dict[str, Any]) -> None:
        outside = set(values)
        try:
            self._block(body, values)
        finally:
            for name in set(values) - outside:
                del values[name]

    def _repeat(self, statement: tree.Repeat, values: dict[str, Any]) -> None:
        for index in range(statement.limit):
            inner = {statement.index.text: index} if statement.index else {}
            values.update(inner)
            try:
                self._inside(statement.body, values)
            except _Stop:
                return
            finally:
                for name in inner:
                    del values[name]

    def _value(self, node: tree.Expression, values: dict[str, Any]) -> Any:
        match node:
            case tree.Constant(value=value):
                return value
            case tree.Reference(name=name):
                return values[name]
            case tree.Attribute(base=tree.Reference(name="Kind"), name=name) if "Kind" not in values:
                return KINDS[name.text]
            case tree.Attribute(base=base, name=name):
                return self._value(base, values)[name.text]
            case tree.Index(base=base, index=index):
                items, place = self._value(base, values), self._value(index, values)
                if place >= len(items):
                    raise _Failed
                return items[place]
            case tree.CallExpression():
                return self._call(node, values)
            case tree.ListExpression(items=items):
                return [self._value(item, values) for item in items]
            case tree.Comprehension(element=element, variable=variable, iterable=iterable, condition=condition):
                found = []
                for item in self._value(iterable, values):
                    inner = {**values, variable.text: item}
                    if condition is None or self._value(condition, inner):
                        found.append(self._value(element, inner))
                return found
            case tree.Conditional(condition=condition, when_true=when_true, when_false=when_false):
                return self._value(when_true if self._value(condition, values) else when_false, values)
            case tree.Comparison(operands=operands, operators=operators):
                sides = [self._value(operand, values) for operand in operands]
                return all(_compare(operators[at], sides[at], sides[at + 1]) for at in range(len(operators)))
            case tree.Binary(operator="and", left=left, right=right):
                return self._value(left, values) and self._value(right, values)
            case tree.Binary(operator="or", left=left, right=right):
                return self._value(left, values) or self._value(right, values)
            case tree.Binary(operator=operator, left=left, right=right):
                one, other = self._value(left, values), self._value(right, values)
                return one + other if operator == "+" else one - other
            case tree.Unary(operator="not", operand=operand):
                return not self._value(operand, values)
            case tree.Unary(operand=operand):
                return -self._value(operand, values)
            case tree.Catch(call=call, fallback=fallback):
                try:
                    return self._value(call, values)
                except _Failed:
                    return self._value(fallback, values)

    def _call(self, node: tree.CallExpression, values: dict[str, Any]) -> Any:
        assert isinstance(node.callee, tree.Reference)
        name = node.callee.name
        given = {one.name.text: self._value(one.value, values) for one in node.arguments if one.name is not None}
        match name:
            case "len":
                return len(self._value(node.arguments[0].value, values))
            case "Note":
                return {"kind": "plain", "size": 0, **given}
            case "Think":
                return answer(name, {"n": 1, **given})
            case "Twice":
                return answer(name, {"n": 1, **given})
            case "measured":
                return answer(name, {"most": 9, **given})
            case "Act":
                return answer(name, {**given, "steps": []})
            case _ if name in self._flows:
                return self._flow(name, given)
            case _:
                return answer(name, given)


def _compare(operator: str, left: Any, right: Any) -> bool:
    match operator:
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
        case "==":
            return bool(left == right)
        case "!=":
            return bool(left != right)
        case "in":
            return left in right
        case _:
            raise AssertionError(operator)
