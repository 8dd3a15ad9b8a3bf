"""Task: a flow, rows to learn from and to check on, and the scorer. What evaluate and optimize work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmgraph.errors import ConfigError
from lmgraph.evaluate.dataset import Example, load_splits, pick_split
from lmgraph.evaluate.metric import Scorer
from lmgraph.graph.counts import Count, counts_of
from lmgraph.graph.graph import Knob, ObjectiveSpec
from lmgraph.graph.walk import walk
from lmgraph.program.fingerprints import data_hash
from lmgraph.program.program import Program


@dataclass(frozen=True, slots=True)
class Task:
    flow: str
    objective: ObjectiveSpec
    splits: Mapping[str, Sequence[Example]]
    scorer: Scorer

    @property
    def train(self) -> Sequence[Example]:
        return self.split("train")

    @property
    def dev(self) -> Sequence[Example]:
        return self.split("dev")

    def split(self, name: str) -> Sequence[Example]:
        """Raises: ConfigError naming the splits there are."""
        return pick_split({key: list(rows) for key, rows in self.splits.items()}, name)

    @property
    def data_hash(self) -> str:
        """Of the rows that an optimizer may learn from: all but those of the split `test`, in any order."""
        return data_hash(row.values for name, rows in self.splits.items() if name != "test" for row in rows)

    def allows(self, program: Program, module: str, knob: Knob) -> bool:
        """Whether an optimizer may change this part of the module: its own `optimize`, and the objective's list.

        What is said of a module holds for the modules that its strategy made of it, such as `M.step`.
        """
        spec = program.graph.module(module)
        declared = program.graph.module(spec.derived_from or module)
        knobs = self.objective.knobs
        named = (declared.name, knob) in knobs or (module, knob) in knobs
        listed = named or (self.objective.is_open and knob not in ("temperature", "strategy"))
        return spec.optimize and declared.optimize and listed

    def counts(self, program: Program) -> tuple[Count, ...]:
        """What the objective lets an optimizer lower, in the order it names it: bounds of loops and numbers of
        retrievals that a run of its flow may reach."""
        known = counts_of(program.graph)
        reached = {node.id for body in program.graph.regions_of(self.flow) for node in walk(body)}
        named = [known[name] for name in self.objective.counts if name in known]
        return tuple(count for count in named if count.node in reached)

    def inputs(self, program: Program, example: Example) -> dict[str, object]:
        """The row's fields that the flow takes."""
        names = [field.name for field in program.graph.flow(self.flow).inputs]
        return {name: example.values[name] for name in names if name in example.values}


def make_task(program: Program, objective: str | None = None, *, data: Path | None = None) -> Task:
    """The task of one objective; the program's only one where none is named.

    ``data`` replaces the dataset's rows. Raises: ConfigError, DataError.
    """
    spec = _objective(program, objective)
    dataset = program.graph.dataset(spec.data)
    missing = [
        field.name
        for field in program.graph.flow(spec.flow).inputs
        if not field.has_default and dataset.record.field(field.name) is None
    ]
    if missing:
        raise ConfigError(
            f"Dataset `{dataset.name}` has no field `{missing[0]}`, which flow `{spec.flow}` takes.",
            hint=f"its record {dataset.record.name} has: {', '.join(field.name for field in dataset.record.fields)}",
        )
    return Task(spec.flow, spec, load_splits(dataset, program.root, data), Scorer(program, spec))


def _objective(program: Program, name: str | None) -> ObjectiveSpec:
    objectives = program.graph.objectives
    names = ", ".join(objective.name for objective in objectives)
    if name is not None:
        found = [objective for objective in objectives if objective.name == name]
        if not found:
            raise ConfigError(f"The program has no objective `{name}`.", hint=f"it has: {names or 'none'}")
        return found[0]
    if len(objectives) == 1:
        return objectives[0]
    if not objectives:
        raise ConfigError(
            f"The program {program.graph.name} has no objective, so there is nothing to score.",
            hint="declare one: objective name { flow: F  data: d  metric: m }",
        )
    raise ConfigError(f"The program has several objectives: {names}.", hint="name one with --objective")
