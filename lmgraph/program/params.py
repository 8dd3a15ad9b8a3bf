"""Params: what optimizers write. Keyed by module name, guarded by fingerprints of the module they were made for.

A Params is to a Graph what a state_dict is to a network. Nothing here knows how values are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.program.fingerprints import Fingerprints, digest, fingerprints


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
    temperature: float | None = None
    """None: the author's."""
    reasons: bool | None = None
    """Whether the model writes its reasoning first (`cot`) or not (`predict`); None: as the author says."""
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    """Of the module as it was when these were learned; of the graph's, where nothing was."""


@dataclass(frozen=True, slots=True)
class Params:
    modules: Mapping[str, NodeParams]
    adapters: Mapping[str, AdapterRef] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    """Bounds of loops and numbers of retrievals in place of the author's, by names such as `Search.hop.bound`: at least
    1, and at most what the author says (graph/counts.py)."""

    @staticmethod
    def default(graph: Graph) -> Params:
        """The author's own values."""
        current = fingerprints(graph)
        return Params(
            {module.name: NodeParams(module.instruction, fingerprints=current[module.name]) for module in graph.modules}
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
        return replace(self, modules=changed, adapters={key: adapter for key, adapter in known.items() if key in used})

    def with_count(self, name: str, value: int) -> Params:
        """A copy with one of the counts."""
        return replace(self, counts={**self.counts, name: value})


def as_learned(module: ModuleSpec, params: NodeParams) -> ModuleSpec:
    """The module with the settings that its parameters hold in place of the author's."""
    if params.temperature is None and params.reasons is None:
        return module
    return replace(
        module,
        temperature=module.temperature if params.temperature is None else params.temperature,
        reasons=module.reasons if params.reasons is None else params.reasons,
    )


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
            "fingerprints": {**asdict(node.fingerprints), "data": list(node.fingerprints.data)},
            **{name: value for name, value in _settings(node).items() if value is not None},
        }
    adapters = {key: {**asdict(ref), "folder": ref.folder.as_posix()} for key, ref in sorted(params.adapters.items())}
    counts = {"counts": dict(sorted(params.counts.items()))} if params.counts else {}
    return {"modules": modules, "adapters": adapters, **counts}


def _settings(node: NodeParams) -> dict[str, Any]:
    return {"temperature": node.temperature, "reasons": node.reasons}


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
            temperature=None if node.get("temperature") is None else float(node["temperature"]),
            reasons=None if node.get("reasons") is None else bool(node["reasons"]),
            fingerprints=_read_fingerprints(node["fingerprints"]),
        )
        for name, node in data["modules"].items()
    }
    adapters = {
        key: AdapterRef(
            str(ref["name"]), int(ref["version"]), Path(ref["folder"]), str(ref["base_model"]), str(ref["sha256"])
        )
        for key, ref in data["adapters"].items()
    }
    return Params(modules, adapters, {str(name): int(value) for name, value in data.get("counts", {}).items()})


def params_hash(params: Params) -> str:
    """sha256 in hex over everything that changes behaviour; where adapter files lie does not take part, and
    fingerprints, which tell what the values were learned for, do not either."""
    data = to_data(params)
    for ref in data["adapters"].values():
        del ref["folder"]
    for node in data["modules"].values():
        del node["fingerprints"]
    return digest(data)


def stamped(before: Params, after: Params, graph: Graph, data: str) -> Params:
    """``after``, in which what is not as in ``before`` was learned now: for the modules of ``graph``, on rows of the
    hash ``data``. What did not change keeps its fingerprints."""
    current = fingerprints(graph)
    modules = {}
    for name, node in after.modules.items():
        old = before.modules[name]
        if learned_values(before, name) != learned_values(after, name):
            rows = tuple(dict.fromkeys((*old.fingerprints.data, data)))
            node = replace(node, fingerprints=replace(current[name], data=rows))
        modules[name] = node
    return replace(after, modules=modules)


def learned_values(params: Params, module: str) -> tuple[Any, ...]:
    """What an optimizer may have written: instruction, descriptions, demos, settings, the adapter by its weights."""
    node = params.modules[module]
    ref = None if node.adapter is None else params.adapters[node.adapter]
    settings = tuple(_settings(node).values())
    return node.instruction, dict(node.descriptions), node.demos, settings, ref and (ref.base_model, ref.sha256)


def _read_fingerprints(data: Mapping[str, Any]) -> Fingerprints:
    return Fingerprints(
        str(data["interface"]),
        str(data["behaviour"]),
        str(data["lm"]),
        {str(flow): str(one) for flow, one in data["graph"].items()},
        tuple(str(one) for one in data["data"]),
    )
