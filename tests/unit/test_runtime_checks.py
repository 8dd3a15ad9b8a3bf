"""Asserts and checks of a module: asked of every output that parses, retried with their message, and recorded."""

from __future__ import annotations

from typing import Any

import pytest

from lmgraph.errors import RunError
from lmgraph.graph.expressions import Ref, ValueId
from lmgraph.graph.graph import OutputCheck
from lmgraph.graph.nodes import GetItem
from lmgraph.graph.types import INT, STR, Field, ListType
from lmgraph.runtime import RunOptions, Runtime, Trace
from lmgraph.testing import ScriptedEngine
from support.graphs import apply, flow, lm, module, out, program


def name(value: str) -> Ref:
    return Ref(ValueId(value))


SHORT = OutputCheck(apply("<=", apply("len", name("out")), 4), "the answer has at most four letters", True)
OTHER = OutputCheck(apply("!=", name("out"), name("text")), "the answer is not the text", False)


async def run(*answers: str, checks: Any = (SHORT, OTHER), options: RunOptions | None = None, **settings: Any) -> Trace:
    """One call whose completions are ``answers``, one a sample."""
    given = iter(answers)
    engine = ScriptedEngine(lambda prompt, request: next(given), constrains=settings.pop("constrains", True))
    made = program(
        flow("F", [lm("F/a", "word", "Q")], {"out": out("F/a")}), modules=[module("Q", checks=checks, **settings)]
    )
    async with Runtime(everything=engine) as runtime:
        return await runtime.run(made, {}, options=options)


async def test_a_false_assert_is_retried_with_its_message_while_a_retry_is_left() -> None:
    done = await run("far too long", "long again", "word", retries=2)
    assert done.outputs == {"out": "word"}
    first, second, third = done.calls
    assert first.failure is not None
    assert (first.failure.kind, first.failure.raw_text) == ("assert", "far too long")
    assert first.outputs is None
    assert second.call_key == "F/a/retry[1]"
    assert third.failure is None
    prompt = ScriptedEngine({}).tokenizer.transcript(third.prompt_ids)
    assert prompt.count("That does not fit: the answer has at most four letters.") == 2
    assert "long again" in prompt


async def test_without_a_retry_left_the_call_fails() -> None:
    done = await run("far too long", retries=0)
    assert done.failure is not None
    assert (done.failure.kind, done.failure.message) == ("assert", "the answer has at most four letters")
    assert len(done.calls) == 1
    with pytest.raises(RunError, match="at most four letters"):
        done.require()


async def test_every_assert_and_check_is_recorded_on_its_call() -> None:
    done = await run("word")
    records = done.calls[0].checks
    assert [(one.kind, one.message, one.passed, one.values) for one in records] == [
        ("assert", "the answer has at most four letters", True, ()),
        ("check", "the answer is not the text", False, (("out", "word"), ("text", "word"))),
    ]
    assert done.outputs == {"out": "word"}, "a check is recorded only"
    assert {one.call_key for one in records} == {"F/a"}


async def test_an_output_that_does_not_parse_is_not_asked() -> None:
    counted = OutputCheck(apply(">", name("n"), 3), "more than three", True)
    outputs = (Field("n", INT),)
    given = iter(["many", "2", "5"])
    engine = ScriptedEngine(lambda prompt, request: next(given))
    made = program(
        flow("F", [lm("F/a", "word", "Q")], {"n": out("F/a", "n")}, {}, {"n": INT}),
        modules=[module("Q", outputs=outputs, checks=(counted,), retries=2)],
    )
    async with Runtime(everything=engine) as runtime:
        done = await runtime.run(made, {}, options=RunOptions("strict"))
    assert done.outputs == {"n": 5}
    assert [(call.failure.kind if call.failure else None, len(call.checks)) for call in done.calls] == [
        ("parse", 0), ("assert", 1), (None, 1),
    ]  # fmt: skip


async def test_the_extra_retry_of_engines_that_cannot_constrain_is_for_parsing_only() -> None:
    done = await run("far too long", constrains=False)
    assert done.failure is not None
    assert len(done.calls) == 1


async def test_an_output_hides_an_input_of_its_name() -> None:
    check = OutputCheck(apply("==", name("text"), "new"), "the output", True)
    done = await run("new", checks=(check,), outputs=(Field("text", STR),))
    assert done.failure is not None
    assert done.failure.kind == "value", "the flow reads another output; the assert itself holds"
    assert [one.passed for one in done.calls[0].checks] == [True]


@pytest.mark.parametrize(("required", "fails"), [(True, True), (False, False)])
async def test_a_condition_without_a_value_does_not_hold(required: bool, fails: bool) -> None:
    first = OutputCheck(apply("==", GetItem(name("out"), apply("+", 0, 3)), "x"), "the fourth is x", required)
    engine = ScriptedEngine(lambda prompt, request: '{"out": ["a"]}')
    texts = ListType(STR)
    made = program(
        flow("F", [lm("F/a", "word", "Q")], {"out": out("F/a")}, {}, {"out": texts}),
        modules=[module("Q", outputs=(Field("out", texts),), checks=(first,))],
    )
    async with Runtime(everything=engine) as runtime:
        done = await runtime.run(made, {})
    assert (done.failure is not None) is fails
    assert [one.passed for one in done.calls[0].checks] == [None]
