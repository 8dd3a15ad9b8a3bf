"""Lowering where goldens would not show a mistake: what runs when, ids that must differ, values that are guarded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_source
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import Apply, Const, Ensure, ExprNode, Ref
from lmgraph.graph.walk import walk
from lmgraph.runtime.execute import execute
from lmgraph.runtime.plan import PlannedCall
from lmgraph.runtime.planner import Planner
from lmgraph.runtime.trace import Failure
from lmgraph.source import Source
from lmgraph.source.render import render
from support.programs import NAMES

ASK = "module Ask(q: str) -> (a: str, ok: bool, note: str?) {}\n"


def graph_of(text: str) -> Graph:
    compilation = compile_source(Source("program.lmg", text), root=None)
    assert compilation.graph is not None, render(compilation.diagnostics, compilation.sources)
    return compilation.graph


def run(graph: Graph, inputs: Mapping[str, Any], answers: Mapping[str, Any] | None = None) -> tuple[Any, list[str]]:
    """What the flow `F` gives back, and the keys of its calls in order."""
    keys: list[str] = []

    async def call(node: PlannedCall, key: str, arguments: Mapping[str, Any]) -> Any:
        keys.append(key)
        return (answers or {}).get(node.name, {"a": "a", "ok": True, "note": None})

    plan = Planner(graph).flow("F")
    return asyncio.run(execute(plan, inputs, call, lambda record: None, one_at_a_time=True)), keys


def flow(body: str, result: str = "str") -> str:
    return f"{ASK}flow F(q: str, n: int) -> (o: {result}) {{\n{body}\n}}\n"


# -- values that only an assert proves -------------------------------------------------------------------------------


def test_what_stands_behind_a_failed_assert_does_not_read_null() -> None:
    text = flow(
        """
        out = Ask(q)
        assert out.note != null else "a note is needed"
        size = len(out.note)
        more = Ask(q=out.note)
        return (o=if size > 3 then out.note else more.a)
        """
    )
    outcome, keys = run(graph_of(text), {"q": "x", "n": 1})
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.message) == ("assert", "a note is needed")
    assert keys == ["F/out"]


def test_only_values_behind_an_assert_are_guarded() -> None:
    text = flow(
        """
        out = Ask(q)
        assert out.note != null else "a note is needed"
        guarded = len(out.note)
        if out.note != null {
          check len(out.note) > guarded else "no guard: the condition is known first"
        }
        return (o=out.a)
        """
    )
    compilation = compile_source(Source("program.lmg", text), root=None)
    nodes = {node.id: node for node in walk(compilation.require().flow("F").body)}
    guarded = nodes["F/guarded"]
    assert isinstance(guarded, ExprNode)
    assert isinstance(guarded.expression, Apply)
    assert isinstance(guarded.expression.operands[0], Ensure)
    assert "Ensure" not in repr(nodes["F/if"].then.nodes[0].condition)
    # It compares once more what the assert has proved.
    assert "W0012" in [one.code for one in compilation.diagnostics]


# -- what runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "calls"),
    [
        ("if n > 0 then q else Ask(q).a", []),
        ("if n < 0 then q else Ask(q).a", ["F/x.else/Ask"]),
        ("if Ask(q).ok then q else q", ["F/x.Ask"]),
        ("if n < 0 and Ask(q).ok then q else q", []),
        ("if n > 0 or Ask(q).ok then q else q", []),
        ("if n > 0 and Ask(q).ok then q else q", ["F/x.and.then/Ask"]),
        ("q catch Ask(q).a", []),
        ("Ask(q).a catch Ask(q).a", ["F/x.try/Ask"]),
        ("[q][9] catch Ask(q).a", ["F/x.catch/Ask"]),
        ("[Ask(q=y).a for y in [q, q] if n < 0][0] catch q", []),
        ("[y for y in [q] if n > 0 and Ask(q=y).ok][0]", ["F/x.map[0]/if.and.then/Ask"]),
        ("if n > 0 then (if n > 1 then Ask(q).a else q) else Ask(q).a", []),
        ("(if n > 0 then Ask(q) else Ask(q=\"z\")).a", ["F/x.if.then/Ask"]),
        ("Ask(q=Ask(q).a + Ask(q).a).a", ["F/x.Ask", "F/x.Ask#2", "F/x.Ask#3"]),
    ],
)  # fmt: skip
def test_only_what_is_needed_is_called(value: str, calls: list[str]) -> None:
    outcome, keys = run(graph_of(flow(f"x = {value}\nreturn (o=x)")), {"q": "x", "n": 1})
    assert not isinstance(outcome, Failure)
    assert keys == calls


def test_calls_in_branches_that_are_not_taken_are_not_made() -> None:
    text = flow(
        """
        var x = q
        if n > 5 { x := Ask(q=x).a } else if n > 0 { x := "second" } else { x := Ask(q=x).a }
        repeat max 3 as i {
          stop if i == 1
          if i > 0 { x := Ask(q=x).a }
        }
        if n == 1 { return (o=x) }
        last = Ask(q)
        return (o=last.a)
        """
    )
    assert run(graph_of(text), {"q": "x", "n": 1}) == ({"o": "second"}, [])


def test_values_after_nested_branches_and_loops() -> None:
    text = flow(
        """
        var a = 0
        var b = 100
        repeat max 4 as i {
          if i > 0 {
            if i == 2 { a := a + 10 } else { b := b + 1  a := a + 1 }
            stop if a > 11
          } else {
            b := b - 50
          }
          repeat max 3 as j {
            a := a + j
            stop if j == n
          }
          b := b + a
        }
        return (o=a * 1000 + b)
        """,
        "int",
    )
    a, b = 0, 100
    for i in range(4):
        if i > 0:
            if i == 2:
                a += 10
            else:
                b, a = b + 1, a + 1
            if a > 11:
                break
        else:
            b -= 50
        for j in range(3):
            a += j
            if j == 1:
                break
        b += a
    assert run(graph_of(text), {"q": "x", "n": 1}) == ({"o": a * 1000 + b}, [])


# -- ids -------------------------------------------------------------------------------------------------------------


def test_names_that_the_compiler_uses_itself_may_be_bound() -> None:
    names = [name for name in NAMES if name not in ("x", "text")]
    body = [f"{name} = Ask(q)" for name in names]
    body += [f'assert len({name}.a) > 0 else "a"' for name in names]
    body += [f"var v{name} = 0\nrepeat max 2 as i{name} {{ v{name} := i{name}  stop if n > 9 }}" for name in names]
    body += ["if n > 8 { return (o=q) }", "x = if n > 7 then Ask(q).a else q catch q"]
    graph = graph_of(flow("\n".join([*body, "return (o=x)"])))
    ids = [node.id for node in walk(graph.flow("F").body)]
    assert len(set(ids)) == len(ids)
    assert "F/assert" in ids
    assert "F/assert#2" in ids


@pytest.mark.parametrize("name", ["number", "output", "think", "stop", "steps", "is_look", "sample", "score", "step"])
def test_tools_and_selectors_may_be_named_like_parts_of_a_strategy(name: str) -> None:
    text = f"""
    fn {name}(a: str) -> float = py "x:y"
    tool look(q: str) -> str = py "x:z"
    module Act(q: str) -> (a: str) {{ strategy: react  tools: [look, {name}] }}
    module Best(q: str) -> (a: str) {{ strategy: best_of  select: {name} }}
    flow F(q: str) -> (a: str) {{
      x = Act(q)
      y = Best(q=x.a)
      return (a=y.a)
    }}
    """
    graph_of(text)


@pytest.mark.parametrize("name", ["number", "try", "think", "stop", "steps", "sample", "score"])
def test_modules_with_a_strategy_may_be_named_like_its_parts(name: str) -> None:
    graph_of(
        f"module {name}(q: str) -> (a: str) {{ strategy: best_of  select: vote }}\n"
        f"flow F(q: str) -> (a: str) {{ x = {name}(q={name}(q).a)  return (a=x.a) }}"
    )


@pytest.mark.parametrize("tool", ["step_taken", "out", "step", "finish_action", "trace"])
def test_tools_may_be_named_like_types_of_their_module(tool: str) -> None:
    graph = graph_of(
        f'tool {tool}(q: str) -> str = py "x:z"\n'
        f"module Act(q: str) -> (a: str) {{ strategy: react  tools: [{tool}] }}\n"
    )
    assert f"Act.{tool}_action" in [record.name for record in graph.records]


# -- expressions -----------------------------------------------------------------------------------------------------


def test_a_chain_reads_what_stands_in_the_middle_once() -> None:
    text = flow("x = 0 < len(Ask(q).a + q) + n < 9\nreturn (o=x)", "bool")
    outcome, keys = run(graph_of(text), {"q": "x", "n": 1})
    assert (outcome, keys) == ({"o": True}, ["F/x.Ask"])
    small = graph_of(flow("x = 0 < n < 9 and 0 <= len(q) < 3\nreturn (o=x)", "bool"))
    assert [node.id for node in walk(small.flow("F").body)] == ["F/x"]


@pytest.mark.parametrize(
    "condition",
    [
        "it > 0 and 0 < it < 5",
        "if it > 1 then 0 < it < 3 else it != 7",
        "not (0 < it < 5) or it in [1, 2]",
        "-3 < -it < len([1, 2])",
    ],
)
def test_constraints_are_one_expression(condition: str) -> None:
    (record,) = graph_of(f"record R {{ n: int where {condition} }}").records
    assert record.fields[0].constraint is not None


def test_defaults_become_expressions() -> None:
    text = """
    enum E { a  b = "the b" }
    record R { xs: list[list[int]] = [[1], []]  e: E? = E.b  u: int | list[str] = ["x"]  f: float = 1 }
    flow F(q: str, n: int) -> (o: R) { return (o=R()) }
    """
    (result,) = graph_of(text).flow("F").body.results
    assert repr(Const("the b")) in repr(result)
    assert repr(Const(1.0)) in repr(result)
    assert run(graph_of(text), {"q": "", "n": 0})[0] == {"o": {"xs": [[1], []], "e": "the b", "u": ["x"], "f": 1.0}}


def test_an_exit_carries_the_values_of_its_place() -> None:
    body = "var x = 0\nrepeat max 2 { x := x + 1  if n > 0 { x := x + 10  stop if x > 5 } }\nreturn (o=x)"
    graph = graph_of(flow(body, "int"))
    (stop,) = [node for node in walk(graph.flow("F").body) if node.kind == "exit_if"]
    assert stop.results[0].value == Ref(stop.id.replace("stop", "x"))
    assert run(graph, {"q": "", "n": 1})[0] == {"o": 11}
