"""Did you mean."""

from __future__ import annotations

import pytest

from lmgraph.source.suggest import did_you_mean, distance, suggest


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "acb", 1),
        ("abc", "ab", 1),
        ("ab", "abc", 1),
        ("abc", "axc", 1),
        ("ca", "abc", 3),
        ("kitten", "sitting", 3),
        ("retrun", "return", 1),
        ("abcdef", "ghijkl", 6),
    ],
)
def test_distance(left: str, right: str, expected: int) -> None:
    assert distance(left, right, 10) == expected
    assert distance(right, left, 10) == expected


def test_distance_gives_up_above_its_limit() -> None:
    assert distance("abcdefgh", "zzzzzzzz", 2) == 3


def test_the_closest_come_first_and_at_most_three() -> None:
    assert suggest("claim", ["claims", "clam", "claim_", "climb", "other"]) == ["claim_", "claims", "clam"]
    assert suggest("claim", ["claims"], limit=0) == []


def test_case_counts_for_little() -> None:
    assert suggest("judge", ["Judge", "nudge"]) == ["Judge", "nudge"]


def test_nothing_close() -> None:
    assert suggest("x", ["y", "abc"]) == []
    assert suggest("text", ["banana"]) == []
    assert suggest("same", ["same"]) == []


def test_words() -> None:
    assert did_you_mean("clam", ["claim"]) == "did you mean `claim`?"
    assert did_you_mean("note", ["notes", "nota"]) == "did you mean `nota` or `notes`?"
    assert did_you_mean("zzz", ["notes"]) is None
