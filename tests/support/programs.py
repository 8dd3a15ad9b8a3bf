"""Well-typed programs in which every construct stands in every other one, for tests of the compiler and the runtime.

`programs()` is a hypothesis strategy; `random_program(seed)` needs none. Both give text that compiles without errors,
and cheap flows: the entry flow is `Main`, its inputs are those of `inputs()`. `PYTHON` is the file `steps.py` that the
Python references of the programs name.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

PRELUDE = '''\
edition 1

enum Kind { plain  odd = "an odd one"  last }

record Note {
  text: str
  kind: Kind = Kind.plain
  size: int = 0 where it >= 0
}

module Ask(q: str) -> (text: str, ok: bool, n: int, kind: Kind, note: str?, items: list[str]) {
  """Answer."""
  retries: 1
}

module Think(q: str, n: int = 1) -> (text: str) {
  strategy: cot
}

module Twice = Think { max_tokens: 8 }

module Best(q: str) -> (text: str, ok: bool) {
  strategy: best_of
  samples: 2
  select: vote
}

module Act(q: str) -> (text: str) {
  strategy: react
  tools: [look, put]
  max_steps: 2
}

fn joined(xs: list[str]) -> str = py "steps:joined"
fn measured(text: str, most: int = 9) -> int = py "steps:measured"
retriever look(q: str) -> list[str] = py "steps:look"
tool put(text: str) -> bool = py "steps:put"
'''

PYTHON = """\
def joined(xs):
    return f"{len(xs)}:{sum(map(len, xs)) % 10}"


def measured(text, most):
    return len(text) % (most + 1)


def look(q):
    return [q[:3], q[-3:]]


def put(text):
    return len(text) % 2 == 0
"""

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


OUTPUTS = (("text", "str"), ("n", "int"), ("ok", "bool"), ("items", "list[str]"), ("kind", "Kind"))
INPUTS = (("t", "str"), ("count", "int"), ("ts", "list[str]"), ("m", "str?"))


@dataclass
class Writer:
    choose: Choose
    tools: bool = True
    lines: list[str] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    calls: int = 0
    """Of models, by one run of the flow that is being written, at most."""

    def program(self) -> str:
        names = ["Main", "Second", "Third"][: (1, 1, 2, 2, 3)[self.choose(5)]]
        for name in reversed(names):
            self.flow(name)
        return PRELUDE + "\n" + "\n".join(self.lines) + "\n"

    def flow(self, name: str) -> None:
        self.calls = 0
        inputs = ", ".join(f"{one}: {type}" for one, type in INPUTS)
        outputs = ", ".join(f"{one}: {type}" for one, type in OUTPUTS)
        self.lines.append(f"flow {name}({inputs}) -> ({outputs}) {{")
        around = Around(tuple(Local(one, type, constant=True) for one, type in INPUTS), depth=3)
        around = self.block(around, 1, 1 + self.choose(4))
        if self.choose(4) == 0:
            self.ending_if(around, 1)
        else:
            self.returning(around, 1)
        self.lines.append("}\n")
        self.flows.append(Flow(name, self.calls))

    # -- statements --------------------------------------------------------------------------------------------------

    def add(self, level: int, text: str) -> None:
        self.lines.append("  " * level + text)

    def block(self, around: Around, level: int, count: int) -> Around:
        """Writes statements; what can be seen after them."""
        for _ in range(count):
            around = self.statement(around, level)
        return around

    def statement(self, around: Around, level: int) -> Around:
        kinds = ["bind", "bind", "var", "update", "release", "assert", "check", "null"]
        if around.depth > 0:
            kinds += ["if", "if", "if", "repeat", "repeat"]
        if around.loop:
            kinds += ["stop", "stop"]
        match kinds[self.choose(len(kinds))]:
            case "var":
                return self.var(around, level)
            case "update":
                return self.update(around, level)
            case "release":
                return self.release(around, level)
            case "assert":
                # True in most runs: `t` is short.
                self.add(level, f'assert len({self.name_of(around, "str")}) < 1000 or {self.bool(around)} else "long"')
            case "check":
                self.add(level, f'check {self.bool(around)} else "not so"')
            case "stop":
                self.add(level, f"stop if {self.bool(around)}")
            case "null":
                return self.null(around, level)
            case "if":
                self.if_(around, level)
            case "repeat":
                return self.repeat(around, level)
            case _:
                return self.bind(around, level)
        return around

    def type(self) -> str:
        types = ("str", "str", "int", "bool", "list[str]", "Kind", "str?", "Note")
        return types[self.choose(len(types))]

    def new_name(self, around: Around) -> str:
        taken = {one.name for one in around.values}
        free = [name for name in NAMES if name not in taken]
        return free[self.choose(len(free))] if free else f"v{len(taken)}"

    def bind(self, around: Around, level: int) -> Around:
        name, type = self.new_name(around), self.type()
        value = self.value(type, around)
        annotated = type == "str?" or self.choose(3) == 0
        self.add(level, f"{name}: {type} = {value}" if annotated else f"{name} = {value}")
        return around.with_(Local(name, type))

    def var(self, around: Around, level: int) -> Around:
        name, type = self.new_name(around), self.type()
        self.add(level, f"var {name}: {type} = {self.value(type, around)}")
        return around.with_(Local(name, type, variable=True))

    def update(self, around: Around, level: int) -> Around:
        variables = [one for one in around.values if one.variable]
        if not variables:
            return self.var(around, level)
        chosen = variables[self.choose(len(variables))]
        self.add(level, f"{chosen.name} := {self.value(chosen.type, around)}")
        return around

    def release(self, around: Around, level: int) -> Around:
        name = self.new_name(around)
        self.add(level, f'release {name} = {self.value("str", around)} because "it says nothing"')
        return around.with_(Local(name, "str"))

    def null(self, around: Around, level: int) -> Around:
        """A value that may be null, and what asks whether it is."""
        maybe = [one for one in around.values if one.type == "str?"]
        if not maybe:
            return self.bind(around, level)
        name = maybe[self.choose(len(maybe))].name
        new = self.new_name(around)
        match self.choose(4):
            case 0 if around.outputs:
                self.add(level, f"if {name} == null {{")
                self.returning(around.inner(), level + 1)
                self.add(level, "}")
            case 1 if around.loop:
                self.add(level, f"stop if {name} == null")
            case 2 if around.depth > 0:
                self.add(level, f"var {new} = 0")
                around = around.with_(Local(new, "int", variable=True))
                self.add(level, f"if {name} != null and len({name}) > 1 {{")
                self.add(level + 1, f"{new} := len({name})")
                self.block(around.inner(), level + 1, 1)
                self.add(level, "}")
                return around
            case _:
                self.add(level, f'{new} = if {name} != null then {name} else "none"')
                return around.with_(Local(new, "str", constant=True))
        self.add(level, f"{new} = len({name})")
        return around.with_(Local(new, "int"))

    def if_(self, around: Around, level: int) -> None:
        self.add(level, f"if {self.bool(around)} {{")
        self.branch(around, level + 1)
        match self.choose(4):
            case 0 | 1:
                self.add(level, "} else {")
                self.branch(around, level + 1, may_return=False)
            case 2:
                self.add(level, f"}} else if {self.bool(around)} {{")
                self.branch(around, level + 1)
            case _:
                pass
        self.add(level, "}")

    def branch(self, around: Around, level: int, *, may_return: bool = True) -> None:
        """The statements of a branch; a return at its end where one may stand there, now and then."""
        inner = self.block(around.inner(), level, 1 + self.choose(2))
        if may_return and around.outputs and self.choose(4) == 0:
            self.returning(inner, level)

    def ending_if(self, around: Around, level: int) -> None:
        """An `if` every way through which returns."""
        self.add(level, f"if {self.bool(around)} {{")
        inner = self.block(around.inner(), level + 1, self.choose(2))
        self.returning(inner, level + 1)
        self.add(level, "} else {")
        inner = self.block(around.inner(), level + 1, self.choose(2))
        if around.depth > 1 and self.choose(3) == 0:
            self.ending_if(inner, level + 1)
        else:
            self.returning(inner, level + 1)
        self.add(level, "}")

    def repeat(self, around: Around, level: int) -> Around:
        if not any(one.variable for one in around.values):
            around = self.var(around, level)
        limit = 2 + self.choose(2)
        inner = around.inner(times=limit, loop=True)
        index = self.new_name(around) if self.choose(2) else None
        self.add(level, f"repeat max {limit}{f' as {index}' if index else ''} {{")
        if index:
            inner = inner.with_(Local(index, "int"))
        inner = self.block(inner, level + 1, 1 + self.choose(3))
        variables = [one for one in around.values if one.variable]
        chosen = variables[self.choose(len(variables))]
        self.add(level + 1, f"{chosen.name} := {self.value(chosen.type, inner)}")
        self.add(level, "}")
        return around

    def returning(self, around: Around, level: int) -> None:
        given = ", ".join(f"{name}={self.value(type, around)}" for name, type in OUTPUTS)
        self.add(level, f"return ({given})")

    # -- expressions -------------------------------------------------------------------------------------------------

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


def random_program(seed: int, *, tools: bool = True) -> str:
    """The program of this seed; without tools nothing in it acts."""
    source = random.Random(seed)
    return Writer(source.randrange, tools).program()


@st.composite
def programs(draw: st.DrawFn, *, tools: bool = True) -> str:
    return Writer(lambda below: draw(st.integers(0, below - 1)), tools).program()


def inputs() -> st.SearchStrategy[dict[str, Any]]:
    """Inputs of `Main`."""
    text = st.text("abc", max_size=4)
    return st.fixed_dictionaries(
        {"t": text, "count": st.integers(-2, 4), "ts": st.lists(text, max_size=3), "m": st.none() | text}
    )
