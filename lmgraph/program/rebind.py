"""Learned parameters on a changed program: which modules they still fit, all or nothing.

A module is known by its name; `moved Old -> New` says that it was renamed. Parameters load where the interface is the
same. Where the author changed what is around them they are stale, which is told and no obstacle. An adapter loads on
the model it was trained on only, and nothing that was learned for an LM with clearance for private values on one
without. A count that is gone, or that the author has made smaller than what was chosen, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lmgraph.errors import GraphMismatch
from lmgraph.graph.counts import counts_of
from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.program import refusals
from lmgraph.program.fingerprints import (
    Fingerprints,
    fingerprints,
    graph_hashes,
    interface_hash,
    lm_hash,
    lm_of,
    model_name,
)
from lmgraph.program.params import NodeParams, Params
from lmgraph.program.positions import positions
from lmgraph.program.program import Program
from lmgraph.program.refusals import Problem


@dataclass(frozen=True, slots=True)
class Rebound:
    """What came of learned parameters on a program."""

    params: Params | None
    """None where one module does not fit: then nothing loads."""
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    """What else a person should know: modules that are new, renamed, or sit otherwise."""

    def require(self) -> Params:
        """The parameters. Raises: GraphMismatch with everything that does not fit."""
        if self.params is not None:
            return self.params
        errors = [one for one in self.problems if one.is_error]
        lines = [f"  {one.code}: {one.message} ({'; '.join(one.notes)})" for one in errors]
        raise GraphMismatch(
            "\n".join(["The learned parameters do not fit the program, so none of them is loaded:", *lines]),
            hint="; ".join(dict.fromkeys(one.help for one in errors if one.help)),
        )


def rebind(learned: Program, graph: Graph) -> Rebound:
    """The parameters of ``learned`` for the modules of ``graph``."""
    rebinding = _Rebinding(learned, graph)
    modules = {module.name: rebinding.module(module) for module in graph.modules}
    rebinding.orphans()
    counts = dict(rebinding.counts())
    problems, notes = tuple(rebinding.problems), tuple(rebinding.notes)
    if any(one.is_error for one in problems):
        return Rebound(None, problems, notes)
    used = {params.adapter for params in modules.values()}
    adapters = {key: ref for key, ref in learned.params.adapters.items() if key in used}
    return Rebound(Params(modules, adapters, counts), problems, notes)


class _Rebinding:
    """One artifact's parameters on their way to one graph."""

    def __init__(self, learned: Program, graph: Graph) -> None:
        self._learned, self._old_graph, self._graph = learned.params, learned.graph, graph
        self._old = {module.name: module for module in learned.graph.modules}
        self._sources = dict(self._find_sources())
        self._current = fingerprints(graph)
        # Modules go by the names that they were learned under, so that a renamed neighbour is the same neighbour.
        self._positions = positions(graph, {new: old for new, old in self._sources.items() if new != old})
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def _find_sources(self) -> Iterator[tuple[str, str]]:
        """(module of the graph, module whose parameters it takes) of all but the new ones."""
        moved: dict[str, list[str]] = {}
        for one in self._graph.moved:
            moved.setdefault(one.new, []).append(one.old)
        for module in self._graph.modules:
            if module.name in self._old:
                yield module.name, module.name
                continue
            declared = module.derived_from or module.name
            olds = [old + module.name[len(declared) :] for old in moved.get(declared, ())]
            there = [old for old in olds if old in self._old]
            if there:
                yield module.name, next((old for old in there if self._is_learned(old)), there[0])

    def module(self, new: ModuleSpec) -> NodeParams:
        """The parameters of one module; what does not fit goes to ``problems``."""
        current = self._current[new.name]
        source = self._sources.get(new.name)
        if source is None:
            self.notes.append(f"`{new.name}` is new: it starts from what its author wrote")
            return NodeParams(new.instruction, fingerprints=current)
        params, old = self._learned.modules[source], self._old[source]
        if source != new.name:
            self.notes.append(f"`{new.name}` has the parameters of `{source}`")
        if params.fingerprints.interface != current.interface:
            self._add(refusals.interface(old, new))
            return params
        if not self._is_learned(source):
            return replace(params, instruction=new.instruction, fingerprints=current)
        # An instruction that nobody learned stays the author's, who may have changed it since.
        instruction = new.instruction if params.instruction == old.instruction else params.instruction
        return replace(params, instruction=instruction, fingerprints=self._kept(old, new, params))

    def _kept(self, old: ModuleSpec, new: ModuleSpec, params: NodeParams) -> Fingerprints:
        """The fingerprints that learned parameters keep: stale ones stay, so that they are told again."""
        was, current = params.fingerprints, self._current[new.name]
        if was.behaviour != current.behaviour:
            self._add(refusals.reworded(old, new))
        elif _order(old) != _order(new):
            self.notes.append(f"the fields of `{new.name}` are in another order than when its parameters were learned")
        return replace(was, lm=self._kept_lm(old, new, params), graph=self._kept_graph(new, was.graph))

    def _kept_lm(self, old: ModuleSpec, new: ModuleSpec, params: NodeParams) -> str:
        before, now = lm_of(self._old_graph, old), lm_of(self._graph, new)
        was, current = params.fingerprints.lm, self._current[new.name].lm
        base = None if params.adapter is None else self._learned.adapters[params.adapter].base_model
        if before.clearance == "private" and now.clearance == "public":
            self._add(refusals.clearance(new.name, before, now))
        if base is not None and before.model and now.model and now.model not in (before.model, base):
            self._add(refusals.adapter(new.name, base, now))
        elif was != current and now.model != base and (was != lm_hash(before) or model_name(before) != model_name(now)):
            self._add(refusals.other_model(new.name, before, now))
            return was
        return current

    def _kept_graph(self, new: ModuleSpec, was: Mapping[str, str]) -> Mapping[str, str]:
        sites = graph_hashes(self._positions.get(new.name, {}))
        elsewhere = {flow: one for flow, one in was.items() if flow in sites and sites[flow] != one}
        for flow in sorted(elsewhere):
            self.notes.append(f"`{new.name}` sits otherwise in `{flow}` than when its parameters were learned")
        return {**self._current[new.name].graph, **elsewhere}

    def orphans(self) -> None:
        """Learned parameters that no module takes: refused where a new module may be the one that they are of."""
        fresh = [module for module in self._graph.modules if module.name not in self._sources]
        declared = [module.name for module in fresh if module.derived_from is None]
        moved = {one.old: one.new for one in self._graph.moved}
        taken = set(self._sources.values())
        for name, old in self._old.items():
            if name in taken or not self._is_learned(name):
                continue
            of = old.derived_from or name
            if of in taken:
                continue  # of another strategy now, which has another interface: that was refused
            if of in moved:
                self._add(refusals.taken(of, moved[of], self._sources[moved[of]]))
            else:
                same = [one for one in fresh if interface_hash(one) == interface_hash(old)]
                self._add(refusals.orphan(of, [one.derived_from or one.name for one in same], declared))

    def counts(self) -> Iterator[tuple[str, int]]:
        """The counts that the program still has and still lets be as large."""
        known, before = counts_of(self._graph), counts_of(self._old_graph)
        for name, value in self._learned.counts.items():
            now = known.get(name)
            if now is None or value > now.most:
                self._add(refusals.count(name, value, now))
                continue
            if name in before and before[name].most != now.most:
                self.notes.append(
                    f"`{name}` was chosen as {value} of at most {before[name].most}, which is {now.most} now"
                )
            yield name, value

    def _add(self, problem: Problem) -> None:
        if problem not in self.problems:  # of a module and of the parts that its strategy makes
            self.problems.append(problem)

    def _is_learned(self, name: str) -> bool:
        params, module = self._learned.modules[name], self._old[name]
        changed = params.instruction != module.instruction or bool(params.descriptions)
        return changed or bool(params.demos) or params.adapter is not None


def _order(module: ModuleSpec) -> list[str]:
    return [field.name for field in (*module.inputs, *module.outputs)]
