"""Counts of a flow: what they are called, what a program with chosen ones runs, where they load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lmgraph.compiler.compile import Compilation, compile_source
from lmgraph.errors import ConfigError, GraphMismatch
from lmgraph.evaluate import make_task
from lmgraph.graph.counts import Count, counts_of
from lmgraph.graph.graph import Graph
from lmgraph.graph.labels_program import information_flow
from lmgraph.graph.nodes import NodeId
from lmgraph.graph.verify import verify
from lmgraph.optimize.affordable import a_row
from lmgraph.optimize.difference import difference
from lmgraph.optimize.report import counts_told
from lmgraph.passes import PASSES, with_counts
from lmgraph.program import Program, artifact
from lmgraph.program.params import params_hash, to_data
from lmgraph.program.program import graph_hash
from lmgraph.program.rebind import Rebound, rebind
from lmgraph.runtime import RunOptions, Runtime, Trace
from lmgraph.source.text import Source
from lmgraph.testing import ScriptedEngine, last_user_turn
from support.scripted import run_cli
from support.search_program import COUNTS, SEARCH, next_query, search_program

BOUND, K = "Search.hop.bound", "Search.found.k"
QUESTION = {"question": "which?"}


def searcher() -> ScriptedEngine:
    return ScriptedEngine(lambda prompt, request: next_query(last_user_turn(prompt)))


def chosen(program: Program, **counts: int) -> Program:
    """With `bound` and `k` as counts."""
    names = {"bound": BOUND, "k": K}
    return program.with_params(replace(program.params, counts={names[name]: value for name, value in counts.items()}))


def graph(flow: str) -> Graph:
    head = 'retriever wiki(q: str, k: int = 5, most: int) -> list[str] = py "pages:wiki"\n'
    return compile_source(Source("program.lmg", head + flow), root=None).require()


def keys(trace: Trace) -> list[str]:
    return [*(call.call_key for call in trace.calls), *(step.call_key for step in trace.steps)]


# -- names -----------------------------------------------------------------------------------------------------------


def test_loops_with_a_name_and_numbers_of_retrievals_are_counts(tmp_path: Path) -> None:
    assert counts_of(search_program(tmp_path).graph) == {
        BOUND: Count(BOUND, NodeId("Search/hop"), 3),
        K: Count(K, NodeId("Search/hop/found"), 4, "k"),
    }


def test_a_retrieval_inside_an_expression_goes_by_the_retrievers_name() -> None:
    found = counts_of(graph("flow F(q: str) -> (n: int) { x = len(wiki(q, most=2)) return (n=x) }"))
    assert {name: (one.node, one.most) for name, one in found.items()} == {
        "F.wiki.k": ("F/x.wiki", 5),
        "F.wiki.most": ("F/x.wiki", 2),
    }


def test_a_name_of_two_places_names_neither() -> None:
    body = "x = wiki(q, k=1, most=1) y = wiki(q, k=len(wiki(q, most=3)), most=len(wiki(q, k=2, most=0)))"
    found = counts_of(graph(f"flow F(q: str) -> (x: list[str], y: list[str]) {{ {body} return (x, y) }}"))
    assert set(found) == {"F.x.k", "F.x.most", "F.wiki.most"}, "two retrievals have a k, and 0 is nothing to lower"


ODD = """
retriever wiki(q: str, k: int = 5) -> list[str] = py "pages:wiki"
retriever more(q: str, k: int, least: int where it >= 1) -> list[str] = py "pages:wiki"
flow F(q: str) -> (out: list[str]) {
  var seen: list[str] = wiki(q)
  safe = more(q, k=-2, least=2) catch []
  each = [len(wiki(q=s, k=3)) for s in safe if len(more(q=s, k=7, least=0 + 1)) > 0]
  if len(each) > 1 and len(wiki(q="x", k=6)) > 0 {
    found = more(q, k=1, least=4)
    seen := found + more(q, k=9, least=len(found))
  } else {
    found = wiki(q, k=2)
    seen := found
  }
  repeat max 4 as outer {
    repeat max 2 as inner {
      seen := wiki(q, k=2)
      stop if len(seen) > 3
    }
  }
  repeat max 5 {
    seen := seen + safe
  }
  other = if len(seen) > 1 then wiki(q, k=8) else more(q, k=3, least=1)
  return (out=seen + other)
}
record Row { q: str }
dataset rows: Row = jsonl "rows.jsonl"
metric some(gold: Row, pred: F.out) -> bool = len(pred.out) > 0
"""


def test_the_text_and_the_graph_know_the_same_counts(tmp_path: Path) -> None:
    (tmp_path / "pages.py").write_text("def wiki(q, k=5, least=1):\n    return []\n")
    (tmp_path / "rows.jsonl").write_text("")

    def compiled(optimize: str) -> Compilation:
        text = f"{ODD}\nobjective good {{ flow: F  data: rows  metric: some{optimize} }}\n"
        return compile_source(Source("program.lmg", text), root=tmp_path)

    known = counts_of(compiled("").require())
    assert set(known) == {"F.found.least", "F.outer.bound", "F.inner.bound"}
    places = ("seen", "safe", "each", "found", "wiki", "more", "outer", "inner", "other", "repeat", "stop")
    for name in [f"F.{place}.{what}" for place in places for what in ("k", "least", "bound", "q")]:
        found = compiled(f"  optimize: [{name}]")
        assert (found.graph is not None) == (name in known), name
        if found.graph is not None:
            assert found.graph.objective("good").counts == (name,)


# -- what runs -------------------------------------------------------------------------------------------------------


async def test_a_lower_bound_and_a_lower_number_are_what_runs(tmp_path: Path) -> None:
    program = search_program(tmp_path)
    async with Runtime(everything=searcher()) as runtime:
        whole = await runtime.run(program, QUESTION)
        fewer = await runtime.run(chosen(program, bound=2, k=1), QUESTION)
    assert whole.outputs is not None
    assert len(whole.outputs["titles"]) == 12
    assert fewer.outputs == {"titles": ["a0", "b0"]}
    assert [step.inputs["k"] for step in fewer.steps] == [1, 1]


async def test_the_bound_holds_without_passes_and_with_stubs(tmp_path: Path) -> None:
    fewer = chosen(search_program(tmp_path), bound=1)
    async with Runtime(everything=searcher(), passes_off=[one.name for one in PASSES]) as runtime:
        plain = await runtime.run(fewer, QUESTION)
        stubbed = await runtime.run(fewer, QUESTION, options=RunOptions(stubs={"wiki": lambda given: []}))
    assert plain.outputs == {"titles": ["a0", "a1", "a2", "a3"]}
    assert stubbed.outputs == {"titles": []}


async def test_the_start_and_a_choice_take_turns_in_one_runtime(tmp_path: Path) -> None:
    program = search_program(tmp_path)
    fewer = chosen(program, bound=1)
    async with Runtime(everything=searcher()) as runtime:
        sizes = [len((await runtime.run(one, QUESTION)).calls) for one in (program, fewer, program, fewer)]
    assert sizes == [3, 1, 3, 1]


def test_chosen_counts_change_the_hash_of_the_program_and_not_its_graph(tmp_path: Path) -> None:
    program = search_program(tmp_path)
    fewer = chosen(program, bound=2)
    assert fewer.hash != program.hash
    assert params_hash(fewer.params) != params_hash(program.params)
    assert graph_hash(fewer.graph) == graph_hash(program.graph)
    assert "counts" not in to_data(program.params)
    tuned = with_counts(program.graph, fewer.params.counts)
    verify(tuned)
    assert {name: one.most for name, one in counts_of(tuned).items()} == {BOUND: 2, K: 4}
    assert with_counts(program.graph, {}) is program.graph


def test_a_number_keeps_what_its_input_is_held_to() -> None:
    head = 'retriever wiki(q: str, k: int where it >= 2) -> list[str] = py "pages:wiki"\n'
    text = head + "flow F(q: str) -> (x: list[str]) { x = wiki(q, k=4) return (x) }"
    made = compile_source(Source("program.lmg", text), root=None).require()
    (node,) = with_counts(made, {"F.x.k": 3}).flow("F").body.nodes
    (before,) = made.flow("F").body.nodes
    assert repr(node) == repr(before).replace("Const(value=4", "Const(value=3")
    assert repr(node) != repr(before)


@pytest.mark.parametrize(
    ("counts", "said"), [({"Search.nope.k": 1}, "Search.nope.k"), ({BOUND: 4}, "from 1 to 3"), ({K: 0}, "1 to 4")]
)
async def test_what_does_not_fit_is_refused_before_a_run(tmp_path: Path, counts: dict[str, int], said: str) -> None:
    program = search_program(tmp_path)
    wrong = program.with_params(replace(program.params, counts=counts))
    async with Runtime(everything=searcher()) as runtime:
        with pytest.raises(ConfigError, match=said):
            await runtime.run(wrong, QUESTION)
    with pytest.raises(GraphMismatch, match=said):
        artifact.load(artifact.save(wrong, tmp_path / "wrong"))


def test_the_least_that_a_row_takes_is_that_of_the_chosen_bound(tmp_path: Path) -> None:
    program = search_program(tmp_path)
    task = make_task(program)
    assert [a_row(one, task) for one in (program, chosen(program, bound=1))] == [3, 1]


# -- replay and reuse ------------------------------------------------------------------------------------------------


async def test_a_lower_bound_is_answered_from_the_record_and_a_higher_one_as_far_as_it_goes(tmp_path: Path) -> None:
    program = search_program(tmp_path)
    engine = searcher()
    async with Runtime(everything=engine) as runtime:
        whole = await runtime.run(program, QUESTION)
        fewer = await runtime.run(chosen(program, bound=2), QUESTION, recorded=[whole])
        assert (len(engine.requests), len(fewer.calls)) == (3, 2)
        assert keys(fewer) == [key for key in keys(whole) if "hop[2]" not in key]
        again = await runtime.run(program, QUESTION, recorded=[fewer])
        assert len(engine.requests) == 4, "the third round alone"
    assert again.outputs == whole.outputs


async def test_another_number_calls_the_retriever_and_what_reads_it(tmp_path: Path) -> None:
    program = search_program(tmp_path)
    engine = searcher()
    async with Runtime(everything=engine) as runtime:
        whole = await runtime.run(program, QUESTION)
        fewer = await runtime.run(chosen(program, k=2), QUESTION, recorded=[whole])
        assert len(engine.requests) == 5, "the first round reads nothing that was found"
        assert fewer.outputs == (await runtime.run(chosen(program, k=2), QUESTION)).outputs


async def test_replay_under_another_bound(tmp_path: Path) -> None:
    program = search_program(tmp_path)
    engine = searcher()
    async with Runtime(everything=engine) as runtime:
        fewer = await runtime.run(chosen(program, bound=2), QUESTION)
        same = await runtime.replay(chosen(program, bound=2), fewer)
        assert len(engine.requests) == 2
        more = await runtime.replay(program, fewer)
        assert len(engine.requests) == 3
    assert same.outputs == fewer.outputs
    assert more.outputs is not None
    assert len(more.outputs["titles"]) == 12


async def test_equal_requests_of_other_bounds_share_the_response_cache(tmp_path: Path) -> None:
    program = search_program(tmp_path)
    engine = searcher()
    async with Runtime(everything=engine, cache=tmp_path / "cache") as runtime:
        await runtime.run(program, QUESTION)
        await runtime.run(chosen(program, bound=2), QUESTION)
        assert len(engine.requests) == 3
        await runtime.run(chosen(program, k=1), QUESTION)
        assert len(engine.requests) == 5


# -- where they load -------------------------------------------------------------------------------------------------


def test_an_artifact_keeps_them(tmp_path: Path) -> None:
    fewer = chosen(search_program(tmp_path / "p"), bound=2, k=1)
    loaded = artifact.load(artifact.save(fewer, tmp_path / "tuned"))
    assert loaded.params == fewer.params
    assert loaded.hash == fewer.hash


def onto(folder: Path, old: str, new: str) -> Rebound:
    """What was chosen for the program, on one in which ``old`` is ``new``."""
    assert old in SEARCH
    fewer = chosen(search_program(folder / "old"), bound=2, k=2)
    return rebind(fewer, search_program(folder / "new", SEARCH.replace(old, new)).graph)


def test_a_count_that_is_gone_is_left_out_and_told(tmp_path: Path) -> None:
    rebound = onto(tmp_path, COUNTS, "[Search.found.k]")
    assert rebound.require().counts == {BOUND: 2, K: 2}, "what may change is no matter of what loads"
    assert rebound.problems == ()
    text = SEARCH.replace("as hop", "as step").replace("hop.bound", "step.bound")
    rebound = rebind(chosen(search_program(tmp_path / "a"), bound=2, k=2), search_program(tmp_path / "b", text).graph)
    assert rebound.require().counts == {K: 2}
    (problem,) = rebound.problems
    assert (problem.code, problem.message) == (
        "W0802",
        "`Search.hop.bound` was chosen as 2, and the program has no such count",
    )


def test_a_number_that_its_author_made_smaller_holds(tmp_path: Path) -> None:
    rebound = onto(tmp_path, "max 3", "max 1")
    assert rebound.require().counts == {K: 2}
    assert [one.message for one in rebound.problems] == [
        "`Search.hop.bound` was chosen as 2, and its author says at most 1 now"
    ]
    assert rebound.notes == ()


def test_another_most_that_is_enough_is_noted(tmp_path: Path) -> None:
    rebound = onto(tmp_path, "max 3", "max 5")
    assert rebound.require().counts == {BOUND: 2, K: 2}
    assert rebound.problems == ()
    assert rebound.notes == ("`Search.hop.bound` was chosen as 2 of at most 3, which is 5 now",)


# -- what is told ----------------------------------------------------------------------------------------------------


def test_diff_and_report_show_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = search_program(tmp_path / "p")
    fewer = chosen(program, bound=2)
    found = difference(program, fewer)
    assert not found.is_empty
    assert found.counts == {BOUND: (None, 2)}
    assert counts_told(fewer) == ["Search.hop.bound: 2, where the author says 3."]
    folder = artifact.save(fewer, tmp_path / "tuned")
    done = run_cli(monkeypatch, capsys, "diff", tmp_path / "p" / "program.lmg", folder)
    assert done.out == "Search.hop.bound: the author's -> 2\n"


def test_plan_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = artifact.save(chosen(search_program(tmp_path / "p"), bound=2), tmp_path / "tuned")
    shown = run_cli(monkeypatch, capsys, "plan", folder).out
    assert "  Next: nothing (lm default)\n  Search.hop.bound: from 1 to 3, now 2\n" in shown
    assert "a row at least: 2 calls of models" in shown
    assert "a row at most: 3 calls of models" in shown, "a stage may go back to what the author says"
    told = json.loads(run_cli(monkeypatch, capsys, "plan", folder, "--json").out)
    assert told["counts"] == [
        {"count": BOUND, "now": 2, "at_most": 3},
        {"count": K, "now": 4, "at_most": 4},
    ]


def test_only_what_is_named_and_reached_may_change(tmp_path: Path) -> None:
    program = search_program(tmp_path / "a")
    assert [one.name for one in make_task(program).counts(program)] == [BOUND, K]
    assert not make_task(program).allows(program, "Next", "instruction"), "the list names others"
    text = SEARCH.replace(COUNTS, "[Other.more.k, Search.found.k]")
    text += "flow Other(q: str) -> (p: list[Page]) {\n  more = wiki(query=q)\n  return (p=more)\n}\n"
    other = search_program(tmp_path / "b", text)
    assert [one.name for one in make_task(other).counts(other)] == [K]
    none = search_program(tmp_path / "c", SEARCH.replace(f"  optimize: {COUNTS}\n", ""))
    assert make_task(none).counts(none) == ()


def test_what_private_scores_choose_is_a_channel_to_all_that_is_public(tmp_path: Path) -> None:
    assert information_flow(search_program(tmp_path / "a").graph).channels == ()
    private = search_program(
        tmp_path / "b", SEARCH.replace("  title: str\n}\n\nretriever", "  title: private str\n}\n\nretriever")
    )
    found = [(one.place, one.knobs, one.seer) for one in information_flow(private.graph).channels]
    assert found == [
        ("Search.hop", ("bound",), "lm default"),
        ("Search.hop", ("bound",), "retriever wiki"),
        ("Search.found", ("k",), "lm default"),
        ("Search.found", ("k",), "retriever wiki"),
    ]
