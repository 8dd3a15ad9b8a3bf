"""Programs in which values are missing and asserts are false for private reasons, beside calls of public models and
tools. A run of `Main` completes, whatever fails in `Outer`.

Many of them leak: those that the compiler refuses are not given out.
"""

from __future__ import annotations

import random

from lmgraph.compiler.compile import compile_source
from lmgraph.graph.graph import Graph
from lmgraph.source import Source

PRELUDE = """
lm cloud {}
lm here { clearance: private }
module Ask(q: str) -> (text: str, ok: bool) { lm: cloud }
module Keep(q: str) -> (text: str, items: list[str]) { lm: here }
tool put(text: str) -> str = py "steps:put"
tool note(text: str) -> str = py "steps:note" { clearance: private }
"""
MAIN = """
flow Main(s: private list[str], p: str) -> (out: str) {
  return (out=Outer(s, p).plain catch "failed")
}
"""
PUBLIC = frozenset(["Ask", "put"])


def failing_program(seed: int, entry: str) -> Graph | None:
    """With the flow `Main`, or up to `Outer` only. None where the compiler refuses it."""
    text = program_text(seed) + (MAIN if entry == "Main" else "")
    compilation = compile_source(Source("program.lmg", text), root=None)
    refused = {one.code for one in compilation.diagnostics if one.severity == "error"}
    assert all(code.startswith("E07") for code in refused), refused
    return compilation.graph


def program_text(seed: int) -> str:
    source = random.Random(f"failing:{seed}")
    return PRELUDE + _Flow(source, "Inner", []).text() + _Flow(source, "Outer", ["Inner"]).text()


class _Flow:
    def __init__(self, source: random.Random, name: str, callees: list[str]) -> None:
        self._source = source
        self._name = name
        self._callees = callees
        self._private = source.random() < 0.6
        """Whether private values are read."""
        self._texts = ["p", '"a"', '"bb"']
        """Expressions of texts that are public at first sight."""
        self._count = 0

    def text(self) -> str:
        body = "".join(self._statement(2) for _ in range(self._source.randrange(2, 6)))
        head = f"\nflow {self._name}(s: private list[str], p: str) -> (plain: str, kept: str) {{\n"
        return f"{head}{body}  return (plain={self._public()}, kept={self._any()})\n}}\n"

    def _public(self) -> str:
        return self._source.choice(self._texts[-4:])

    def _any(self) -> str:
        if self._private and self._source.randrange(3) == 0:
            return f"s[{self._source.randrange(3)}]"
        return self._public()

    def _condition(self) -> str:
        number = self._source.randrange(3)
        if self._private and self._source.randrange(2) == 0:
            return f"len(s) > {number}"
        return self._source.choice([f"len({self._public()}) < {number + 2}", f'{self._any()} != "b"'])

    def _value(self, depth: int) -> str:
        public, number = self._public(), self._source.choice([0, 0, 1, 2])
        kinds = [
            f"Ask(q={public}).text",
            f"Ask(q={public}).text",
            f"put(text={public})",
            f"put(text={public})",
            f"note(text={public})",
            f'["u", {public}][{number}]',
            f'["u", "v"][len({self._any()})]',
            f"Keep(q={self._any()}).items[{number}]",
            f"(if {self._condition()} then {public} else {self._any()})",
            f"[Ask(q=x).text for x in [{public}, {public}]][{number}]",
            *(f"{name}(s, p={public}).{self._source.choice(['plain', 'plain', 'kept'])}" for name in self._callees * 3),
        ]
        if depth > 0:
            kinds += [f"({self._value(depth - 1)} catch {self._public()})"] * 2
        return self._source.choice(kinds)

    def _statement(self, depth: int) -> str:
        kind = self._source.randrange(9 if self._callees else 8)
        if kind < 2:
            return f'  assert {self._condition()} else "no"\n'
        self._count += 1
        name = f"v{self._count}"
        if kind >= 8:  # nothing reads what comes of it
            return f"  {name} = Ask(q={self._callees[0]}(s, p={self._public()}).plain)\n"
        if kind < 6 or depth == 0:
            text = f"  {name} = {self._value(2)}\n"
        else:
            around = f"if {self._condition()}" if kind == 6 else "repeat max 2"
            known = list(self._texts)
            inner = self._statement(depth - 1)
            changed = self._value(1)
            self._texts = known
            text = f"  var {name} = {self._value(1)}\n  {around} {{\n{inner}  {name} := {changed}\n  }}\n"
        self._texts.append(name)
        return text
