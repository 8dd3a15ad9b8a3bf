"""The JSON form: canonical, and strict about what it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmgraph.compiler.compile import compile_path
from lmgraph.errors import Corrupt, VersionMismatch
from lmgraph.graph import dump as form
from lmgraph.graph.graph import Graph


@pytest.fixture
def graph(samples: Path) -> Graph:
    return compile_path(samples / "banking77.lmg").require()


def test_load_gives_back_what_was_dumped(graph: Graph) -> None:
    assert form.load(form.dump(graph)) == graph
    assert form.load(form.dump(graph, indent=2)) == graph


def test_equal_graphs_have_equal_texts(graph: Graph) -> None:
    assert form.dump(form.load(form.dump(graph))) == form.dump(graph)
    assert form.content_hash(form.load(form.dump(graph))) == form.content_hash(graph)


def test_writing_agrees_with_what_reads(graph: Graph) -> None:
    adapter = form._adapter()
    assert form.to_data(graph)["graph"] == adapter.dump_python(graph, mode="json")


def test_the_schema_is_json(graph: Graph) -> None:
    assert "FlowSpec" in json.dumps(form.json_schema())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"graph"',
        "{}",
        '{"format": 1}',
        '{"format": true, "graph": []}',
        '{"format": "1", "graph": {}}',
        '{"format": 1, "graph": {}}',
        '{"format": 1, "graph": {"name": "a", "flows": 3}}',
        '{"format": 1, "graph": {"name": "a", "flows": [{"name": "F"}]}}',
        '{"format": 1, "graph": {"name": "a", "modules": [{"name": "M", "inputs": [], "outputs": [], '
        '"instruction": "", "strategy": "nope"}]}}',
    ],
)
def test_corrupt_text_is_refused(text: str) -> None:
    with pytest.raises(Corrupt):
        form.load(text)


def test_every_cut_of_a_graph_is_refused(graph: Graph) -> None:
    text = form.dump(graph)
    for end in range(0, len(text) - 1, 97):
        with pytest.raises(Corrupt):
            form.load(text[:end])


def test_another_format_is_refused(graph: Graph) -> None:
    data = {**form.to_data(graph), "format": form.FORMAT + 1}
    with pytest.raises(VersionMismatch, match="reads format 1"):
        form.load(json.dumps(data))
