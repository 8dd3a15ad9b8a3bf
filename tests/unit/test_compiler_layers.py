"""Names of a block over those of the blocks around it."""

from __future__ import annotations

import pytest

from lmgraph.compiler.layers import Layers, names_above


def test_own_names_hide_outer_ones() -> None:
    outer = {"a": 1, "b": 2}
    inner = Layers({"b": 3}, outer)
    innermost = Layers[int]({}, inner)
    innermost["c"] = 4
    assert dict(innermost) == {"a": 1, "b": 3, "c": 4}
    assert list(innermost) == ["a", "b", "c"]
    assert len(innermost) == 3
    assert "c" not in inner
    assert "c" in innermost
    assert "d" not in innermost
    assert innermost.get("d") is None
    assert outer == {"a": 1, "b": 2}
    with pytest.raises(KeyError):
        innermost["d"]


def test_names_above_a_layer() -> None:
    base = Layers({"a": 1}, {})
    middle = Layers({"b": 2, "c": 2}, base)
    top = Layers({"c": 3}, middle)
    assert names_above(top, base) == {"b": 2, "c": 3}
    assert names_above(top, middle) == {"c": 3}
    assert names_above(base, base) == {}
