"""What two programs have learned differently, module by module: instructions, descriptions, demos, adapters, and what
for: their fingerprints. Beside the modules, the counts of flows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lmgraph.program.fingerprints import KINDS
from lmgraph.program.interface import FieldChange, field_changes
from lmgraph.program.params import AdapterRef, Demo, NodeParams
from lmgraph.program.program import Program, graph_hash


@dataclass(frozen=True, slots=True)
class ModuleDifference:
    """One module in two programs."""

    module: str
    instruction: str | None
    """A unified diff, or None where both have the same."""
    descriptions: Mapping[str, tuple[str | None, str | None]]
    """(first, second) of every field whose learned description differs; None is the author's."""
    demos_added: tuple[Demo, ...]
    demos_removed: tuple[Demo, ...]
    demos_moved: bool
    """Whether both have the same demos in another order."""
    settings: Mapping[str, tuple[Any, Any]]
    """(first, second) of the `temperature` and of `reasons`, where they differ; None is the author's."""
    adapters: tuple[AdapterRef | None, AdapterRef | None] | None
    """(first, second), or None where the weights are the same."""
    fields: tuple[FieldChange, ...]
    """How inputs and outputs differ."""
    fingerprints: Mapping[str, tuple[Any, Any]]
    """(first, second) of those that differ: `interface`, `behaviour`, `lm`, `graph`, `data`."""

    @property
    def is_empty(self) -> bool:
        return not (
            self.instruction is not None
            or self.descriptions
            or self.demos_added
            or self.demos_removed
            or self.demos_moved
            or self.settings
            or self.adapters is not None
            or self.fingerprints
        )

    def to_data(self) -> dict[str, Any]:
        """JSON-ready."""
        adapters = self.adapters and [None if ref is None else _adapter_data(ref) for ref in self.adapters]
        return {
            "module": self.module,
            "instruction": self.instruction,
            "descriptions": {name: list(pair) for name, pair in self.descriptions.items()},
            "demos_added": [demo_data(demo) for demo in self.demos_added],
            "demos_removed": [demo_data(demo) for demo in self.demos_removed],
            "demos_moved": self.demos_moved,
            "settings": {name: list(pair) for name, pair in self.settings.items()},
            "adapters": adapters,
            "interface": "interface" in self.fingerprints,
            "fields": [asdict(change) for change in self.fields],
            "fingerprints": {name: list(pair) for name, pair in self.fingerprints.items()},
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """Two programs."""

    same_graph: bool
    modules: tuple[ModuleDifference, ...]
    """Modules that both have and that differ, in the order of the first program."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    counts: Mapping[str, tuple[int | None, int | None]]
    """(first, second) of the bounds of loops and the numbers of retrievals that differ; None is the author's."""

    @property
    def is_empty(self) -> bool:
        return self.same_graph and not (self.modules or self.only_first or self.only_second or self.counts)

    def to_data(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "same_graph": self.same_graph,
            "modules": [module.to_data() for module in self.modules],
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "counts": {name: list(pair) for name, pair in self.counts.items()},
        }


def difference(first: Program, second: Program, names: tuple[str, str] = ("first", "second")) -> Difference:
    """What ``second`` has that ``first`` has not, and the other way round. ``names`` head the diffs."""
    ours, theirs = first.params.modules, second.params.modules
    shared = [name for name in ours if name in theirs]
    compared = [_module(name, first, second, names) for name in shared]
    before, after = first.params.counts, second.params.counts
    return Difference(
        graph_hash(first.graph) == graph_hash(second.graph),
        tuple(one for one in compared if not one.is_empty),
        tuple(name for name in ours if name not in theirs),
        tuple(name for name in theirs if name not in ours),
        {
            name: (before.get(name), after.get(name))
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        },
    )


def instruction_diff(before: str, after: str, names: tuple[str, str] = ("author", "optimized")) -> str:
    """A unified diff, with a line of context."""
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="", n=1))


def demo_data(demo: Demo) -> dict[str, Any]:
    """JSON-ready."""
    return {"inputs": dict(demo.inputs), "outputs": dict(demo.outputs), "origin": demo.origin, "example": demo.example}


def _module(name: str, first: Program, second: Program, names: tuple[str, str]) -> ModuleDifference:
    one, other = first.params.modules[name], second.params.modules[name]
    changed = one.instruction != other.instruction
    fields = {*one.descriptions, *other.descriptions}
    added = tuple(demo for demo in other.demos if demo not in one.demos)
    removed = tuple(demo for demo in one.demos if demo not in other.demos)
    before, after = _adapter(first, one), _adapter(second, other)
    return ModuleDifference(
        name,
        instruction_diff(one.instruction, other.instruction, names) if changed else None,
        {
            field: (one.descriptions.get(field), other.descriptions.get(field))
            for field in sorted(fields)
            if one.descriptions.get(field) != other.descriptions.get(field)
        },
        added,
        removed,
        not added and not removed and one.demos != other.demos,
        {
            setting: (getattr(one, setting), getattr(other, setting))
            for setting in ("temperature", "reasons")
            if getattr(one, setting) != getattr(other, setting)
        },
        None if _weights(before) == _weights(after) else (before, after),
        field_changes(first.graph.module(name), second.graph.module(name)),
        {
            kind: (getattr(one.fingerprints, kind), getattr(other.fingerprints, kind))
            for kind in KINDS
            if getattr(one.fingerprints, kind) != getattr(other.fingerprints, kind)
        },
    )


def _adapter(program: Program, params: NodeParams) -> AdapterRef | None:
    return None if params.adapter is None else program.params.adapters[params.adapter]


def _weights(ref: AdapterRef | None) -> tuple[str, str] | None:
    """What makes two adapters the same: their weights, whatever they are called."""
    return None if ref is None else (ref.base_model, ref.sha256)


def _adapter_data(ref: AdapterRef) -> dict[str, Any]:
    return {"name": ref.name, "version": ref.version, "base_model": ref.base_model, "sha256": ref.sha256}
