"""programs/extract: it compiles, its rows are valid and follow from their texts, its metric and its rules are right."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from types import ModuleType
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_path
from lmgraph.program.values import as_record
from programs.reading import PROGRAMS, SPLITS, load, normal, rows

SIZES = {"train": 900, "dev": 150, "test": 143}


@pytest.fixture(scope="module")
def graph() -> Any:
    return compile_path(PROGRAMS / "extract" / "program.lmg").graph


@pytest.fixture(scope="module")
def make_data() -> ModuleType:
    return load("extract", "make_data.py")


def test_one_module_reads_and_two_are_routed_to(graph: Any) -> None:
    assert set(graph.modules_of("Handle")) == {"Read", "ReadRating", "ReadTable"}
    assert graph.entry == "Handle"


def test_the_objective_weighs_three_metrics(graph: Any) -> None:
    objective = graph.objective("understood")
    weights = dict(zip(objective.metrics, objective.weights, strict=True))
    assert weights == {"kind_right": 0.3, "numbers_right": 0.2, "details": 0.5}
    assert (objective.low, objective.high) == (0.0, 1.0)
    assert graph.metric("details").python == "metrics:details_right"


@pytest.mark.parametrize("split", SPLITS)
def test_rows_fit_the_record(split: str) -> None:
    found = rows("extract", split)
    assert len(found) == SIZES[split]
    for row in found:
        assert set(row) == {"text", "kind", "numbers", "rating", "people"}
        assert row["kind"] in ("rate", "book", "other")
        assert (row["rating"] is not None) == (row["kind"] == "rate")
        assert row["people"] is None or row["kind"] == "book"
        assert len(row["numbers"]) <= 4
        if row["rating"]:
            assert 0 <= row["rating"]["value"] <= 6
            assert row["rating"]["best"] in (None, 6)
            assert row["rating"]["unit"] in (None, "stars", "points")
            assert row["rating"]["value"] in row["numbers"]
        assert row["people"] is None or row["people"] in row["numbers"]


@pytest.mark.parametrize("split", SPLITS)
def test_every_kind_is_about_a_third(split: str) -> None:
    counts = Counter(row["kind"] for row in rows("extract", split))
    assert max(counts.values()) / min(counts.values()) < 1.2


def test_no_text_stands_in_two_splits() -> None:
    texts = {split: {normal(row["text"]) for row in rows("extract", split)} for split in SPLITS}
    assert {split: len(found) for split, found in texts.items()} == SIZES
    for one, other in combinations(SPLITS, 2):
        assert not texts[one] & texts[other]


@pytest.mark.parametrize("split", SPLITS)
def test_rows_follow_from_their_texts_by_the_rules(make_data: ModuleType, split: str) -> None:
    intents = {"rate": "RateBook", "book": "BookRestaurant", "other": "PlayMusic"}
    for row in rows("extract", split):
        assert make_data.read(json.dumps({"input": row["text"], "label": intents[row["kind"]]})) == row


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Give this novel four out of 6 stars", [4, 6]),
        ("rate it 3 / 6", [3, 6]),
        ("rate it 3/6 please", [3, 6]),
        ("Rate 1984 five stars", [1984, 5]),
        ("Play some jazz", []),
        ("a table for TWO at 9 PM", [2, 9]),
        ("Faerûn gets 2, no more", [2]),
    ],
)
def test_numbers_are_read(make_data: ModuleType, text: str, numbers: list[int]) -> None:
    assert make_data.read_numbers(text)[0] == numbers


@pytest.mark.parametrize(
    "text",
    [
        "on April 1st",
        "at 9:30",
        "4.5 stars",
        "twenty stars",
        "a dozen people",
        "the one by the sea",
        "one of the best",
        "10/14/2026",
        "90s music",
        "top-50 songs",
        "in 3 and a half years",
        "1 2 3 4 5",
    ],
)
def test_a_text_with_numbers_in_other_forms_is_left_out(make_data: ModuleType, text: str) -> None:
    assert make_data.read_numbers(text) is None


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Give this novel four out of 6 stars", (4, 6, "stars")),
        ("give three stars out of 6 to The Dune Encyclopedia", (3, 6, "stars")),
        ("Rate my current book 0 points", (0, None, "points")),
        ("rate The Stone Key a 5", (5, None, None)),
        ("Give this album a rating of 4.", (4, None, None)),
        ("rate it 3/6", (3, 6, None)),
        ("Give this 4 out of 5 stars", None),
        ("a rating of 2 and a best rating of 6", None),
        ("rate 1984 highly", None),
        ("rate this 9 points", None),
    ],
)
def test_a_rating_is_read_or_left_out(
    make_data: ModuleType, text: str, rating: tuple[int, int | None, str | None] | None
) -> None:
    found = make_data.read_rating(*make_data.read_numbers(text))
    assert (tuple(found.values()) if found else None) == rating


@pytest.mark.parametrize(
    ("text", "people"),
    [
        # As the authors of SNIPS annotate these: `party_size_number`.
        ("I'd like to eat at a taverna that serves chili con carne for a party of 10", 10),
        ("Please make a restaurant reservation for somewhere in Mondovi, Connecticut.", None),
        ("Find a table for 8 somewhere in Bonaire in 345 days", 8),
        ("Book a restaurant with parking facility for 3.", 3),
        ("please book a room in Spaghetti Warehouse for catalina, delores and brandie mendoza at 12 AM", None),
        ("I need a table for 1 at a highly rated restaurant next autumn in Emmons, RI", 1),
        ("book a spot in 1 second that is neighboring robin's hotel", None),
        ("patty and I need a table booked at a highly rated restaurant in Sandstone.", None),
        ("Make a reservation for four at a pub in Sugarville.", 4),
        ("Book a table for 10 people at Dunbrody Country House Hotel in Strandburg.", 10),
        ("Book a table in a Haines Borough restaurant for nine that is within walking distance.", 9),
        ("book midday at a faraway cuban place for five at a top-rated bakery in Grainola", 5),
        ("Book the Gus Stevens Seafood Restaurant & Buccaneer Lounge in Papua New Guinea for one person.", 1),
        ("I need a table for four at a pub in Heard Island and McDonald Islands", 4),
    ],
)
def test_people_are_read_as_the_authors_annotate_them(make_data: ModuleType, text: str, people: int | None) -> None:
    assert make_data.read_people(*make_data.read_numbers(text)) == (people,)


@pytest.mark.parametrize("text", ["a table at seven", "for 2 or for 3", "a table for 0", "table 5 in Rome for two"])
def test_a_table_whose_numbers_may_mean_something_else_is_left_out(make_data: ModuleType, text: str) -> None:
    assert make_data.read_people(*make_data.read_numbers(text)) is None


RATING = {"value": 4, "best": 6, "unit": "stars"}


@pytest.mark.parametrize(
    ("gold", "pred", "score"),
    [
        (("rate", RATING, None), ("rate", RATING, None), 1.0),
        (("rate", RATING, None), ("rate", {**RATING, "best": None}, None), 2 / 3),
        (("rate", RATING, None), ("rate", {"value": 1, "best": None, "unit": "points"}, None), 0.0),
        (("rate", {**RATING, "unit": None}, None), ("rate", {**RATING, "unit": None}, None), 1.0),
        (("rate", RATING, None), ("rate", None, None), 0.0),
        (("rate", RATING, None), ("book", None, 4), 0.0),
        (("book", None, 8), ("book", None, 8), 1.0),
        (("book", None, 8), ("book", None, 7), 0.0),
        (("book", None, 8), ("book", None, None), 0.0),
        (("book", None, None), ("book", None, None), 1.0),
        (("book", None, None), ("other", None, None), 0.0),
        (("other", None, None), ("other", None, None), 1.0),
        (("other", None, None), ("book", None, None), 0.0),
    ],
)
def test_details_right(gold: tuple[Any, ...], pred: tuple[Any, ...], score: float) -> None:
    details_right = load("extract", "metrics.py").details_right
    fields = ("kind", "rating", "people")
    wanted, got = (as_record(dict(zip(fields, values, strict=True))) for values in (gold, pred))
    assert details_right(wanted, got) == pytest.approx(score)


def test_making_the_data_is_repeatable_and_keeps_test_texts_apart(make_data: ModuleType) -> None:
    kinds = [("RateBook", "rate book {} a 5"), ("BookRestaurant", "table for 2 in {}"), ("GetWeather", "rain in {}?")]
    names = [f"Place {chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(80)]
    lines = [json.dumps({"input": text.format(name), "label": label}) for label, text in kinds for name in names]
    found = [make_data.read(line) for line in lines]
    test = [row for row in found if row["text"].endswith(("AA", "AA a 5", "AA?"))]
    splits = make_data.make(found, test)
    assert splits == make_data.make(list(reversed(found)), test)
    assert {split: len(splits[split]) for split in SPLITS} == {"train": 87, "dev": 150, "test": len(test)}
    texts = [row["text"] for split in SPLITS for row in splits[split]]
    assert len(set(texts)) == len(texts)
