"""E0601: a module whose prompt cannot fit its model's context is refused before the first call."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.errors import ContextOverflow
from lmgraph.program import Demo, Program
from lmgraph.runtime import Runtime
from lmgraph.testing import ScriptedEngine
from support.scripted import program_from

TEXT = 'module Ask(q: str) -> (a: str) {\n  """Answer."""\n  max_tokens: 100\n}\n'
FLOW = 'flow F(q: str) -> (a: str) {\n  return (a=Ask(q).a catch "none")\n}\n'


def engine(context: int) -> ScriptedEngine:
    return ScriptedEngine({"": "x"}, context_length=context)


async def least(program: Program) -> int:
    """The shortest context with which it is not refused."""
    for context in range(100, 1000):
        try:
            async with Runtime(everything=engine(context)) as runtime:
                await runtime.prepare(program)
        except ContextOverflow:
            continue
        return context
    raise AssertionError("none is long enough")


async def test_it_says_what_is_needed_and_asks_nothing(tmp_path: Path) -> None:
    program = program_from(tmp_path, TEXT + FLOW)
    needed = await least(program)
    small = engine(needed - 1)
    async with Runtime(everything=small) as runtime:
        with pytest.raises(ContextOverflow, match=r"E0601") as found:
            await runtime.run(program, {"q": "why?"})
    assert f"`Ask` needs at least {needed} tokens of context" in found.value.message
    assert f"has {needed - 1} " in found.value.message
    assert "max_tokens" in str(found.value.hint)
    assert small.requests == []


async def test_inputs_are_left_to_the_run(tmp_path: Path) -> None:
    program = program_from(tmp_path, TEXT + FLOW)
    async with Runtime(everything=engine(await least(program) + 5)) as runtime:
        trace = await runtime.run(program, {"q": "why? " * 100})
    assert trace.outputs == {"a": "none"}


async def test_what_was_learned_and_does_not_fit_is_no_mistake_of_the_program(tmp_path: Path) -> None:
    program = program_from(tmp_path, TEXT + FLOW)
    demos = tuple(Demo({"q": "long " * 50}, {"a": "x"}) for _ in range(4))
    for learned in ({"demos": demos}, {"instruction": "Answer well. " * 20}):
        longer = program.with_params(program.params.with_module("Ask", **learned))
        assert await least(longer) == await least(program)
