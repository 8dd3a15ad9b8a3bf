"""Declared tests: what passes, what fails and with which values, and what is skipped for want of a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmgraph.evaluate.program_tests import TestResult, run_tests, with_test
from lmgraph.graph.graph import StubSpec, TestSpec
from lmgraph.graph.nodes import Const, MakeList, Node
from lmgraph.graph.types import STR, Field, ListType
from lmgraph.graph.verify import verify
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from support.graphs import (
    apply,
    call,
    check,
    each,
    echo,
    extern,
    flow,
    lm,
    module,
    operands,
    out,
    program,
    python,
    ref,
    region,
    write_tools,
)

TEXTS = ListType(STR)
WORDS = flow(
    "Words",
    [
        each(
            "Words/all",
            ref("Words/xs"),
            region([lm("Words/all/D", ref("Words/all/x"))], out("Words/all/D")),
            "Words/all/x",
        )
    ],
    {"out": ref("Words/all")},
    {"xs": TEXTS},
    {"out": TEXTS},
)


def stub(target: str, *answers: Any) -> StubSpec:
    """Answers by name where they are dicts, else one unnamed value each."""
    return StubSpec(target, tuple(operands(one if isinstance(one, dict) else {"": one}) for one in answers))


def declared(*nodes: Node, stubs: tuple[StubSpec, ...] = (), title: str = "it works", number: int = 1) -> TestSpec:
    return TestSpec(title, flow(f"test:{number}", nodes, {}), stubs)


async def one(made: Program, spec: TestSpec, **options: Any) -> TestResult:
    async with Runtime(everything=echo()) as runtime:
        (result,) = await run_tests(made, [spec], runtime=runtime, **options)
    return result


def asking(expected: Any, *stubs: StubSpec) -> TestSpec:
    words = call("test:1/out", "Words", xs=MakeList(constants("a", "b", "c")))
    wanted = check("test:1/assert", apply("==", out("test:1/out"), MakeList(constants(*expected))), "these words")
    return declared(words, wanted, stubs=stubs)


def constants(*values: str) -> Any:
    return tuple(Const(value) for value in values)


async def test_stubs_answer_one_a_call_in_order_and_the_last_again() -> None:
    answers = stub("M", {"out": "one"}, {"out": "two"})
    result = await one(program(WORDS), asking(["one", "two", "two"], answers))
    assert (result.status, result.failure, result.false) == ("passed", None, ())
    assert result.seconds > 0


async def test_a_false_assert_is_told_with_its_values() -> None:
    result = await one(program(WORDS), asking(["other"], stub("M", {"out": "x"})))
    assert result.status == "failed"
    (false,) = result.false
    assert (false.message, false.call_key) == ("these words", "test:1/assert")
    assert false.values == (("out.out", ["x", "x", "x"]),)
    assert result.failure is not None
    assert result.failure.kind == "assert"
    assert json.loads(json.dumps(result.to_data()))["false"][0]["values"] == {"out.out": ["x", "x", "x"]}


async def test_every_false_assert_is_told() -> None:
    spec = declared(*(check(f"test:1/a{n}", n == 1, f"number {n}") for n in range(3)))
    result = await one(program(WORDS), spec)
    assert [false.message for false in result.false] == ["number 0", "number 2"]
    assert result.failure is not None
    assert result.failure.message == "number 0"


async def test_a_failed_call_is_the_first_failure() -> None:
    broken = flow("Bad", [python("Bad/f", "f", "fn")], {"out": ref("Bad/f")})
    spec = declared(call("test:1/out", "Bad"), check("test:1/assert", apply("==", out("test:1/out"), "x")))
    result = await one(program(WORDS, broken, externs=[extern("f", "fn")]), spec)
    assert result.status == "failed"
    assert result.problem is not None
    assert "there is no tools.py" in result.problem


async def test_python_runs_for_real_and_its_failure_is_told(tmp_path: Path) -> None:
    write_tools(tmp_path, "def f(x):\n    return [x] if x else 1 / 0\n")
    made = program(
        flow(
            "F", [python("F/r", "f", "retriever", TEXTS, x=ref("F/x"))], {"out": ref("F/r")}, {"x": STR}, {"out": TEXTS}
        ),
        root=tmp_path,
        externs=[extern("f", "retriever", TEXTS, [Field("x", STR)])],
    )

    def spec(x: str) -> TestSpec:
        return declared(
            call("test:1/out", "F", x=x), check("test:1/a", apply("==", apply("len", out("test:1/out")), 1), "one")
        )

    assert (await one(made, spec("a"))).status == "passed"
    result = await one(made, spec(""))
    assert result.status == "failed"
    assert result.failure is not None
    assert "`f` raised ZeroDivisionError" in result.failure.message
    assert result.false == (), "the assert has no value, so it is not false"


async def test_a_test_that_would_call_a_model_is_skipped_unless_it_may() -> None:
    other = module("N")
    both = flow("Both", [lm("Both/m"), lm("Both/n", "y", "N")], {"out": out("Both/n")})
    spec = declared(call("test:1/out", "Both"), check("test:1/a", apply("==", out("test:1/out"), "[y]"), "it echoes"))
    made = program(both, modules=[other])
    result = await one(made, spec)
    assert (result.status, result.needs, result.run_id) == ("skipped", ("M", "N"), None)
    partly = replace(spec, stubs=(stub("M", {"out": ""}),))
    assert (await one(made, partly)).needs == ("N",)
    assert (await one(made, spec, live=True)).status == "passed"


async def test_a_tool_must_be_stubbed_or_allowed(tmp_path: Path) -> None:
    write_tools(tmp_path, "def act():\n    return 'acted'\n")
    acting = flow("F", [python("F/t", "act", "tool")], {"out": ref("F/t")})
    made = program(acting, root=tmp_path, externs=[extern("act", "tool")])
    spec = declared(call("test:1/out", "F"), check("test:1/a", apply("==", out("test:1/out"), "acted"), "it acts"))
    result = await one(made, spec)
    assert result.status == "failed"
    assert result.problem is not None
    assert 'Test "it works" may call the tool `act`' in result.problem
    assert (await one(made, spec, allow_effects=True)).status == "passed"
    assert (await one(made, replace(spec, stubs=(stub("act", "acted"),)))).status == "passed"


async def test_an_answer_that_does_not_fit_is_a_problem_of_the_test() -> None:
    result = await one(program(WORDS), asking(["x"], stub("M", {"out": 3})))
    assert result.status == "failed"
    assert result.problem is not None
    assert "stub of `M`" in result.problem


async def test_tests_run_in_order_and_are_told_as_they_end() -> None:
    specs = [declared(check(f"test:{n}/a", True), title=f"t{n}", number=n) for n in (1, 2, 3)]
    told: list[str] = []
    async with Runtime(everything=echo()) as runtime:
        results = await run_tests(program(WORDS), specs, runtime=runtime, progress=lambda one: told.append(one.title))
    assert told == [result.title for result in results] == ["t1", "t2", "t3"]


def test_a_test_is_no_part_of_the_program() -> None:
    made = program(WORDS)
    tested = with_test(made, declared(check("test:1/a", True)))
    assert [flow.name for flow in tested.graph.flows] == ["Words", "test:1"]
    assert [flow.name for flow in made.graph.flows] == ["Words"]
    verify(tested.graph)
