"""Fingerprints: what a module was when its parameters were learned, as five hashes that are compared on loading.

A module is known by its name, and none of these is its identity. Each is over content and in an order of its own, so
layout, comments, the order of declarations and of fields, other modules, and the limits of loops change none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmgraph.graph.graph import Graph, LmSpec, ModuleSpec
from lmgraph.graph.types import Field, Type
from lmgraph.program.positions import Position, positions

KINDS = ("interface", "behaviour", "lm", "graph", "data")


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Of one module. Each is a sha256 in hex, or what holds some."""

    interface: str = ""
    """Names, closed types and labels of inputs and outputs. Parameters load where it is equal, and nowhere else."""
    behaviour: str = ""
    """The author's instruction, descriptions and strategy. Where it differs parameters are stale."""
    lm: str = ""
    """The model that the module is bound to, and its clearance. Where it differs parameters are stale; an adapter of
    another model is refused."""
    graph: Mapping[str, str] = field(default_factory=dict)
    """How the module's calls sit in each flow or metric that makes some: by its name."""
    data: tuple[str, ...] = ()
    """Of the rows that the parameters were tuned on, one for each set of rows, in the order of use."""


def fingerprints(graph: Graph) -> dict[str, Fingerprints]:
    """Of every module of the graph, by name, tuned on no data."""
    sites = positions(graph)
    return {
        module.name: Fingerprints(
            interface_hash(module),
            behaviour_hash(module),
            lm_hash(lm_of(graph, module)),
            graph_hashes(sites.get(module.name, {})),
        )
        for module in graph.modules
    }


def interface_hash(module: ModuleSpec) -> str:
    """Names, types and labels of inputs and outputs, in an order that does not depend on the author's."""
    sides = {"inputs": module.inputs, "outputs": module.outputs}
    return digest({side: sorted(_interface(field) for field in fields) for side, fields in sides.items()})


def behaviour_hash(module: ModuleSpec) -> str:
    """What the author says of the step beside its interface: instruction, descriptions and constraints of fields and
    of what their types are made of, strategy with its settings, checks."""
    return digest(
        {
            "instruction": module.instruction,
            "inputs": sorted(_said(field) for field in module.inputs),
            "outputs": sorted(_said(field) for field in module.outputs),
            "strategy": [
                module.strategy, module.reasons, module.samples, module.select, module.tools, module.max_steps
            ],
            "checks": [[check.message, check.required, repr(check.condition)] for check in module.checks],
        }
    )  # fmt: skip


def lm_hash(lm: LmSpec) -> str:
    """Model and clearance; which engine serves the model does not matter."""
    return digest([model_name(lm), lm.clearance])


def model_name(lm: LmSpec) -> str:
    """The model of an LM, in words where only running binds it."""
    return lm.model or f"what `{lm.name}` is bound to"


def lm_of(graph: Graph, module: ModuleSpec) -> LmSpec:
    """The LM that the module names; the default one need not be declared."""
    return next((lm for lm in graph.lms if lm.name == module.lm), LmSpec(module.lm))


def graph_hashes(sites: Mapping[str, Iterable[Position]]) -> dict[str, str]:
    """By flow, of where one module is called in it."""
    return {flow: digest(sorted(map(list, found))) for flow, found in sites.items()}


def data_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """Of a set of rows, in any order."""
    return digest(sorted(digest(dict(row)) for row in rows))


def _interface(field: Field) -> str:
    return f"{field.name}: {field.label} {closed_type(field.type)}"


def closed_type(type_: Type) -> str:
    """The type written out without declared names, so that renaming a record or enum changes nothing."""
    match type_.kind:
        case "enum":
            return "enum(" + ", ".join(sorted(json.dumps(label) for label in type_.labels)) + ")"
        case "record":
            return "record(" + ", ".join(sorted(_interface(field) for field in type_.fields)) + ")"
        case "list":
            return f"list[{closed_type(type_.element)}]"
        case "map":
            return f"map[str, {closed_type(type_.value)}]"
        case "optional":
            return f"{closed_type(type_.inner)}?"
        case "union":
            return "(" + " | ".join(closed_type(option) for option in type_.options) + ")"
        case "literal" | "scalar":
            return str(type_)


def _said(field: Field) -> str:
    """What the author says of the field, as JSON text."""
    constraint = field.constraint.text if field.constraint else None
    return json.dumps([field.name, field.description, constraint, _said_of_type(field.type)])


def _said_of_type(type_: Type) -> list[str]:
    """What the author says of the members and fields that the type is made of."""
    match type_.kind:
        case "enum":
            return sorted(json.dumps([member.label, member.description]) for member in type_.members)
        case "record":
            return sorted(_said(field) for field in type_.fields)
        case "list":
            return _said_of_type(type_.element)
        case "map":
            return _said_of_type(type_.value)
        case "optional":
            return _said_of_type(type_.inner)
        case "union":
            return [json.dumps(_said_of_type(option)) for option in type_.options]
        case "literal" | "scalar":
            return []


def digest(data: Any) -> str:
    """sha256 in hex of JSON-ready data."""
    text = json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
