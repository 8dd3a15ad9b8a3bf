"""programs/banking77: it compiles, its labels are known, its rows are valid, no text stands in two splits."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_path
from programs.reading import PROGRAMS, SPLITS, load, normal, rows

SIZES = {"train": 8416, "dev": 770, "test": 760}
LABELS = (PROGRAMS / "banking77" / "labels.txt").read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def graph() -> Any:
    return compile_path(PROGRAMS / "banking77" / "program.lmg").graph


def test_it_has_one_module_one_flow_and_77_labels(graph: Any) -> None:
    assert [module.name for module in graph.modules] == ["Classify"]
    assert graph.entry == "Route"
    assert graph.enums[0].labels == tuple(LABELS)
    assert len(set(LABELS)) == 77


def test_a_label_that_is_no_name_gets_one(graph: Any) -> None:
    names = {member.label: member.name for member in graph.enums[0].members}
    assert names["reverted_card_payment?"] == "reverted_card_payment"
    assert names["Refund_not_showing_up"] == "Refund_not_showing_up"


def test_the_objective_is_exact_match_from_zero_to_one(graph: Any) -> None:
    objective = graph.objective("accuracy")
    assert objective.metrics == ("exact",)
    assert (objective.low, objective.high) == (0.0, 1.0)


@pytest.mark.parametrize("split", SPLITS)
def test_rows_have_the_fields_and_labels_of_the_record(split: str) -> None:
    found = rows("banking77", split)
    assert len(found) == SIZES[split]
    assert all(set(row) == {"text", "intent"} and row["text"].strip() for row in found)
    assert {row["intent"] for row in found} == set(LABELS)


def test_no_text_stands_in_two_splits_or_twice_in_one() -> None:
    texts = {split: {normal(row["text"]) for row in rows("banking77", split)} for split in SPLITS}
    assert {split: len(found) for split, found in texts.items()} == SIZES
    for one, other in combinations(SPLITS, 2):
        assert not texts[one] & texts[other]


def test_dev_and_test_hold_about_ten_rows_of_every_label() -> None:
    assert set(Counter(row["intent"] for row in rows("banking77", "dev")).values()) == {10}
    assert min(Counter(row["intent"] for row in rows("banking77", "test")).values()) >= 7


def test_making_the_data_is_repeatable_and_drops_repeats_and_texts_with_two_labels(tmp_path: Path) -> None:
    make_data = load("banking77", "make_data.py")
    raw = [json.dumps({"input": f"Say number {n}", "label": "ab"[n % 2]}) for n in range(60)]
    more = [json.dumps({"input": "say  NUMBER 7!", "label": "b"}), json.dumps({"input": "Say number 8", "label": "b"})]
    splits = make_data.make(make_data.read(raw), make_data.read(more))
    assert splits == make_data.make(make_data.read(list(reversed(raw))), make_data.read(more))
    assert splits["test"] == [{"text": "say NUMBER 7!", "intent": "b"}]
    everywhere = [row["text"] for split in SPLITS for row in splits[split]]
    assert "Say number 7" not in everywhere
    assert "Say number 8" not in everywhere
    assert (len(splits["dev"]), len(splits["train"])) == (20, 38)
    make_data.write(splits, tmp_path / "data")
    text = (tmp_path / "data" / "train.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == splits["train"]


def test_ten_labels_have_their_rows() -> None:
    """data/ten is what make_ten.py cuts: rows of the whole program's splits, of ten labels."""
    graph = compile_path(PROGRAMS / "banking77" / "ten.lmg").require()
    (labels,) = (enum.labels for enum in graph.enums)
    assert set(labels) <= set(LABELS)
    for split, size in {"train": 300, "dev": 100, "test": 100}.items():
        cut = rows("banking77", f"ten/{split}")
        whole = {row["text"] for row in rows("banking77", split)}
        assert len(cut) == size
        assert Counter(row["intent"] for row in cut) == dict.fromkeys(labels, size // 10)
        assert all(row["text"] in whole for row in cut)
