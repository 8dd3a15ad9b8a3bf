"""Names of a block over those of the blocks around it. A new name copies nothing, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

_Value = TypeVar("_Value")


class Layers(Mapping[str, _Value]):
    """What names mean in a block: its own names, then those of ``outer``. Names can be added, to its own."""

    __slots__ = ("outer", "own")

    def __init__(self, own: dict[str, _Value], outer: Mapping[str, _Value]) -> None:
        self.own = own
        self.outer = outer

    def __setitem__(self, name: str, value: _Value) -> None:
        self.own[name] = value

    def __getitem__(self, name: str) -> _Value:
        layer: Layers[_Value] = self
        while name not in layer.own:
            if not isinstance(layer.outer, Layers):
                return layer.outer[name]
            layer = layer.outer
        return layer.own[name]

    def __contains__(self, name: object) -> bool:
        layer: Mapping[str, _Value] = self
        while isinstance(layer, Layers):
            if name in layer.own:
                return True
            layer = layer.outer
        return name in layer

    def __iter__(self) -> Iterator[str]:
        """Outer names first, each once."""
        yield from self.outer
        yield from (name for name in self.own if name not in self.outer)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def names_above(inner: Mapping[str, _Value], outer: Mapping[str, _Value]) -> dict[str, _Value]:
    """The names of the layers of ``inner`` that lie over ``outer``."""
    layers: list[dict[str, _Value]] = []
    while inner is not outer and isinstance(inner, Layers):
        layers.append(inner.own)
        inner = inner.outer
    found: dict[str, _Value] = {}
    for own in reversed(layers):
        found |= own
    return found
