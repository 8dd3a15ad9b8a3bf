"""Well-typed programs in which every construct stands in every other one, for tests of the compiler and the runtime.

`programs()` is a hypothesis strategy; `random_program(seed)` needs none. Both give text that compiles without errors,
and cheap flows: the entry flow is `Main`, its inputs are those of `inputs()`. `PYTHON` is the file `steps.py` that the
Python references of the programs name.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from support.program_parts import INPUTS, Around, Expressions, Flow, Local
from support.program_parts import NAMES as NAMES

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

OUTPUTS = (("text", "str"), ("n", "int"), ("ok", "bool"), ("items", "list[str]"), ("kind", "Kind"))
"""Of every flow."""


class Writer(Expressions):
    """Writes flows, statement by statement."""

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
