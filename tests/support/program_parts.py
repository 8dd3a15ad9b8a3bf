"""Expressions of the programs of programs.py: every kind inside every other one, each of the type that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

NAMES = (
    "x", "found", "stop", "assert", "check", "repeat", "return", "map", "test", "steps", "sample", "number", "output",
    "score", "between", "try", "think", "record", "flow", "max", "as", "release", "because", "stub", "text", "n2",
)  # fmt: skip
"""Of local values: many are keywords elsewhere, or what the compiler calls nodes."""

MOST_CALLS = 150
"""Of model calls that one run of a flow may make, about."""

Choose = Callable[[int], int]
"""A number from 0 up to, but not including, the one given."""


@dataclass(frozen=True)
class Local:
    name: str
    type: str
    variable: bool = False
    constant: bool = False
    """Of a fixed size, so that joining it again and again stays small: an input, an element, or a call's output."""


@dataclass(frozen=True)
class Around:
    """What surrounds a statement or expression."""

    values: tuple[Local, ...]
    depth: int
    """Levels that may still be nested."""
    times: int = 1
    """How often it may run."""
    loop: bool = False
    outputs: bool = True
    """Whether a return may stand here."""

    def inner(self, times: int = 1, **changes: Any) -> Around:
        return replace(self, depth=self.depth - 1, times=self.times * times, **changes)

    def with_(self, local: Local) -> Around:
        return replace(self, values=(*self.values, local))


@dataclass
class Flow:
    name: str
    calls: int


INPUTS = (("t", "str"), ("count", "int"), ("ts", "list[str]"), ("m", "str?"))
"""Of every flow."""


@dataclass
class Expressions:
    choose: Choose
    tools: bool = True
    lines: list[str] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    """Those that are written already, and may be called."""
    calls: int = 0
    """Of models, by one run of the flow that is being written, at most."""

    def new_name(self, around: Around) -> str:
        taken = {one.name for one in around.values}
        free = [name for name in NAMES if name not in taken]
        return free[self.choose(len(free))] if free else f"v{len(taken)}"

    def name_of(self, around: Around, type: str) -> str:
        fitting = [one.name for one in around.values if one.type == type]
        return fitting[self.choose(len(fitting))] if fitting else '"s"'

    def value(self, type: str, around: Around) -> str:
        match type:
            case "str":
                return self.str(around)
            case "int":
                return self.int(around)
            case "bool":
                return self.bool(around)
            case "list[str]":
                return self.list(around)
            case "Kind":
                return self.kind(around)
            case "Note":
                return self.note(around)
            case _:
                return self.maybe(around)

    def pick(self, around: Around, type: str, leaves: list[str], branches: list[Callable[[Around], str]]) -> str:
        """One of the names of the type, of the leaves, or of the branches, one level deeper."""
        names = [one.name for one in around.values if one.type == type]
        simple = [*names, *names, *leaves]
        if around.depth <= 0 or self.choose(5) < 2:
            return simple[self.choose(len(simple))]
        return branches[self.choose(len(branches))](around.inner())

    def module(self, name: str, arguments: str, around: Around, otherwise: str, calls: int = 1) -> str:
        """A call, or ``otherwise`` where there were too many calls already."""
        cost = calls * around.times
        if self.calls + cost > MOST_CALLS:
            return otherwise
        self.calls += cost
        return f"{name}({arguments})"

    def ask(self, output: str, around: Around, otherwise: str) -> str:
        call = self.module("Ask", f"q={self.str(around)}", around, "")
        return f"{call}.{output}" if call else otherwise

    def flow_call(self, output: str, around: Around, otherwise: str) -> str:
        if not self.flows:
            return otherwise
        flow = self.flows[self.choose(len(self.flows))]
        given = ", ".join(f"{name}={self.value(type, around.inner())}" for name, type in INPUTS)
        call = self.module(flow.name, given, around, "", max(1, flow.calls))
        return f"{call}.{output}" if call else otherwise

    def conditional(self, type: str, around: Around) -> str:
        return f"(if {self.bool(around)} then {self.value(type, around)} else {self.value(type, around)})"

    def caught(self, type: str, around: Around) -> str:
        return f"({self.value(type, around)} catch {self.value(type, around)})"

    def str(self, around: Around) -> str:
        branches: list[Callable[[Around], str]] = [
            lambda inner: f'({self.str(inner)} + "+")' if self.bounded(inner) else f'"{self.choose(9)}"',
            lambda inner: self.ask("text", inner, '"asked"'),
            lambda inner: self.text_of("Think", f"q={self.str(inner)}, n={self.int(inner)}", inner),
            lambda inner: self.text_of("Twice", f"q={self.str(inner)}", inner),
            lambda inner: self.text_of("Best", f"q={self.str(inner)}", inner, 2),
            lambda inner: f"joined(xs={self.list(inner)})",
            lambda inner: f"({self.list(inner)}[{self.choose(4)}] catch {self.str(inner)})",
            lambda inner: self.conditional("str", inner),
            lambda inner: self.caught("str", inner),
            lambda inner: f"{self.note(inner)}.text",
            lambda inner: self.flow_call("text", inner, '"flowed"'),
        ]
        if self.tools:
            branches.append(lambda inner: self.text_of("Act", f"q={self.str(inner)}", inner, 3))
        return self.pick(around, "str", ['"a"', '"bc"'], branches)

    def bounded(self, around: Around) -> bool:
        """Whether texts may be joined here: in a loop a variable would grow and grow."""
        return not around.loop

    def text_of(self, module: str, arguments: str, around: Around, calls: int = 1) -> str:
        call = self.module(module, arguments, around, "", calls)
        return f"{call}.text" if call else '"told"'

    def int(self, around: Around) -> str:
        return self.pick(
            around,
            "int",
            ["0", "1", "-2"],
            [
                lambda inner: f"({self.int(inner)} + {self.choose(4)})",
                lambda inner: f"({self.int(inner)} - {self.choose(4)})",
                lambda inner: f"len({self.list(inner)})",
                lambda inner: f"len({self.str(inner)})",
                lambda inner: self.ask("n", inner, "3"),
                lambda inner: f"measured(text={self.str(inner)})",
                lambda inner: self.conditional("int", inner),
                lambda inner: self.caught("int", inner),
                lambda inner: f"{self.note(inner)}.size",
                lambda inner: self.flow_call("n", inner, "4"),
            ],
        )

    def bool(self, around: Around) -> str:
        operators = ("<", "<=", "==", "!=", ">")
        branches: list[Callable[[Around], str]] = [
            lambda inner: f"({self.int(inner)} {operators[self.choose(5)]} {self.int(inner)})",
            lambda inner: f"({self.int(inner)} < {self.int(inner)} <= {self.int(inner)})",
            lambda inner: f"({self.str(inner)} in {self.list(inner)})",
            lambda inner: f"({self.bool(inner)} and {self.bool(inner)})",
            lambda inner: f"({self.bool(inner)} or {self.bool(inner)})",
            lambda inner: f"(not {self.bool(inner)})",
            lambda inner: f"({self.kind(inner)} == {self.kind(inner)})",
            lambda inner: self.ask("ok", inner, "true"),
            lambda inner: self.conditional("bool", inner),
            lambda inner: f"({self.maybe(inner)} == {self.str(inner)})",
            lambda inner: self.flow_call("ok", inner, "false"),
        ]
        if self.tools:
            branches.append(lambda inner: f"put(text={self.str(inner)})")
        # A condition should read something: `1 < 2` earns a lint.
        return self.pick(around, "bool", [f"len({self.name_of(around, 'str')}) > {self.choose(4)}"], branches)

    def list(self, around: Around) -> str:
        return self.pick(
            around,
            "list[str]",
            ['["u"]', '["v", "w"]'],
            [
                lambda inner: f"[{self.str(inner)}, {self.str(inner)}]",
                self.map,
                self.map,
                lambda inner: self.ask("items", inner, '["items"]'),
                lambda inner: f"look(q={self.str(inner)})",
                lambda inner: self.conditional("list[str]", inner),
                lambda inner: self.caught("list[str]", inner),
                lambda inner: self.flow_call("items", inner, '["flow"]'),
            ],
        )

    def map(self, around: Around) -> str:
        element = self.new_name(around)
        items = self.list(around)
        inner = around.inner(times=3).with_(Local(element, "str"))
        kept = f" if {self.bool(inner)}" if self.choose(2) else ""
        return f"[{self.str(inner)} for {element} in {items}{kept}]"

    def kind(self, around: Around) -> str:
        return self.pick(
            around,
            "Kind",
            ["Kind.plain", "Kind.odd", "Kind.last"],
            [
                lambda inner: self.ask("kind", inner, "Kind.last"),
                lambda inner: self.conditional("Kind", inner),
                lambda inner: f"{self.note(inner)}.kind",
            ],
        )

    def note(self, around: Around) -> str:
        names = [one.name for one in around.values if one.type == "Note"]
        if names and self.choose(2):
            return names[self.choose(len(names))]
        given = f"text={self.str(around.inner())}"
        if self.choose(2):
            given += f", kind={self.kind(around.inner())}, size={self.choose(9)}"
        return f"Note({given})"

    def maybe(self, around: Around) -> str:
        names = [one.name for one in around.values if one.type == "str?"]
        choices = [*names, self.ask("note", around.inner(), '"noted"'), self.str(around.inner())]
        return choices[self.choose(len(choices))]
