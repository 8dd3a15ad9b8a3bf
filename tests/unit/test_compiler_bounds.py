"""Bounds of calls, tokens and waiting calls, for programs whose figures are easy to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.compiler.bounds import ProgramBounds
from lmgraph.compiler.compile import compile_source
from lmgraph.program import Program
from lmgraph.runtime import Runtime
from lmgraph.runtime.engine import GenerateRequest
from lmgraph.source import Source
from lmgraph.testing import ScriptedEngine

ASK = "module Ask(text: str) -> (answer: str, items: list[str]) { max_tokens: 10 }\n"
LOOK = 'retriever look(text: str, k: int = 2) -> list[str] = py "steps:look" { returns_at_most: k }\n'
SAMPLED = "module Best(text: str) -> (answer: str) { max_tokens: 10  strategy: best_of  samples: 3  select: vote }\n"
RESEARCH = (
    "module Research(text: str) -> (answer: str) { max_tokens: 10  strategy: react  tools: [look]  max_steps: 5 }\n"
)


def figures(text: str, flow: str = "F") -> tuple[str, str, str]:
    graph = compile_source(Source("program.lmg", text), root=None).require()
    bounds = ProgramBounds(graph).flow(flow)
    return str(bounds.calls), str(bounds.tokens), str(bounds.path)


@pytest.mark.parametrize(
    ("body", "calls", "path"),
    [
        ("a = text\n return (a)", "0", "0"),
        ("a = Ask(text)\n b = Ask(text)\n return (a=a.answer + b.answer)", "2", "1"),
        ("a = Ask(text)\n b = Ask(text=a.answer)\n return (a=b.answer)", "2", "2"),
        ("a = if text == \"x\" then Ask(text).answer else Ask(text=Ask(text).answer).answer\n return (a)", "2", "2"),
        ("a = Ask(text).answer catch Ask(text).answer\n return (a)", "2", "2"),
        ("a = [Ask(text=one).answer for one in texts]\n return (a=a[0])", "|F.texts|", "1"),
        ("a = [Ask(text=one).answer for one in few]\n return (a=a[0])", "3", "1"),
        ("a = [Ask(text=one).answer for one in look(text, k=4)]\n return (a=a[0])", "4", "1"),
        ("a = [Ask(text=one).answer for one in look(text)]\n return (a=a[0])", "2", "1"),
        ("a = [Ask(text=one).answer for one in Ask(text).items]\n return (a=a[0])", "1 + |Ask.items|", "2"),
        ("a = [[Ask(text=x).answer for x in few] for y in texts]\n return (a=a[0][0] + texts[0])", "3·|F.texts|", "1"),
        ("a = [[Ask(text=x).answer for x in texts] for y in texts]\n return (a=a[0][0])", "|F.texts|·|F.texts|", "1"),
        ("a = [Ask(text=x).answer for x in texts + [\"a\", \"b\"]]\n return (a=a[0])", "2 + |F.texts|", "1"),
        ("var a = text\n repeat max 4 { a := Ask(text=a).answer }\n return (a)", "4", "4"),
        (
            "var xs: list[str] = []\n repeat max 4 { out = Ask(text)\n xs := xs + [out.answer] }\n"
            " a = [Ask(text=x).answer for x in xs]\n return (a=a[0])",
            "8",
            "5",
        ),
        (
            "var xs = texts\n repeat max 3 { a = [Ask(text=x).answer for x in xs]\n xs := xs + [\"a\"]\n"
            " stop if a[0] == \"x\" }\n return (a=xs[0])",
            "6 + 3·|F.texts|",
            "3",
        ),
        (
            "var xs = texts\n var ys = [text]\n repeat max 3 { zs = ys\n ys := xs + ys\n xs := zs }\n"
            " a = [Ask(text=x).answer for x in ys]\n return (a=a[0])",
            "3 + 2·|F.texts|",
            "1",
        ),
        ("if text == \"x\" {\n return (a=Ask(text).answer)\n }\n return (a=Ask(text).answer)", "2", "2"),
        ("a = Best(text)\n return (a=a.answer)", "3", "1"),
        ("a = Research(text)\n return (a=a.answer)", "6", "6"),
        ("a = G(xs=texts + [text])\n b = G(xs=[text])\n return (a=a.a + b.a)", "2 + |F.texts|", "1"),
    ],
)  # fmt: skip
def test_bounds(body: str, calls: str, path: str) -> None:
    other = "flow G(xs: list[str]) -> (a: str) {\n a = [Ask(text=x).answer for x in xs]\n return (a=a[0])\n}\n"
    flow = f"flow F(text: str, texts: list[str], few: list[str] where len(it) <= 3) -> (a: str) {{\n {body}\n}}\n"
    found = figures(ASK + LOOK + SAMPLED + RESEARCH + other + flow)
    assert (found[0], found[2]) == (calls, path)


def test_retries_count() -> None:
    text = "module Ask(text: str) -> (answer: str) { max_tokens: 10  retries: 2 }\n"
    assert figures(text, "Ask") == ("3", "30", "3")
    graph = compile_source(Source("program.lmg", text.replace("retries: 2", "")), root=None).require()
    assert str(ProgramBounds(graph, constrained=False).flow("Ask").calls) == "2"


@pytest.mark.parametrize("constrains", [True, False])
@pytest.mark.parametrize("retries", [0, 2])
async def test_a_run_that_never_succeeds_takes_all_of_it(tmp_path: Path, retries: int, constrains: bool) -> None:
    text = (
        f"module Ask(text: str) -> (n: int) {{ max_tokens: 4  retries: {retries}  assert n > 9 else \"more\" }}\n"
        "flow F(text: str) -> (n: int) {\n  first = Ask(text).n catch Ask(text=text + \"!\").n catch 0\n"
        "  return (n=first)\n}\n"
    )  # fmt: skip
    graph = compile_source(Source("program.lmg", text), root=None).require()
    bounds = ProgramBounds(graph, constrained=constrains).flow("F")

    def script(prompt: str, request: GenerateRequest) -> str:
        return "1" if constrains else "no number"

    engine = ScriptedEngine(script, constrains=constrains)
    async with Runtime(everything=engine) as runtime:
        await runtime.run(Program.default(graph, tmp_path), {"text": "a"})
    assert len(engine.requests) == bounds.calls.value({})
    assert sum(one.sampling.max_tokens for one in engine.requests) == bounds.tokens.value({})
