"""Params: what optimizers write. Keyed by module name, guarded by fingerprints of the module they were made for.

A Params is to a Graph what a state_dict is to a network. Nothing here knows how values are found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.types import Field, Type


@dataclass(frozen=True, slots=True)
class Demo:
    """One worked example shown in the prompt. ``outputs`` has the reasoning field where the strategy has one."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    origin: Literal["labelled", "bootstrapped", "given"] = "given"
    example: str | None = None
    """Id of the dataset row it comes from."""


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One immutable version of LoRA weights in PEFT form."""

    name: str
    version: int
    folder: Path
    """Where its files are; inside an artifact it is kept relative and resolved on load."""
    base_model: str
    """`Engine.model_id` it was trained on; another base refuses it."""
    sha256: str
    """Of the safetensors file."""

    @property
    def key(self) -> str:
        """What engines know it by: `shared@v12`."""
        return f"{self.name}@v{self.version}"


@dataclass(frozen=True, slots=True)
class NodeParams:
    """The parameters of one module."""

    instruction: str
    descriptions: Mapping[str, str] = field(default_factory=dict)
    """Field name to description, inputs and outputs; those not named are the author's."""
    demos: tuple[Demo, ...] = ()
    adapter: str | None = None
    """Key in ``Params.adapters``."""
    interface: str = ""
    """Fingerprint of the module's signature when these were made: must equal the graph's."""
    behaviour: str = ""
    """Fingerprint of the author's instruction, descriptions and strategy then: a difference is a warning."""


@dataclass(frozen=True, slots=True)
class Params:
    modules: Mapping[str, NodeParams]
    adapters: Mapping[str, AdapterRef] = field(default_factory=dict)

    @staticmethod
    def default(graph: Graph) -> Params:
        """The author's own values."""
        return Params(
            {
                module.name: NodeParams(
                    module.instruction, interface=interface_hash(module), behaviour=behaviour_hash(module)
                )
                for module in graph.modules
            }
        )

    def with_module(self, name: str, **changes: Any) -> Params:
        """A copy with fields of one module's parameters replaced."""
        return replace(self, modules={**self.modules, name: replace(self.modules[name], **changes)})

    def with_adapter(self, ref: AdapterRef, modules: tuple[str, ...]) -> Params:
        """A copy in which ``modules`` use ``ref``; adapters that no module uses any more are dropped."""
        changed = {
            name: replace(params, adapter=ref.key) if name in modules else params
            for name, params in self.modules.items()
        }
        known = {**self.adapters, ref.key: ref}
        used = {params.adapter for params in changed.values()}
        return Params(changed, {key: adapter for key, adapter in known.items() if key in used})


def to_data(params: Params) -> dict[str, Any]:
    """JSON-ready data."""
    modules = {}
    for name, node in sorted(params.modules.items()):
        modules[name] = {
            "instruction": node.instruction,
            "descriptions": dict(sorted(node.descriptions.items())),
            "demos": [
                {
                    "inputs": dict(demo.inputs),
                    "outputs": dict(demo.outputs),
                    "origin": demo.origin,
                    "example": demo.example,
                }
                for demo in node.demos
            ],
            "adapter": node.adapter,
            "interface": node.interface,
            "behaviour": node.behaviour,
        }
    adapters = {key: {**asdict(ref), "folder": ref.folder.as_posix()} for key, ref in sorted(params.adapters.items())}
    return {"modules": modules, "adapters": adapters}


def from_data(data: Mapping[str, Any]) -> Params:
    """Raises: KeyError, TypeError or ValueError on data of another shape."""
    modules = {
        name: NodeParams(
            instruction=str(node["instruction"]),
            descriptions={str(key): str(text) for key, text in node["descriptions"].items()},
            demos=tuple(
                Demo(dict(demo["inputs"]), dict(demo["outputs"]), demo["origin"], demo["example"])
                for demo in node["demos"]
            ),
            adapter=node["adapter"],
            interface=str(node["interface"]),
            behaviour=str(node["behaviour"]),
        )
        for name, node in data["modules"].items()
    }
    adapters = {
        key: AdapterRef(
            str(ref["name"]), int(ref["version"]), Path(ref["folder"]), str(ref["base_model"]), str(ref["sha256"])
        )
        for key, ref in data["adapters"].items()
    }
    return Params(modules, adapters)


def params_hash(params: Params) -> str:
    """sha256 in hex over everything that changes behaviour; where adapter files lie does not take part."""
    data = to_data(params)
    for ref in data["adapters"].values():
        del ref["folder"]
    return _digest(data)


def interface_hash(module: ModuleSpec) -> str:
    """Names, types and labels of inputs and outputs, in an order that does not depend on the author's."""
    sides = {"inputs": module.inputs, "outputs": module.outputs}
    return _digest({side: sorted(_interface(field) for field in fields) for side, fields in sides.items()})


def behaviour_hash(module: ModuleSpec) -> str:
    """What the author says of the step beside its interface: instruction, field descriptions, constraints and order,
    strategy with its settings, checks."""
    return _digest(
        {
            "instruction": module.instruction,
            "fields": [
                [field.name, field.description, field.constraint.text if field.constraint else None]
                for field in (*module.inputs, *module.outputs)
            ],
            "strategy": [
                module.strategy, module.reasons, module.samples, module.select, module.tools, module.max_steps
            ],
            "checks": [[check.message, check.required, repr(check.condition)] for check in module.checks],
        }
    )  # fmt: skip


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


def _digest(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
