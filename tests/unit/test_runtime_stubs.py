"""Stubs in place of modules, Python and flows; and runs that may act, refused before anything is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lmgraph.errors import ConfigError, DataError
from lmgraph.graph.graph import ModuleSpec
from lmgraph.graph.nodes import FieldValue, GetField, LmCall, MakeList, MakeRecord, NodeId
from lmgraph.graph.types import STR, Field, ListType, LiteralType, RecordType, UnionType
from lmgraph.program import Program
from lmgraph.runtime import RunOptions, Runtime, Trace
from lmgraph.testing import ScriptedEngine
from support.graphs import (
    OUT,
    apply,
    call,
    catch,
    echo,
    either,
    expr,
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
    repeat,
    stop,
    write_tools,
)

X = Field("x", STR)
WHAT = extern("act", "tool", STR, [X])


class Unopened:
    """Bound in place of an engine: whoever asks for one fails."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"an engine was opened: {name}")


async def run(made: Program, stubs: Mapping[str, Any], engine: Any = None, **options: Any) -> Trace:
    async with Runtime(everything=engine or Unopened()) as runtime:
        return await runtime.run(made, {}, options=RunOptions(stubs=stubs, **options))


def mixed(root: Path) -> Program:
    """A module, a tool and a flow in a row."""
    write_tools(root, "def act(x):\n    raise AssertionError('it acted')\n")
    sub = flow("Sub", [lm("Sub/D", ref("Sub/x"))], {"out": out("Sub/D")}, {"x": STR})
    nodes = [lm("F/a", "one"), python("F/b", "act", "tool", x=out("F/a")), call("F/c", "Sub", x=ref("F/b"))]
    return program(flow("F", nodes, {"out": out("F/c")}), sub, root=root, externs=[WHAT])


async def test_stubs_answer_in_place_of_modules_python_and_flows(tmp_path: Path) -> None:
    stubs = {
        "M": lambda inputs: {"out": inputs["text"] + " two"},
        "act": lambda inputs: inputs["x"] + " three",
        "Sub": lambda inputs: {"out": inputs["x"] + " four"},
    }
    done = await run(mixed(tmp_path), stubs)
    assert done.outputs == {"out": "one two three four"}
    assert done.calls == []
    assert [(step.kind, step.name, step.call_key) for step in done.steps] == [
        ("stub", "M", "F/a"), ("stub", "act", "F/b"), ("stub", "Sub", "F/c"),
    ]  # fmt: skip
    assert done.steps[2].inputs == {"x": "one two three"}
    assert done.steps[2].output == {"out": "one two three four"}


async def test_a_stub_inside_a_called_flow(tmp_path: Path) -> None:
    done = await run(mixed(tmp_path), {"M": lambda inputs: {"out": "m"}, "act": lambda inputs: "a"})
    assert [step.call_key for step in done.steps] == ["F/a", "F/b", "F/c/D"]


async def test_what_is_not_stubbed_runs(tmp_path: Path) -> None:
    done = await run(mixed(tmp_path), {"act": lambda inputs: "a"}, echo())
    assert [one.call_key for one in done.calls] == ["F/a", "F/c/D"]


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("M", {"out": 3}, "stub of `M` answers with what does not fit M.out: `out`: input should be a valid string"),
        ("M", {"other": "x"}, "`out`: the field is missing"),
        ("M", "text", "valid dict"),
        ("act", {"out": "x"}, "stub of `act`"),
    ],
)
async def test_an_answer_that_does_not_fit_is_an_error(tmp_path: Path, name: str, answer: Any, words: str) -> None:
    stubs = {"M": lambda inputs: {"out": ""}, "act": lambda inputs: "", name: lambda inputs: answer}
    with pytest.raises(DataError, match=words):
        await run(mixed(tmp_path), stubs)


async def test_a_stub_that_raises_is_a_call_that_fails() -> None:
    def down(inputs: Mapping[str, Any]) -> Any:
        raise OSError("down")

    caught = catch("F/c", region([lm("F/c.try/D")], out("F/c.try/D")), region([], ref("F/c.error")), "F/c.error")
    done = await run(program(flow("F", [caught], {"out": ref("F/c")})), {"M": down})
    assert done.outputs == {"out": "the stub of `M` raised OSError: down"}


async def test_a_name_there_is_not_cannot_be_stubbed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no module, extern or flow `N` to stub.\s+next: there are: F, M, Sub, act"):
        await run(mixed(tmp_path), {"N": lambda inputs: {}})


async def test_a_stub_may_change_what_it_is_given() -> None:
    xs = MakeList((MakeRecord("R", (FieldValue("a", ref("F/t")),)),))
    nodes = [LmCall(NodeId("F/D"), "L", operands({"xs": xs}), RecordType("L.out", (OUT,)))]
    record = ListType(RecordType("R", (Field("a", STR),)))
    listing = module("L", inputs=(Field("xs", record),))
    made = program(flow("F", [expr("F/t", "kept"), *nodes], {"out": ref("F/t")}), modules=[listing])

    def greedy(inputs: Mapping[str, Any]) -> Any:
        inputs["xs"][0]["a"] = "changed"
        return {"out": ""}

    done = await run(made, {"L": greedy})
    assert done.steps[0].inputs == {"xs": [{"a": "kept"}]}


# -- react -----------------------------------------------------------------------------------------------------------

SEARCH = RecordType("R.search", (Field("tool", LiteralType(("search",))), Field("x", STR)))
FINISH = RecordType("R.finish", (Field("tool", LiteralType(("finish",))),))
STEP = RecordType("R.step", (Field("thought", STR), Field("action", UnionType((SEARCH, FINISH)))))


def reacting(root: Path, kind: Any = "retriever") -> Program:
    """What a `react` module with one tool lowers to, in little."""
    write_tools(root, "def search(x):\n    return 'found ' + x\n")
    action = out("F/steps/think", "action")
    think = LmCall(NodeId("F/steps/think"), "R.step", operands({"text": ref("F/steps/seen")}), STEP)
    ends = stop("F/steps/stop", apply("==", GetField(action, "tool"), "finish"), "F/steps", seen=ref("F/steps/seen"))
    tried = catch(
        "F/steps/search.try",
        region([python("F/steps/search", "search", kind, x=GetField(action, "x"))], ref("F/steps/search")),
        region([], ref("F/steps/search.error")),
        "F/steps/search.error",
    )
    seen = apply("+", ref("F/steps/seen"), ref("F/steps/search.try"))
    loop = repeat("F/steps", 3, {"seen": ""}, region([think, ends, tried], seen=seen))
    nodes = [loop, lm("F/answer", ref("F/steps:seen"), "R")]
    specs = [
        module("R", strategy="react", tools=("search",), max_steps=3),
        ModuleSpec("R.step", (Field("text", STR),), STEP.fields, "Think.", derived_from="R"),
    ]
    return program(
        flow("F", nodes, {"out": out("F/answer")}), root=root, modules=specs,
        externs=[extern("search", kind, STR, [X])],
    )  # fmt: skip


async def test_a_react_loop_runs_its_tool_and_carries_what_it_saw(tmp_path: Path) -> None:
    def answer(prompt: str, request: Any) -> str:
        last = prompt.rpartition("text: ")[2]
        if "tool" not in prompt:
            return "the answer"
        if "found" in last:
            return '{"thought": "enough", "action": {"tool": "finish"}}'
        return '{"thought": "look", "action": {"tool": "search", "x": "it"}}'

    done = await run(reacting(tmp_path), {}, ScriptedEngine(answer))
    assert done.outputs == {"out": "the answer"}
    assert [(one.module, one.call_key) for one in done.calls] == [
        ("R", "F/answer"), ("R.step", "F/steps[0]/think"), ("R.step", "F/steps[1]/think"),
    ]  # fmt: skip
    assert [(step.call_key, step.output) for step in done.steps] == [("F/steps[0]/search", "found it")]
    assert done.calls[0].inputs == {"text": "found it"}


async def test_a_stubbed_react_module_takes_no_steps(tmp_path: Path) -> None:
    done = await run(reacting(tmp_path), {"R": lambda inputs: {"out": "stubbed"}})
    assert done.outputs == {"out": "stubbed"}
    assert [(step.kind, step.name) for step in done.steps] == [("stub", "R"), ("stub", "R.step")]
    assert done.steps[1].output == {"thought": "", "action": {"tool": "finish"}}


async def test_a_step_may_have_a_stub_of_its_own(tmp_path: Path) -> None:
    acts = iter([{"tool": "search", "x": "it"}, {"tool": "finish"}])
    stubs = {
        "R": lambda inputs: {"out": inputs["text"]},
        "R.step": lambda inputs: {"thought": "", "action": next(acts)},
    }
    done = await run(reacting(tmp_path), stubs)
    assert done.outputs == {"out": "found it"}


# -- effects ---------------------------------------------------------------------------------------------------------


async def test_a_run_that_may_act_is_refused_before_anything_is_called(tmp_path: Path) -> None:
    engine = echo()
    with pytest.raises(ConfigError, match=r"Flow `F` may call the tool `act`(.|\n)*--allow-effects, or stub `act`"):
        await run(mixed(tmp_path), {}, engine, effects="refuse")
    with pytest.raises(ConfigError, match="may call the tool"):
        await run(mixed(tmp_path), {}, None, effects="refuse")
    assert engine.requests == []
    stubbed = await run(mixed(tmp_path), {"act": lambda inputs: "a"}, engine, effects="refuse")
    assert stubbed.failure is None


async def test_a_program_that_ran_freely_is_still_refused_later(tmp_path: Path) -> None:
    made = mixed(tmp_path)
    async with Runtime(everything=echo()) as runtime:
        done = await runtime.run(made, {})
        assert done.failure is not None
        assert "it acted" in done.failure.message
        with pytest.raises(ConfigError, match="may call the tool"):
            await runtime.run(made, {}, options=RunOptions(effects="refuse"))


@pytest.mark.parametrize("where", ["if", "flow"])
async def test_tools_are_found_wherever_they_stand(tmp_path: Path, where: str) -> None:
    acting = python("F/h.else/t", "act", "tool", x="x")
    sub = flow("Sub", [python("Sub/t", "act", "tool", x="x")], {"out": ref("Sub/t")})
    holders = {
        "if": either("F/h", True, region([], "fine"), region([acting], ref("F/h.else/t"))),
        "flow": call("F/h", "Sub"),
    }
    write_tools(tmp_path, "def act(x):\n    return x\n")
    made = program(flow("F", [holders[where]], {"out": "x"}), sub, root=tmp_path, externs=[WHAT])
    with pytest.raises(ConfigError, match="the tool `act`"):
        await run(made, {}, echo(), effects="refuse")
    if where == "flow":
        assert (await run(made, {"Sub": lambda inputs: {"out": "x"}}, effects="refuse")).outputs == {"out": "x"}


async def test_the_tools_of_a_stubbed_react_module_are_not_reached(tmp_path: Path) -> None:
    made = reacting(tmp_path, "tool")
    with pytest.raises(ConfigError, match="the tool `search`"):
        await run(made, {}, echo(), effects="refuse")
    done = await run(made, {"R": lambda inputs: {"out": "stubbed"}}, effects="refuse")
    assert done.outputs == {"out": "stubbed"}
