"""programs/support: it compiles, its tickets are valid, no message stands in two splits, its metric is right."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_path
from programs.reading import PROGRAMS, SPLITS, load, normal, rows

SIZES = {"train": 400, "dev": 100, "test": 200}


@pytest.fixture(scope="module")
def graph() -> Any:
    return compile_path(PROGRAMS / "support" / "program.lmg").graph


def test_two_modules_in_sequence(graph: Any) -> None:
    assert graph.modules_of("Handle") == ("Label", "Route")
    assert graph.entry == "Handle"


def test_the_objective_weighs_two_metrics(graph: Any) -> None:
    objective = graph.objective("handled")
    assert dict(zip(objective.metrics, objective.weights, strict=True)) == {"share": 0.5, "team_right": 0.5}
    assert (objective.low, objective.high) == (0.0, 1.0)
    assert graph.metric("share").python == "metrics:share_right"
    assert graph.metric("team_right").body is not None


@pytest.mark.parametrize("split", SPLITS)
def test_tickets_fit_the_record(graph: Any, split: str) -> None:
    labels = {enum.name: set(enum.labels) for enum in graph.enums}
    found = rows("support", split)
    assert len(found) == SIZES[split]
    for ticket in found:
        assert set(ticket) == {"messages", "intents", "team"}
        assert len(ticket["messages"]) == len(ticket["intents"]) in (2, 3)
        assert len(set(ticket["messages"])) == len(ticket["messages"])
        assert set(ticket["intents"]) <= labels["Intent"]
        assert ticket["team"] in labels["Team"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_team_follows_from_the_intents(graph: Any, split: str) -> None:
    team = next(enum for enum in graph.enums if enum.name == "Team")
    intents = {member.label: set(str(member.description).split(", ")) for member in team.members}
    assert all(set(ticket["intents"]) <= intents[ticket["team"]] for ticket in rows("support", split))


def test_no_message_stands_in_two_splits() -> None:
    texts = {
        split: {normal(message) for ticket in rows("support", split) for message in ticket["messages"]}
        for split in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        assert not texts[one] & texts[other]


def test_a_message_has_one_intent_everywhere() -> None:
    pairs = {
        (normal(message), intent)
        for split in SPLITS
        for ticket in rows("support", split)
        for message, intent in zip(ticket["messages"], ticket["intents"], strict=True)
    }
    assert max(Counter(message for message, _ in pairs).values()) == 1


@pytest.mark.parametrize(
    ("gold", "pred", "score"),
    [
        (["a", "b"], ["a", "b"], 1.0),
        (["a", "b"], ["b", "a"], 0.0),
        (["a", "b", "c"], ["a", "x", "c"], 2 / 3),
        (["a", "b"], ["a"], 0.5),
        (["a"], ["a", "b"], 0.5),
        ([], [], 1.0),
        (["a"], [], 0.0),
    ],
)
def test_share_right(gold: list[str], pred: list[str], score: float) -> None:
    share_right = load("support", "metrics.py").share_right
    assert share_right(SimpleNamespace(intents=gold), SimpleNamespace(intents=pred)) == pytest.approx(score)


def test_making_the_tickets_is_repeatable_and_leaves_out_a_text_with_two_labels() -> None:
    make_data = load("support", "make_data.py")
    intents = [intent for team in make_data.TEAMS.values() for intent in team]
    lines = [
        json.dumps({"input": f"message {n} of {intent}", "label": intent}) for intent in intents for n in range(40)
    ]
    twice = [json.dumps({"input": "both", "label": intent}) for intent in intents[:2]]
    elsewhere = [json.dumps({"input": "not used", "label": "exchange_rate"})]
    tickets = make_data.make([*lines, *twice, *elsewhere])
    assert tickets == make_data.make([*elsewhere, *twice, *reversed(lines)])
    messages = {message for split in SPLITS for ticket in tickets[split] for message in ticket["messages"]}
    assert not messages & {"both", "not used"}
