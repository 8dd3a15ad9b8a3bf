"""What leaves a module as it was leaves its fingerprints: layout, comments, order, additions, limits of loops."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmgraph.compiler.compile import compile_source
from lmgraph.graph.graph import Graph
from lmgraph.program.fingerprints import fingerprints
from lmgraph.program.params import Demo
from lmgraph.program.program import Program
from lmgraph.program.rebind import rebind
from lmgraph.program.values import least_value
from lmgraph.source import Source
from lmgraph.source.render import render
from lmgraph.syntax.format import format_source, format_tree
from lmgraph.syntax.parser import parse
from support.programs import programs, random_program

ANY = st.one_of(programs(), st.integers(0, 2**32).map(random_program))
SOME = settings(max_examples=20, phases=[Phase.generate])

FIRST_LINE = re.compile(r"^(?=(?:module|flow|enum|record|fn|tool|retriever) )", re.MULTILINE)

ADDED = """
enum Added { one  two }
record AddedNote { added: Added }
module AddedModule(q: str) -> (text: str, kind: Added) { \"\"\"Something else.\"\"\" }
flow AddedFlow(q: str) -> (text: str) {
  asked = Ask(q)
  thought = Think(q=asked.text, n=asked.n)
  out = AddedModule(q=thought.text)
  return (text=out.text)
}
"""
"""A flow that calls modules which are there already, too."""


def formatted(text: str, seed: int) -> str:
    return format_source(Source("program.lmg", text))


def commented(text: str, seed: int) -> str:
    source = random.Random(seed)
    return FIRST_LINE.sub(lambda match: f"# {source.random()}\n\n" if source.random() < 0.5 else "", text)


def in_another_order(text: str, seed: int) -> str:
    tree = parse(Source("program.lmg", text)).tree
    assert tree is not None
    declarations = list(tree.declarations)
    random.Random(seed).shuffle(declarations)
    return format_tree(replace(tree, declarations=tuple(declarations)))


def added_to(text: str, seed: int) -> str:
    return text + ADDED


def with_other_limits(text: str, seed: int) -> str:
    source = random.Random(seed)
    return re.sub(r"repeat max \d+", lambda match: f"repeat max {source.randint(2, 9)}", text)


CHANGES: list[Callable[[str, int], str]] = [formatted, commented, in_another_order, added_to, with_other_limits]


def graph_of(text: str) -> Graph:
    compilation = compile_source(Source("program.lmg", text), root=None)
    assert compilation.graph is not None, render(compilation.diagnostics, compilation.sources)
    return compilation.graph


@pytest.mark.parametrize("change", CHANGES)
@SOME
@given(text=ANY, seed=st.integers(0, 2**32))
def test_a_change_elsewhere_changes_no_fingerprint(change: Callable[[str, int], str], text: str, seed: int) -> None:
    before, after = fingerprints(graph_of(text)), fingerprints(graph_of(change(text, seed)))
    for name, was in before.items():
        now = after[name]
        in_old_flows = {flow: one for flow, one in now.graph.items() if flow != "AddedFlow"}
        assert replace(now, graph=in_old_flows) == was


@SOME
@given(text=ANY, seed=st.integers(0, 2**32))
def test_what_was_learned_survives_all_of_them_and_a_renaming(text: str, seed: int) -> None:
    graph = graph_of(text)
    program = Program.default(graph)
    params = program.params
    for module in graph.modules:
        inputs, outputs = (
            {field.name: least_value(field.type) for field in side} for side in (module.inputs, module.outputs)
        )
        demo = Demo(inputs, outputs)
        params = params.with_module(module.name, instruction=f"Learned of {module.name}.", demos=(demo,))
    for change in CHANGES:
        text = change(text, seed)
    text = re.sub(r"\bAsk\b", "Asked", text) + "moved Ask -> Asked\n"
    changed = graph_of(text)
    rebound = rebind(program.with_params(params), changed)
    assert rebound.problems == ()
    assert set(rebound.notes) == {
        "`Asked` has the parameters of `Ask`",
        "`AddedModule` is new: it starts from what its author wrote",
    }
    loaded = rebound.require()
    for name, learned in params.modules.items():
        now = loaded.modules["Asked" if name == "Ask" else name]
        assert (now.instruction, now.demos) == (learned.instruction, learned.demos)
    again = rebind(Program.default(changed).with_params(loaded), changed)
    assert (again.require(), again.problems, again.notes) == (loaded, (), ())


@SOME
@given(text=ANY)
def test_each_fingerprint_sees_what_it_is_of(text: str) -> None:
    before = fingerprints(graph_of(text))["Ask"]
    interface = fingerprints(graph_of(text.replace("module Ask(q: str)", "module Ask(q: str, more: int = 0)")))["Ask"]
    assert interface.interface != before.interface
    behaviour = fingerprints(graph_of(text.replace('"""Answer."""', '"""Answer in one word."""')))["Ask"]
    assert behaviour.behaviour != before.behaviour
    assert behaviour.interface == before.interface
    bound = text.replace('"""Answer."""', '"""Answer.""" lm: other') + 'lm other { model: "other" }\n'
    lm = fingerprints(graph_of(bound))["Ask"]
    assert lm.lm != before.lm
    assert replace(lm, lm=before.lm) == before
