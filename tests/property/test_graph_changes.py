"""Whatever is done to the JSON of a graph: it is refused in words, or it can be drawn and walked."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lmgraph.errors import Corrupt, GraphInvariantError
from lmgraph.graph.draw import to_dot, to_mermaid, to_text
from lmgraph.graph.dump import dump, load
from lmgraph.graph.effects import acting_nodes
from lmgraph.graph.topology import critical_paths, to_networkx
from lmgraph.graph.verify import verify
from lmgraph.graph.walk import node_references, values_of, walk
from support.graph_samples import every_kind

TEXT = dump(every_kind())


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every item of a list and every value of an object, as its holder and the key."""
    found: list[tuple[Any, Any]] = []
    waiting = [data]
    while waiting:
        holder = waiting.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


PLACES = len(places(json.loads(TEXT)["graph"]))
WORDS = sorted({holder[key] for holder, key in places(json.loads(TEXT)["graph"]) if isinstance(holder[key], str)})
changes = st.tuples(
    st.integers(0, PLACES - 1), st.sampled_from(["drop", "twice", "swap", "word", "null"]), st.sampled_from(WORDS)
)


def apply(data: Any, change: tuple[int, str, str]) -> None:
    position, what, word = change
    found = places(data["graph"])
    holder, key = found[position % len(found)]
    match what:
        case "drop" if isinstance(holder, list):
            del holder[key]
        case "twice" if isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(holder[key])))
        case "swap" if isinstance(holder, list):
            holder[key], holder[0] = holder[0], holder[key]
        case "word":
            holder[key] = word
        case "null":
            holder[key] = None
        case _:
            pass


@settings(max_examples=200)
@given(st.lists(changes, min_size=1, max_size=2))
def test_a_graph_is_refused_in_words_or_can_be_drawn(changed: list[tuple[int, str, str]]) -> None:
    data = json.loads(TEXT)
    for change in changed:
        apply(data, change)
    try:
        graph = load(json.dumps(data))
        verify(graph)
    except (Corrupt, GraphInvariantError):
        return
    assert to_text(graph)
    assert to_mermaid(graph)
    assert to_dot(graph)
    assert set(critical_paths(graph)) == {flow.name for flow in graph.flows}
    for flow in graph.flows:
        assert to_networkx(graph, flow.name)
        seen = {parameter.id for parameter in flow.body.parameters}
        for node in flow.body.nodes:
            assert set(node_references(node)) <= seen
            seen.update(values_of(node))
        acting_nodes(flow.body, frozenset())
        assert len({node.id for node in walk(flow.body)}) == len(list(walk(flow.body)))
