"""programs/intent: it compiles, its rows are valid, no text stands in two splits."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_path
from programs.reading import PROGRAMS, SPLITS, load, normal, rows

SIZES = {"train": 600, "dev": 150, "test": 400}


@pytest.fixture(scope="module")
def graph() -> Any:
    return compile_path(PROGRAMS / "intent" / "program.lmg").graph


def test_it_has_one_module_and_one_flow(graph: Any) -> None:
    assert [module.name for module in graph.modules] == ["Classify"]
    assert [flow.name for flow in graph.flows] == ["Recognise"]
    assert graph.entry == "Recognise"
    assert graph.module("Classify").lm == "default"


def test_the_objective_is_exact_match_from_zero_to_one(graph: Any) -> None:
    objective = graph.objective("accuracy")
    assert objective.metrics == ("exact",)
    assert (objective.low, objective.high) == (0.0, 1.0)
    assert {knob for _, knob in objective.knobs} == {"instruction", "demos", "weights"}


@pytest.mark.parametrize("split", SPLITS)
def test_rows_have_the_fields_and_labels_of_the_record(graph: Any, split: str) -> None:
    labels = set(graph.enums[0].labels)
    found = rows("intent", split)
    assert len(found) == SIZES[split]
    assert all(set(row) == {"text", "intent"} and row["text"] for row in found)
    assert {row["intent"] for row in found} == labels


def test_no_text_stands_in_two_splits() -> None:
    texts = {split: {normal(row["text"]) for row in rows("intent", split)} for split in SPLITS}
    assert all(len(texts[split]) == SIZES[split] for split in SPLITS)
    for one, other in combinations(SPLITS, 2):
        assert not texts[one] & texts[other]


@pytest.mark.parametrize("split", SPLITS)
def test_no_label_is_much_more_frequent_than_another(split: str) -> None:
    counts = Counter(row["intent"] for row in rows("intent", split))
    assert max(counts.values()) / min(counts.values()) < 1.2


def test_the_dataset_names_a_file_for_every_split(graph: Any) -> None:
    dataset = graph.dataset("requests")
    paths = {split.name: split.path for split in dataset.splits}
    assert paths == {split: f"data/{split}.jsonl" for split in SPLITS}
    assert all((PROGRAMS / "intent" / path).is_file() for path in paths.values() if path)


def test_making_the_data_drops_repeats_and_is_repeatable(tmp_path: Path) -> None:
    make_data = load("intent", "make_data.py")
    lines = [json.dumps({"input": f"Say number {n}", "label": "ab"[n % 2]}) for n in range(1200)]
    first = make_data.unique_rows(lines)
    assert make_data.unique_rows([*lines, json.dumps({"input": "say  NUMBER 7!", "label": "a"})]) == first
    make_data.write(make_data.split(first), tmp_path / "data")
    again = make_data.split(first)
    for split in SPLITS:
        text = (tmp_path / "data" / f"{split}.jsonl").read_text(encoding="utf-8")
        assert [json.loads(line) for line in text.splitlines()] == again[split]
