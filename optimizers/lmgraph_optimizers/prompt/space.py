"""What is searched over: for each module a list of instructions and one of demo sets, its settings, and the counts of
the flow; index 0 is the program's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmgraph.evaluate import Task
from lmgraph.graph import ModuleSpec
from lmgraph.optimize import Lab
from lmgraph.program import Demo, Program
from lmgraph_optimizers.demos.pools import Pools, pick
from lmgraph_optimizers.prompt.grounding import REASONING
from lmgraph_optimizers.prompt.rewrites import Instruction, same

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
MOST_BOUNDS = 8
"""Bounds of one loop that are tried, its own included."""
Choice = Mapping[str, int]
"""Index by `Module.instruction`, `Module.demos`, `Module.temperature`, `Module.strategy`, and by count, such as
`Flow.loop.bound`; what is not named is 0."""


@dataclass(frozen=True, slots=True)
class DemoSet:
    name: str
    demos: tuple[Demo, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of a module's `temperature`, or of `reasons`, which is its strategy: cot or predict."""

    module: str
    name: str
    value: float | bool | None
    """None: the module's own."""

    def __str__(self) -> str:
        shown = ("cot" if self.value else "predict") if self.name == "reasons" else f"temperature {self.value:g}"
        return f"{self.module}: {shown}"


def can_reason(module: ModuleSpec) -> bool:
    """Whether the strategy can be changed between `predict` and `cot`; the others are other graphs."""
    named = any(field.name == REASONING for field in module.outputs)
    return module.strategy in ("predict", "cot") and not named


@dataclass(slots=True)
class Space:
    """Lists grow at their ends only, so that an index keeps its meaning for the whole search."""

    program: Program
    instructions: dict[str, list[Instruction]] = field(default_factory=dict)
    """By module whose instruction may change."""
    demo_sets: dict[str, list[DemoSet]] = field(default_factory=dict)
    """By module whose demos may change."""
    settings: dict[str, list[Setting]] = field(default_factory=dict)
    """By knob, such as `M.temperature`, of modules whose author declared it."""
    counts: dict[str, list[int]] = field(default_factory=dict)
    """By name, of those that the author declared."""

    @staticmethod
    def of(program: Program, task: Task, modules: Sequence[str]) -> Space:
        """With the program's own texts alone, for those of ``modules`` that the objective lets change."""
        space = Space(program)
        for name in modules:
            params = program.params.modules[name]
            if task.allows(program, name, "instruction"):
                space.instructions[name] = [Instruction(params.instruction, "own")]
            if task.allows(program, name, "demos"):
                space.demo_sets[name] = [DemoSet("own", params.demos)]
            if task.allows(program, name, "temperature"):
                space._add_setting(name, "temperature", TEMPERATURES)
            if task.allows(program, name, "strategy") and can_reason(program.graph.module(name)):
                space._add_setting(name, "reasons", (False, True))
        for count in task.counts(program):
            own = program.params.counts.get(count.name, count.most)
            values = halves(count.most) if count.argument else bounds(count.most)
            space.counts[count.name] = [own, *(value for value in values if value != own)]
        return space

    @property
    def is_empty(self) -> bool:
        """Whether nothing may be changed."""
        return not (self.instructions or self.demo_sets or self.settings or self.counts)

    @property
    def modules(self) -> tuple[str, ...]:
        of_settings = [known[0].module for known in self.settings.values()]
        return tuple(dict.fromkeys([*self.instructions, *self.demo_sets, *of_settings]))

    def sizes(self) -> dict[str, int]:
        """Number of options of every knob that has more than one."""
        sizes = {f"{name}.instruction": len(options) for name, options in self.instructions.items()}
        sizes |= {f"{name}.demos": len(options) for name, options in self.demo_sets.items()}
        sizes |= {knob: len(options) for knob, options in self.settings.items()}
        sizes |= {count: len(options) for count, options in self.counts.items()}
        return {knob: size for knob, size in sizes.items() if size > 1}

    def _add_setting(self, module: str, name: str, values: Sequence[float | bool]) -> None:
        """The module's own value, then the ``values`` that are others."""
        params, spec = self.program.params.modules[module], self.program.graph.module(module)
        own = getattr(spec, name) if getattr(params, name) is None else getattr(params, name)
        if own is None:  # the temperature of its LM
            own = next((lm.temperature for lm in self.program.graph.lms if lm.name == spec.lm), None) or 0.0
        options = [Setting(module, name, value) for value in values if value != own]
        self.settings[f"{module}.{'strategy' if name == 'reasons' else name}"] = [Setting(module, name, None), *options]

    def add_instruction(self, module: str, instruction: Instruction, most: int) -> None:
        """Where there is room for it and nothing equal."""
        known = self.instructions[module]
        if len(known) < most and all(same(one.text) != same(instruction.text) for one in known):
            known.append(instruction)

    def add_demo_set(self, module: str, demo_set: DemoSet) -> None:
        """Where there is nothing equal."""
        known = self.demo_sets[module]
        if all(one.demos != demo_set.demos for one in known):
            known.append(demo_set)

    def applied(self, choice: Choice) -> Program:
        params = self.program.params
        for name, instructions in self.instructions.items():
            if index := choice.get(f"{name}.instruction", 0):
                params = params.with_module(name, instruction=instructions[index].text)
        for name, sets in self.demo_sets.items():
            if index := choice.get(f"{name}.demos", 0):
                params = params.with_module(name, demos=sets[index].demos)
        for knob, settings in self.settings.items():
            if index := choice.get(knob, 0):
                params = params.with_module(settings[index].module, **{settings[index].name: settings[index].value})
        for name, values in self.counts.items():
            if index := choice.get(name, 0):
                params = params.with_count(name, values[index])
        return self.program.with_params(params)

    def told(self, choice: Choice) -> str:
        """The choice in words."""
        parts = []
        for name in self.modules:
            index = choice.get(f"{name}.instruction", 0)
            if index:
                parts.append(f"{name}: {self.instructions[name][index].origin}")
            index = choice.get(f"{name}.demos", 0)
            if index:
                chosen = self.demo_sets[name][index]
                parts.append(f"{name}: {chosen.name} ({len(chosen.demos)} demos)")
        parts += [str(settings[choice.get(knob, 0)]) for knob, settings in self.settings.items() if choice.get(knob, 0)]
        parts += [f"{name} {values[choice[name]]}" for name, values in self.counts.items() if choice.get(name, 0)]
        return "; ".join(parts) or "the start"

    def named_sets(self, name: str) -> Choice:
        """Own instructions, and in every module the demo set of this name where it has one."""
        found = {}
        for module, sets in self.demo_sets.items():
            index = next((index for index, one in enumerate(sets) if one.name == name), 0)
            if index:
                found[f"{module}.demos"] = index
        return found


def bounds(most: int) -> list[int]:
    """All bounds of a loop, the largest first; of many, some that are equally far apart."""
    tried = min(most, MOST_BOUNDS)
    return [round(most - index * (most - 1) / max(1, tried - 1)) for index in range(tried)]


def halves(most: int) -> list[int]:
    """The number, its half, the half of that, down to 1."""
    return [most >> index for index in range(most.bit_length())]


def choice_key(choice: Choice) -> str:
    """Equal for equal choices, whatever options were added since."""
    return json.dumps({knob: index for knob, index in sorted(choice.items()) if index})


def add_demo_sets(space: Space, found: Pools, rows: Pools, lab: Lab, *, size: int, most: int) -> None:
    """No demos; labelled rows; bootstrapped in order; then shuffled sets of both kinds, of full and of half size."""
    for module in space.demo_sets:
        sets = [
            DemoSet("no demos", ()),
            DemoSet("labelled", pick(rows.get(module, ()), size)),
            DemoSet("bootstrapped", pick(found.get(module, ()), size)),
        ]
        for index in range(most):
            is_labelled = rows.get(module) and (index % 2 or not found.get(module))
            pools, kind = (rows, "labelled") if is_labelled else (found, "bootstrapped")
            count = size if index % 4 < 2 else max(1, size // 2)
            drawn = pick(pools.get(module, ()), count, lab.rng("demos", module, index))
            sets.append(DemoSet(f"{kind}, shuffle {index + 1}", drawn))
        for demo_set in sets:
            if (demo_set.demos or demo_set.name == "no demos") and len(space.demo_sets[module]) <= most:
                space.add_demo_set(module, demo_set)
