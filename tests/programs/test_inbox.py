"""programs/inbox: its loop ends at the first customer, its inboxes are valid, no message stands in two splits."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest

import lmgraph
from lmgraph.compiler.compile import compile_path
from programs.reading import PROGRAMS, SPLITS, load, normal, rows

SIZES = {"train": 300, "dev": 80, "test": 200}


@pytest.fixture(scope="module")
def graph() -> Any:
    return compile_path(PROGRAMS / "inbox" / "program.lmg").graph


def test_two_modules(graph: Any) -> None:
    assert graph.modules_of("Read") == ("Screen", "Route")
    assert graph.entry == "Read"


def test_the_objective_weighs_two_metrics(graph: Any) -> None:
    objective = graph.objective("read")
    assert dict(zip(objective.metrics, objective.weights, strict=True)) == {"place_right": 0.5, "team_right": 0.5}
    assert (objective.low, objective.high) == (0.0, 1.0)


@pytest.mark.parametrize("split", SPLITS)
def test_inboxes_fit_the_record(graph: Any, split: str) -> None:
    teams = next(set(enum.labels) for enum in graph.enums if enum.name == "Team")
    found = rows("inbox", split)
    assert len(found) == SIZES[split]
    for inbox in found:
        assert set(inbox) == {"messages", "place", "team", "teams"}
        assert 2 <= len(inbox["messages"]) == len(set(inbox["messages"])) <= 4
        assert all(0 < len(message) < 160 for message in inbox["messages"])
        assert 0 <= inbox["place"] < len(inbox["messages"])
        assert inbox["team"] in teams


@pytest.mark.parametrize("split", SPLITS)
def test_places_and_teams_are_about_equally_frequent(split: str) -> None:
    found = rows("inbox", split)
    assert set(Counter(inbox["place"] for inbox in found).values()) == {SIZES[split] // 4}
    assert max(Counter(inbox["team"] for inbox in found).values()) <= SIZES[split] / 3 + 4


@pytest.mark.parametrize("alike", [normal, load("inbox", "make_data.py").letters])
def test_no_message_stands_in_two_splits(alike: Any) -> None:
    texts = {
        split: {alike(message) for inbox in rows("inbox", split) for message in inbox["messages"]} for split in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        assert not texts[one] & texts[other]


def test_a_message_before_the_place_is_never_a_customers_elsewhere() -> None:
    inboxes = [inbox for split in SPLITS for inbox in rows("inbox", split)]
    spam = {message for inbox in inboxes for message in inbox["messages"][: inbox["place"]]}
    customers = {inbox["messages"][inbox["place"]]: inbox["team"] for inbox in inboxes}
    assert not spam & set(customers)
    assert all(customers[inbox["messages"][inbox["place"]]] == inbox["team"] for inbox in inboxes)


@pytest.mark.parametrize(
    ("kinds", "place", "calls"),
    [("c", 0, 2), ("sc", 1, 3), ("sscs", 2, 4), ("sssc", 3, 5), ("ssss", None, 4), ("ss", None, 2)],
)
def test_the_rounds_follow_from_the_answers(kinds: str, place: int | None, calls: int) -> None:
    kind = {"c": "customer", "s": "spam"}
    stubs = {
        "Screen": lambda inputs: {"kind": kind[inputs["message"][0]]},
        "Route": lambda inputs: {"team": "cards"},
    }
    program = lmgraph.compile_file(PROGRAMS / "inbox" / "program.lmg")
    messages = [f"{letter} {number}" for number, letter in enumerate(kinds)]
    trace = lmgraph.Runtime().run_sync(program, {"messages": messages}, options=lmgraph.RunOptions(stubs=stubs))
    assert trace.require() == {"place": place, "team": None if place is None else "cards"}
    assert len(trace.steps) == calls


def test_making_the_inboxes_is_repeatable_and_leaves_out_a_message_with_two_labels() -> None:
    make_data = load("inbox", "make_data.py")

    def line(text: str, label: str) -> str:
        return json.dumps({"input": text, "label": label})

    intents = [intent for team in make_data.TEAMS.values() for intent in team]
    words = ["".join("abcdefghij"[int(digit)] for digit in str(number)) for number in range(120)]
    bank = [line(f"{word} of {intent}", intent) for intent in intents for word in words[:40]]
    sms = [line(f"win {word} 0800", "spam") for word in words] + [line("see you later", "ham")]
    odd = [line("both", "card_arrival"), line("both", "top_up_limits"), line("not used", "exchange_rate")]
    inboxes = make_data.make([*bank, *odd], [*sms, line("win a! 0900", "spam"), line("long " * 40, "spam")])
    assert inboxes == make_data.make([*reversed(odd), *reversed(bank)], list(reversed(sms)))
    messages = {message for split in SPLITS for inbox in inboxes[split] for message in inbox["messages"]}
    assert not messages & {"both", "not used", "see you later"}
    assert max(map(len, messages)) < 160


@pytest.mark.parametrize("split", SPLITS)
def test_every_message_has_its_team_or_none(split: str) -> None:
    for inbox in rows("inbox", split):
        teams, place = inbox["teams"], inbox["place"]
        assert len(teams) == len(inbox["messages"])
        assert teams[:place] == [None] * place
        assert teams[place] == inbox["team"]


def test_the_share_counts_places_with_the_right_team_and_rightly_with_none() -> None:
    share = load("inbox", "metrics.py").share_right
    gold = SimpleNamespace(teams=[None, "cards", "top_up", None])
    assert share(gold, SimpleNamespace(teams=[None, "cards", "cards", None])) == 0.75
    assert share(gold, SimpleNamespace(teams=["cards", None, "cards", "top_up"])) == 0.0


def test_every_message_is_screened_and_only_customers_are_routed() -> None:
    graph = compile_path(PROGRAMS / "inbox" / "every.lmg").graph
    assert graph is not None
    assert graph.entry == "SortAll"
    assert set(graph.modules_of("SortAll")) == {"Screen", "Route"}
