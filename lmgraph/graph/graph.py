"""The graph of one program: everything the compiler knows that running, scoring and tuning need. It never changes.

Declared parts are in tuples, ordered by name, so that moving a declaration changes nothing. Paths are relative to the
program's root folder and use forward slashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from lmgraph.graph.nodes import Expr, ExternCall, FlowCall, LmCall, Operand, Region
from lmgraph.graph.types import LATER, EnumType, Field, PrivacyLabel, RecordType, Type
from lmgraph.graph.walk import walk

DEFAULT_LM = "default"
"""The LM of modules that name none: bound at run time."""

Strategy = Literal["predict", "cot", "react", "best_of"]
ExternKind = Literal["tool", "retriever", "fn"]
Knob = Literal["instruction", "demos", "weights", "temperature", "strategy"]
"""What an objective may let optimizers change of a module; the last two only where it names them."""


@dataclass(frozen=True, slots=True)
class LmSpec:
    """A model the program needs. Which engine serves it is bound at run time; this is the default."""

    name: str
    model: str | None = None
    engine: str | None = None
    temperature: float | None = None
    clearance: PrivacyLabel = "public"


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """A module's `assert` or `check`, asked of every output that parses."""

    condition: Expr
    """Over values named as the module's inputs and outputs; a name that both have means the output."""
    message: str
    required: bool
    """True for `assert`: a false one is a failure, retried with the message shown where a retry is left."""


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """One LM step as the author declared it. Learned values of its parameters are in Params, not here."""

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    """Without the reasoning field that thinking first (``reasons``) puts before them."""
    instruction: str
    """Dedented; empty where the author wrote none."""
    strategy: Strategy = "predict"
    lm: str = DEFAULT_LM
    max_tokens: int = 128
    temperature: float | None = None
    """None: the LM's."""
    retries: int = 0
    """Calls made again, with the problem shown, where an output does not parse or an assert is false."""
    optimize: bool = True
    """False: no optimizer touches it."""
    checks: tuple[OutputCheck, ...] = ()
    reasons: bool = False
    """Whether the model writes a reasoning field first: `cot`, or `best_of` samples of it."""
    samples: int = 1
    """`best_of`: how many outputs are drawn."""
    select: str | None = None
    """`best_of`: the fn that scores an output, or `vote`; None counts the checks that hold."""
    tools: tuple[str, ...] = ()
    """`react`: the externs it may call."""
    max_steps: int = 0
    """`react`: most tool calls before it must answer."""
    derived_from: str | None = None
    """The declared module that a strategy made this one for: `M` of `M.step`."""

    @property
    def output_type(self) -> RecordType:
        return RecordType(f"{self.name}.out", self.outputs)


@dataclass(frozen=True, slots=True)
class ExternSpec:
    """Typed Python. Called with keyword arguments named as the inputs; what it gives back is checked."""

    name: str
    kind: ExternKind
    inputs: tuple[Field, ...]
    result: Type
    """A record `name.out` where the outputs are named."""
    python: str
    """`module:callable`, resolved inside the program's own folder."""
    description: str | None = None
    """What a model reads of it under `react`."""
    cache: bool = False
    """Answers are remembered as long as the runtime lives."""
    timeout: float | None = None
    """Seconds; None waits."""
    returns_at_most: Expr | None = None
    """Most elements of the list it gives back, over its inputs by name; more is a failure."""
    files: tuple[str, ...] = ()
    """Files that its Python reads, relative to the program's folder: artifacts hold them."""
    clearance: PrivacyLabel = field(default="public", metadata=LATER)
    """Whether a retriever or tool may be given private values."""
    label: PrivacyLabel = field(default="public", metadata=LATER)
    """Of a result without a name; named ones have labels of their own."""


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
    """``gold`` and ``pred`` name the parameters; ``body`` reads them as `metric/gold` and `metric/pred`."""

    name: str
    gold: Field
    pred: Field
    flow: str
    reads: Literal["out", "trace"]
    result: Type
    body: Region | None = None
    """With one unnamed result. It may call modules: judges, counted and traced apart from the run's own calls."""
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
    """(module, what may change)."""
    judge: str | None = None
    """The LM of modules that metrics call and that name none."""
    counts: tuple[str, ...] = field(default=(), metadata=LATER)
    """Bounds of loops and numbers of retrievals that may be lowered (graph/counts.py)."""

    @property
    def is_open(self) -> bool:
        """Whether it names nothing that may change: then everything of every module that allows it may."""
        return not (self.knobs or self.counts)


@dataclass(frozen=True, slots=True)
class StubSpec:
    """Answers that a test gives in place of a module, extern or flow: one a call, the last one again and again."""

    target: str
    answers: tuple[tuple[Operand, ...], ...]
    """Outputs by name, or one unnamed value; the expressions read nothing."""


@dataclass(frozen=True, slots=True)
class TestSpec:
    """A declared test: a flow of its own, without inputs and outputs, whose asserts are what it tests. Tests are no
    part of the graph: a program is the same with and without them."""

    __test__ = False

    title: str
    flow: FlowSpec
    stubs: tuple[StubSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """Parameters learned as ``old`` are those of the module ``new``."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Graph:
    name: str
    edition: int = 1
    enums: tuple[EnumType, ...] = ()
    records: tuple[RecordType, ...] = ()
    lms: tuple[LmSpec, ...] = ()
    externs: tuple[ExternSpec, ...] = ()
    modules: tuple[ModuleSpec, ...] = ()
    flows: tuple[FlowSpec, ...] = ()
    datasets: tuple[DatasetSpec, ...] = ()
    metrics: tuple[MetricSpec, ...] = ()
    objectives: tuple[ObjectiveSpec, ...] = ()
    moved: tuple[Moved, ...] = ()
    entry: str | None = None
    """The flow that `run` runs where none is named: the first objective's, else the only one, else None."""

    def lm(self, name: str) -> LmSpec:
        return _find(self.lms, name)

    def module(self, name: str) -> ModuleSpec:
        """Raises: KeyError."""
        return _find(self.modules, name)

    def extern(self, name: str) -> ExternSpec:
        return _find(self.externs, name)

    def flow(self, name: str) -> FlowSpec:
        return _find(self.flows, name)

    def dataset(self, name: str) -> DatasetSpec:
        return _find(self.datasets, name)

    def metric(self, name: str) -> MetricSpec:
        return _find(self.metrics, name)

    def objective(self, name: str) -> ObjectiveSpec:
        return _find(self.objectives, name)

    def regions_of(self, flow: str) -> tuple[Region, ...]:
        """The flow's body and those of the flows it calls, directly or not, each once."""
        return self._called_from(self.flow(flow).body)

    def modules_of(self, flow: str) -> tuple[str, ...]:
        """Names of the modules that running the flow may call, each once, in source order."""
        return self._names(self.regions_of(flow), LmCall)

    def externs_of(self, flow: str) -> tuple[str, ...]:
        """Names of the externs that running the flow may call, each once, in source order."""
        return self._names(self.regions_of(flow), ExternCall)

    def judges_of(self, metric: str) -> tuple[str, ...]:
        """Names of the modules that the metric may call."""
        body = self.metric(metric).body
        return () if body is None else self._names(self._called_from(body), LmCall)

    def _called_from(self, region: Region) -> tuple[Region, ...]:
        found, waiting, seen = [region], [region], set[str]()
        while waiting:
            for node in walk(waiting.pop(0)):
                if isinstance(node, FlowCall) and node.flow not in seen:
                    seen.add(node.flow)
                    body = self.flow(node.flow).body
                    found.append(body)
                    waiting.append(body)
        return tuple(found)

    @staticmethod
    def _names(regions: tuple[Region, ...], kind: type[LmCall] | type[ExternCall]) -> tuple[str, ...]:
        names = [
            node.module if isinstance(node, LmCall) else node.extern
            for region in regions
            for node in walk(region)
            if isinstance(node, LmCall | ExternCall) and isinstance(node, kind)
        ]
        return tuple(dict.fromkeys(names))


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Part = TypeVar("_Part", bound=_Named)


def _find(parts: tuple[_Part, ...], name: str) -> _Part:
    for part in parts:
        if part.name == name:
            return part
    raise KeyError(name)
