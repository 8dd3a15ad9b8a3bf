"""programs/spam: it compiles, its rows are valid, half of each split is spam, no message stands in two splits."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from lmgraph.compiler.compile import compile_path
from programs.reading import PROGRAMS, SPLITS, load, normal, rows

SIZES = {"train": 360, "dev": 100, "test": 400}


@pytest.fixture(scope="module")
def graph() -> Any:
    return compile_path(PROGRAMS / "spam" / "program.lmg").graph


def test_it_has_one_module_and_one_flow(graph: Any) -> None:
    assert [module.name for module in graph.modules] == ["Screen"]
    assert graph.entry == "Sift"
    assert graph.enums[0].labels == ("ham", "spam")


def test_the_objective_is_exact_match_from_zero_to_one(graph: Any) -> None:
    objective = graph.objective("accuracy")
    assert objective.metrics == ("exact",)
    assert (objective.low, objective.high) == (0.0, 1.0)
    assert {knob for _, knob in objective.knobs} == {"instruction", "demos", "weights"}


@pytest.mark.parametrize("split", SPLITS)
def test_rows_have_the_fields_of_the_record_and_half_are_spam(split: str) -> None:
    found = rows("spam", split)
    assert all(set(row) == {"text", "kind"} and 0 < len(row["text"]) <= 300 for row in found)
    assert Counter(row["kind"] for row in found) == {"ham": SIZES[split] // 2, "spam": SIZES[split] // 2}


@pytest.mark.parametrize("alike", [normal, load("spam", "make_data.py").letters])
def test_no_message_stands_in_two_splits(alike: Any) -> None:
    texts = {split: {alike(row["text"]) for row in rows("spam", split)} for split in SPLITS}
    assert all(len(texts[split]) == SIZES[split] for split in SPLITS)
    for one, other in combinations(SPLITS, 2):
        assert not texts[one] & texts[other]


def line(text: str, label: str) -> str:
    return json.dumps({"input": text, "label": label})


def word(number: int) -> str:
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def test_making_the_data_drops_repeats_and_is_repeatable(tmp_path: Path) -> None:
    make_data = load("spam", "make_data.py")
    lines = [line(f"Say {word(n)}", "ham" if n % 3 else "spam") for n in range(1400)]
    first = make_data.unique_rows(lines)
    assert len(first) == 1400
    long = line("much " * 70, "ham")
    assert make_data.unique_rows([*reversed(lines), long, line("123", "spam")]) == first
    assert make_data.unique_rows([*lines, line("say  BC 0800!", "spam")]) == first
    other_label = make_data.unique_rows([*lines, line("say  BC 0800!", "ham")])
    assert other_label == [row for row in first if row["text"] != "Say bc"]
    make_data.write(make_data.split(first), tmp_path / "data")
    again = make_data.split(first)
    for split in SPLITS:
        text = (tmp_path / "data" / f"{split}.jsonl").read_text(encoding="utf-8")
        assert [json.loads(row) for row in text.splitlines()] == again[split]


def test_too_few_messages_are_said() -> None:
    make_data = load("spam", "make_data.py")
    with pytest.raises(SystemExit, match="430 different messages of ham are needed, there are 1"):
        make_data.split([{"text": "a", "kind": "ham"}])
