"""What looking at a program's labels finds: leaks, releases, and who is given private values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmgraph.graph.labels import Shape, Taint
from lmgraph.graph.nodes import NodeId, ReleaseNode

IN, OUT = "in.", "out."
"""Before the names of inputs and outputs in `InformationFlow.private`; `out.` alone is a result without a name."""

LeakKind = Literal["lm", "judge", "extern", "output", "demos"]


@dataclass(frozen=True, slots=True)
class Leak:
    """A private value at a place that may not see it."""

    kind: LeakKind
    """`lm`, `judge`: a module is given it, in a flow or in a metric. `extern`: a tool or retriever is. `output`: a
    public model writes it. `demos`: rows that hold it may become demos of a public model's prompt."""
    node: NodeId | str
    """The call; of `demos` the objective."""
    target: str
    """The module or extern."""
    field: str | None
    """Its input or output. None: no value, but what decides that the call is made is private."""
    taint: Taint
    lm: str | None = None
    """The public LM."""


@dataclass(frozen=True, slots=True)
class Given:
    """Private values that something may see."""

    kind: Literal["module", "fn", "retriever", "tool"]
    name: str
    lm: str | None
    fields: tuple[str, ...]


@dataclass(slots=True)
class Found:
    gives_public: set[str] = field(default_factory=set)
    """Modules whose LM may see private values, and whose outputs are public where their inputs are."""
    _leaks: dict[tuple[object, ...], Leak] = field(default_factory=dict)
    _releases: dict[NodeId, tuple[ReleaseNode, Taint | None]] = field(default_factory=dict)
    _given: dict[tuple[str, str, str | None], dict[str, None]] = field(default_factory=dict)
    _private: dict[str, set[str]] = field(default_factory=dict)

    def leak(self, leak: Leak) -> None:
        """The first way to each place is kept. What a public model writes is told once a module."""
        where = "" if leak.kind == "output" else leak.node
        self._leaks.setdefault((leak.kind, where, leak.target, leak.field), leak)

    def release(self, node: ReleaseNode, taint: Taint | None) -> None:
        known = self._releases.get(node.id)
        self._releases[node.id] = (node, taint if known is None or known[1] is None else known[1])

    def received(
        self,
        kind: Literal["module", "fn", "retriever", "tool"],
        name: str,
        arguments: Mapping[str, Shape],
        lm: str | None,
    ) -> None:
        for one, shape in arguments.items():
            if shape.any() is not None:
                self._given.setdefault((kind, name, lm), {})[one] = None

    def held(self, owner: str, side: str, shapes: Mapping[str, Shape]) -> None:
        """Notes which inputs or outputs of a declaration have something private in them."""
        names = {side + name for name, shape in shapes.items() if shape.any() is not None}
        if names:
            self._private.setdefault(owner, set()).update(names)

    @property
    def private(self) -> dict[str, list[str]]:
        return {owner: sorted(names) for owner, names in sorted(self._private.items())}

    @property
    def leaks(self) -> tuple[Leak, ...]:
        return tuple(self._leaks.values())

    @property
    def releases(self) -> tuple[tuple[ReleaseNode, Taint | None], ...]:
        """Each release, with the way of what it releases; None where that is public."""
        return tuple(self._releases.values())

    @property
    def given(self) -> tuple[Given, ...]:
        found = [
            Given(kind, name, lm, tuple(fields))  # type: ignore[arg-type]
            for (kind, name, lm), fields in self._given.items()
        ]
        return tuple(sorted(found, key=lambda one: (one.kind, one.name, one.lm or "")))
