"""The graph of one program: everything the compiler knows that running, scoring and tuning need. It never changes.

Declared parts are in tuples, ordered by name, so that moving a declaration changes nothing. Paths are relative to the
program's root folder and use forward slashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from lmgraph.graph.nodes import Expr, LmCall, Region, walk
from lmgraph.graph.types import EnumType, Field, PrivacyLabel, RecordType, Type

DEFAULT_LM = "default"
"""The LM of modules that name none: bound at run time."""

Strategy = Literal["predict", "cot"]
Knob = Literal["instruction", "demos", "weights"]


@dataclass(frozen=True, slots=True)
class LmSpec:
    """A model the program needs. Which engine serves it is bound at run time; this is the default."""

    name: str
    model: str | None = None
    engine: str | None = None
    temperature: float | None = None
    clearance: PrivacyLabel = "public"


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """One LM step as the author declared it. Learned values of its parameters are in Params, not here."""

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    """Without the reasoning field that the strategy `cot` puts first."""
    instruction: str
    """Dedented; empty where the author wrote none."""
    strategy: Strategy = "predict"
    lm: str = DEFAULT_LM
    max_tokens: int = 128
    temperature: float | None = None
    """None: the LM's."""
    retries: int = 0
    """Calls made again, with the problem shown, where an output does not parse."""
    optimize: bool = True
    """False: no optimizer touches it."""

    @property
    def output_type(self) -> RecordType:
        return RecordType(f"{self.name}.out", self.outputs)


@dataclass(frozen=True, slots=True)
class FlowSpec:
    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    body: Region

    @property
    def output_type(self) -> RecordType:
        return RecordType(f"{self.name}.out", self.outputs)


@dataclass(frozen=True, slots=True)
class SplitSpec:
    """One named split of a dataset, taken in order from the seeded shuffle: a share of all rows (0 < share <= 1),
    a number of rows, or a file of its own."""

    name: str
    share: float | None = None
    count: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    name: str
    record: RecordType
    format: Literal["jsonl", "csv"]
    path: str
    splits: tuple[SplitSpec, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """``gold`` and ``pred`` name the parameters; ``expression`` reads them as Ref values of those names."""

    name: str
    gold: Field
    pred: Field
    flow: str
    reads: Literal["out", "trace"]
    result: Type
    expression: Expr | None = None
    python: str | None = None
    """`module:callable`, resolved inside the program's own folder."""


@dataclass(frozen=True, slots=True)
class ObjectiveSpec:
    """What optimize improves: the weighted sum of metrics over the flow's outputs on the data."""

    name: str
    flow: str
    data: str
    metrics: tuple[str, ...]
    weights: tuple[float, ...]
    low: float
    high: float
    """Range of the score; a run that fails scores ``low``."""
    knobs: tuple[tuple[str, Knob], ...] = ()
    """(module, what may change); empty means everything of every module that allows it."""


@dataclass(frozen=True, slots=True)
class Graph:
    name: str
    edition: int = 1
    enums: tuple[EnumType, ...] = ()
    records: tuple[RecordType, ...] = ()
    lms: tuple[LmSpec, ...] = ()
    modules: tuple[ModuleSpec, ...] = ()
    flows: tuple[FlowSpec, ...] = ()
    datasets: tuple[DatasetSpec, ...] = ()
    metrics: tuple[MetricSpec, ...] = ()
    objectives: tuple[ObjectiveSpec, ...] = ()
    entry: str | None = None
    """The flow that `run` runs where none is named: the first objective's, else the only one, else None."""

    def lm(self, name: str) -> LmSpec:
        return _find(self.lms, name)

    def module(self, name: str) -> ModuleSpec:
        """Raises: KeyError."""
        return _find(self.modules, name)

    def flow(self, name: str) -> FlowSpec:
        return _find(self.flows, name)

    def dataset(self, name: str) -> DatasetSpec:
        return _find(self.datasets, name)

    def metric(self, name: str) -> MetricSpec:
        return _find(self.metrics, name)

    def objective(self, name: str) -> ObjectiveSpec:
        return _find(self.objectives, name)

    def modules_of(self, flow: str) -> tuple[str, ...]:
        """Names of the modules a flow calls, in source order, each once."""
        calls = (node.module for node in walk(self.flow(flow).body) if isinstance(node, LmCall))
        return tuple(dict.fromkeys(calls))


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Part = TypeVar("_Part", bound=_Named)


def _find(parts: tuple[_Part, ...], name: str) -> _Part:
    for part in parts:
        if part.name == name:
            return part
    raise KeyError(name)
