"""Python of a program: how it is loaded and called, what it may give back, and what its failures say."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError, ToolError
from lmgraph.graph.expressions import Ref, ValueId
from lmgraph.graph.graph import ExternSpec
from lmgraph.graph.types import BOOL, FLOAT, INT, STR, Constraint, Field, ListType, RecordType
from lmgraph.program import Program
from lmgraph.runtime import RunIdentity, RunOptions, Runtime, Trace
from lmgraph.runtime.python import load_callable
from lmgraph.runtime.tools import PythonCalls, load_extern
from support.graphs import apply, each, echo, expression, extern, flow, program, python, ref, region, write_tools

PASSAGE = RecordType("Passage", (Field("title", STR), Field("score", FLOAT, None, True, 0.0)))
ITEM = Field("item", PASSAGE)
X = Field("x", STR)


def of(root: Path, spec: ExternSpec, text: str, **arguments: Any) -> Program:
    """A flow that makes one call."""
    write_tools(root, text)
    given = arguments or {field.name: ref(f"F/{field.name}") for field in spec.inputs}
    inputs = {field.name: field.type for field in spec.inputs}
    nodes = [python("F/c", spec.name, spec.kind, spec.result, **given)]
    return program(flow("F", nodes, {"out": ref("F/c")}, inputs, {"out": spec.result}), root=root, externs=[spec])


async def run(made: Program, options: RunOptions | None = None, **inputs: Any) -> Trace:
    async with Runtime(everything=echo()) as runtime:
        return await runtime.run(made, inputs, options=options)


# -- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("metrics:nothing", "no callable"),
        ("missing:f", "no missing.py"),
        ("broken:f", "ZeroDivisionError"),
        ("absolute:f", "from .metrics import"),
        ("os:getcwd", "no os.py"),
        ("metrics.os:getcwd", "no metrics/os.py"),
    ],
)
def test_references_that_lead_nowhere(tmp_path: Path, reference: str, words: str) -> None:
    (tmp_path / "metrics.py").write_text("nothing = 3\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "absolute.py").write_text("from metrics import nothing\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_callable(reference, tmp_path)


def test_two_programs_may_have_a_module_of_one_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.py").write_text(f"def f():\n    return {name!r}\n", encoding="utf-8")
    assert load_callable("metrics:f", tmp_path / "one")() == "one"
    assert load_callable("metrics:f", tmp_path / "two")() == "two"


def test_modules_of_a_program_import_one_another(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "words.py").write_text("WORD = 'hello'\n", encoding="utf-8")
    (tmp_path / "pack" / "say.py").write_text("from .words import WORD\ndef f():\n    return WORD\n", encoding="utf-8")
    assert load_callable("pack.say:f", tmp_path)() == "hello"


async def test_a_reference_that_leads_nowhere_stops_before_any_call(tmp_path: Path) -> None:
    made = of(tmp_path, extern("nothing", "fn"), "")
    engine = echo()
    async with Runtime(everything=engine) as runtime:
        with pytest.raises(ConfigError, match="no callable `nothing`"):
            await runtime.run(made, {})


# -- calling ---------------------------------------------------------------------------------------------------------


async def test_records_are_copies_with_attributes_and_arguments_go_by_name(tmp_path: Path) -> None:
    text = "def f(item, x):\n    item.title = 'changed'\n    item['title'] += x\n    return item.title\n"
    made = of(tmp_path, extern("f", "fn", STR, [ITEM, X]), text)
    done = await run(made, item={"title": "a"}, x="!")
    assert done.outputs == {"out": "changed!"}
    (step,) = done.steps
    assert (step.kind, step.name, step.call_key, step.output) == ("fn", "f", "F/c", "changed!")
    assert step.inputs == {"item": {"title": "a", "score": 0.0}, "x": "!"}


async def test_named_outputs_are_a_dict(tmp_path: Path) -> None:
    both = RecordType("f.out", (Field("a", INT), Field("b", PASSAGE)))
    done = await run(of(tmp_path, extern("f", "fn", both), "def f():\n    return {'a': 1, 'b': {'title': 't'}}\n"))
    assert done.outputs == {"out": {"a": 1, "b": {"title": "t", "score": 0.0}}}


FITS = Field("x", STR, constraint=Constraint(apply("<=", apply("len", Ref(ValueId("it"))), 3), "len(it) <= 3"))


@pytest.mark.parametrize(
    ("result", "body", "words"),
    [
        (STR, "return 3", "`f` gave back what does not fit str: input should be a valid string, got 3"),
        (ListType(PASSAGE), "return [{'title': 't'}, {}]", "`[1].title`: the field is missing"),
        (ListType(STR), "return ('a',)", "valid list"),
        (FLOAT, "return float('nan')", "finite"),
        (RecordType("R", (FITS,)), "return {'x': 'long one'}", "`x`: must meet len(it) <= 3"),
        (STR, "return None", "got null"),
    ],
)
async def test_what_it_gives_back_is_checked(tmp_path: Path, result: Any, body: str, words: str) -> None:
    done = await run(of(tmp_path, extern("f", "fn", result), f"def f():\n    {body}\n"))
    assert done.failure is not None
    assert done.failure.kind == "tool"
    assert words in done.failure.message
    assert done.steps[0].failure == done.failure
    with pytest.raises(ToolError):
        done.require()


async def test_an_int_widens_where_a_float_is_promised(tmp_path: Path) -> None:
    done = await run(of(tmp_path, extern("f", "fn", FLOAT), "def f():\n    return 3\n"))
    assert isinstance(done.require()["out"], float)


async def test_what_it_raises_is_a_failure_with_its_place(tmp_path: Path) -> None:
    text = "import json\n\n\ndef f():\n    return json.loads('{')\n"
    done = await run(of(tmp_path, extern("f", "fn"), text))
    assert done.failure is not None
    assert (done.failure.node, done.failure.call_key) == ("F/c", "F/c")
    assert "`f` raised JSONDecodeError: " in done.failure.message
    assert done.failure.message.endswith("(at tools.py:5)"), "the place in the program's folder, not inside json"


async def test_returns_at_most_is_kept(tmp_path: Path) -> None:
    spec = extern("f", "retriever", ListType(STR), [Field("k", INT)], returns_at_most=Ref(ValueId("k")))
    made = of(tmp_path, spec, "def f(k):\n    return ['a'] * 3\n")
    assert (await run(made, k=3)).outputs == {"out": ["a"] * 3}
    done = await run(made, k=2)
    assert done.failure is not None
    assert "gave back 3 elements, and at most 2 are allowed" in done.failure.message


@pytest.mark.parametrize(
    ("kind", "definition", "inline"),
    [("fn", "def", True), ("retriever", "def", False), ("tool", "def", False), ("retriever", "async def", True)],
)
async def test_where_it_runs(tmp_path: Path, kind: Any, definition: str, inline: bool) -> None:
    text = f"import threading\n\n{definition} f():\n    return threading.current_thread().name\n"
    done = await run(of(tmp_path, extern("f", kind), text))
    assert (done.require()["out"] == threading.current_thread().name) is inline


async def test_calls_that_wait_run_at_once(tmp_path: Path) -> None:
    tool = "import threading\n\nTWO = threading.Barrier(2)\n\ndef f(x):\n    TWO.wait(10)\n    return x\n"
    write_tools(tmp_path, tool)
    body = region([python("F/all/c", "f", "retriever", STR, x=ref("F/all/x"))], ref("F/all/c"))
    texts = ListType(STR)
    nodes = [each("F/all", ref("F/xs"), body, "F/all/x")]
    made = program(
        flow("F", nodes, {"out": ref("F/all")}, {"xs": texts}, {"out": texts}),
        root=tmp_path, externs=[extern("f", "retriever", STR, [X])],
    )  # fmt: skip
    done = await run(made, xs=[str(n) for n in range(10)])
    assert done.outputs == {"out": [str(n) for n in range(10)]}, "each waits for another one"


@pytest.mark.parametrize("definition", ["def f():\n    time.sleep(5)", "async def f():\n    await asyncio.sleep(5)"])
async def test_a_timeout_is_a_failure(tmp_path: Path, definition: str) -> None:
    text = f"import asyncio\nimport time\n\n{definition}\n    return ''\n".replace("sleep(5)", "sleep(2)")
    began = time.perf_counter()
    done = await run(of(tmp_path, extern("f", "fn", timeout=0.05), text))
    assert time.perf_counter() - began < 1.9
    assert done.failure is not None
    assert done.failure.message == "`f` took longer than 0.05 s"


async def test_a_timeout_error_of_its_own_is_not_ours(tmp_path: Path) -> None:
    text = "async def f():\n    raise TimeoutError('mine')\n"
    done = await run(of(tmp_path, extern("f", "tool", timeout=5.0), text))
    assert done.failure is not None
    assert "raised TimeoutError: mine" in done.failure.message


# -- remembered answers ----------------------------------------------------------------------------------------------

COUNTED = """
import asyncio
CALLS = []

async def f(x):
    CALLS.append(x)
    await asyncio.sleep(0.01)
    if x == "bad":
        raise ValueError(x)
    return [x]

def g(x):
    CALLS.append(x)
    return [x]
"""


def calls_of(root: Path) -> list[str]:
    return load_callable("tools:f", root).__globals__["CALLS"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "kind"), [("f", "retriever"), ("g", "fn")])
async def test_equal_calls_of_a_cached_extern_are_answered_from_memory(tmp_path: Path, name: str, kind: Any) -> None:
    made = of(tmp_path, extern(name, kind, ListType(STR), [X], cache=True), COUNTED)
    async with Runtime(everything=echo()) as runtime:
        first = await runtime.run(made, {"x": "a"})
        again = await asyncio.gather(*(runtime.run(made, {"x": x}) for x in "abbb"))
    assert calls_of(tmp_path) == ["a", "b"], "those under way at the same time share one"
    assert [trace.outputs for trace in again] == [{"out": [x]} for x in "abbb"]
    assert again[0].require()["out"] is not first.require()["out"], "copies"
    assert len(again[0].steps) == 1, "every call is recorded"


async def test_without_a_cache_every_call_is_made(tmp_path: Path) -> None:
    made = of(tmp_path, extern("f", "retriever", ListType(STR), [X]), COUNTED)
    await run(made, x="a")
    await run(made, x="a")
    assert calls_of(tmp_path) == ["a", "a"]


async def test_failures_are_not_remembered_and_each_call_has_its_own(tmp_path: Path) -> None:
    made = of(tmp_path, extern("f", "retriever", ListType(STR), [X], cache=True), COUNTED)
    async with Runtime(everything=echo()) as runtime:
        await asyncio.gather(*(runtime.run(made, {"x": "bad"}) for _ in range(3)))
        done = await runtime.run(made, {"x": "bad"})
    assert calls_of(tmp_path) == ["bad", "bad"]
    assert done.failure is not None
    assert done.failure.call_key == "F/c"


async def test_a_shared_call_goes_on_while_anyone_waits_for_it(tmp_path: Path) -> None:
    write_tools(tmp_path, COUNTED)
    loaded = load_extern(extern("f", "retriever", ListType(STR), [X], cache=True), tmp_path)
    python_calls = PythonCalls()
    one, two = (asyncio.create_task(python_calls.call(loaded, {"x": "a"}, str)) for _ in range(2))
    await asyncio.sleep(0.001)
    one.cancel()
    assert await two == ["a"]
    alone = asyncio.create_task(python_calls.call(loaded, {"x": "b"}, str))
    await asyncio.sleep(0.001)
    alone.cancel()
    await asyncio.gather(alone, return_exceptions=True)
    assert len(asyncio.all_tasks()) == 1
    assert await python_calls.call(loaded, {"x": "b"}, str) == ["b"]


# -- idempotency keys ------------------------------------------------------------------------------------------------

KEYED = "def f(x, idempotency_key):\n    return idempotency_key\n"


async def test_an_acting_tool_gets_a_key_that_repeats_with_the_call(tmp_path: Path) -> None:
    made = of(tmp_path, extern("f", "tool", STR, [X]), KEYED)

    async def key(identity: RunIdentity) -> str:
        return str((await run(made, RunOptions(identity=identity), x="a")).require()["out"])

    study = RunIdentity("s", "train", 1, "rows:3", 0)
    assert len(await key(study)) == 64
    assert await key(study) == await key(study)
    others = [RunIdentity("s", "train", 1, "rows:3", 1), RunIdentity("s", "train", 2, "rows:3", 0), RunIdentity("t")]
    assert len({await key(one) for one in (study, *others)}) == 4
    assert await key(RunIdentity()) != await key(RunIdentity()), "without a study each run is its own"


async def test_an_input_of_that_name_is_the_authors(tmp_path: Path) -> None:
    spec = extern("f", "tool", STR, [X, Field("idempotency_key", STR)])
    assert (await run(of(tmp_path, spec, KEYED), x="a", idempotency_key="mine")).outputs == {"out": "mine"}


async def test_a_function_that_takes_no_key_gets_none(tmp_path: Path) -> None:
    made = of(tmp_path, extern("f", "tool", BOOL, [X]), "def f(**given):\n    return set(given) == {'x'}\n")
    assert (await run(made, x="a")).outputs == {"out": True}


def test_plain_values_are_constants() -> None:
    assert expression(3) == expression(expression(3))
