"""Learned parameters on a changed program: which modules they still fit, all or nothing.

A module is known by its name; `moved Old -> New` says that it was renamed. Parameters load where the inputs and outputs
are the same. What the author changed around them (instruction, descriptions, strategy) makes them stale, which is told
and no obstacle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lmgraph.errors import GraphMismatch
from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.graph.types import Field
from lmgraph.program.params import NodeParams, Params, behaviour_hash, closed_type, interface_hash
from lmgraph.program.program import Program


@dataclass(frozen=True, slots=True)
class Rebound:
    params: Params
    notes: tuple[str, ...]
    """What a person should know: parameters that are stale, renamed, or new."""


def rebind(learned: Program, graph: Graph) -> Rebound:
    """The parameters of ``learned`` for the modules of ``graph``.

    Raises: GraphMismatch that names every module whose inputs or outputs changed, with the fields that differ, and
    every learned parameter that no module of the new program takes.
    """
    old = {module.name: module for module in learned.graph.modules}
    moved = {_derived(one.new, suffix): _derived(one.old, suffix) for one in graph.moved for suffix in ("", "step")}
    default = Params.default(graph).modules
    modules: dict[str, NodeParams] = {}
    notes: list[str] = []
    problems: list[str] = []
    taken: set[str] = set()
    for module in graph.modules:
        source = module.name if module.name in old else moved.get(module.name, module.name)
        if source not in old:
            modules[module.name] = default[module.name]
            notes.append(f"`{module.name}` is new: it starts from what its author wrote")
            continue
        taken.add(source)
        if source != module.name:
            notes.append(f"`{module.name}` has the parameters of `{source}`")
        params = learned.params.modules[source]
        if params.interface != interface_hash(module):
            problems.append(f"`{module.name}` changed: {', '.join(_differences(old[source], module))}")
            continue
        if params.behaviour != behaviour_hash(module) and _is_learned(params, old[source]):
            notes.append(f"`{module.name}` is stale: its author changed it after these parameters were learned")
        modules[module.name] = _carried(params, old[source], module)
    for name in old:
        if name not in taken and _is_learned(learned.params.modules[name], old[name]):
            problems.append(f"`{name}` is not in the program{_suggested(old[name], graph, old)}")
    if problems:
        raise GraphMismatch(
            f"The learned parameters do not fit the program: {'; '.join(problems)}.",
            hint="tune the changed program again, or say where a module went with `moved Old -> New`",
        )
    used = {params.adapter for params in modules.values()}
    adapters = {key: ref for key, ref in learned.params.adapters.items() if key in used}
    return Rebound(Params(modules, adapters), tuple(notes))


def _derived(name: str, suffix: str) -> str:
    return f"{name}.{suffix}" if suffix else name


def _carried(params: NodeParams, old: ModuleSpec, new: ModuleSpec) -> NodeParams:
    """An instruction that nobody learned stays the author's, who may have changed it since."""
    instruction = new.instruction if params.instruction == old.instruction else params.instruction
    return replace(params, instruction=instruction, interface=interface_hash(new), behaviour=behaviour_hash(new))


def _is_learned(params: NodeParams, module: ModuleSpec) -> bool:
    changed = params.instruction != module.instruction or bool(params.descriptions)
    return changed or bool(params.demos) or params.adapter is not None


def _differences(old: ModuleSpec, new: ModuleSpec) -> Iterator[str]:
    sides: list[tuple[str, Sequence[Field], Sequence[Field]]] = [
        ("input", old.inputs, new.inputs),
        ("output", old.outputs, new.outputs),
    ]
    for side, before, after in sides:
        known = {field.name: field for field in before}
        for field in after:
            if field.name not in known:
                yield f"{side} `{field.name}` is new"
            elif closed_type(known[field.name].type) != closed_type(field.type):
                yield f"{side} `{field.name}` was `{known[field.name].type}` and is `{field.type}`"
            elif known[field.name].label != field.label:
                yield f"{side} `{field.name}` was {known[field.name].label} and is {field.label}"
        names = {field.name for field in after}
        yield from (f"{side} `{field.name}` is gone" for field in before if field.name not in names)


def _suggested(orphan: ModuleSpec, graph: Graph, old: dict[str, ModuleSpec]) -> str:
    """Names a new module with the same interface, if there is just one."""
    same = [
        module.name
        for module in graph.modules
        if module.name not in old and interface_hash(module) == interface_hash(orphan)
    ]
    return f" (write `moved {orphan.name} -> {same[0]}`?)" if len(same) == 1 else ""
