"""What every optimizer promises, checked by running it on a tiny program with a scripted engine.

It never changes the graph nor the program it was given, stays within its budget, gives the same program for the same
seed, and goes on after an interruption to the result it would have had without one.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraph.errors import BudgetExhausted
from lmgraph.evaluate.dataset import Example
from lmgraph.evaluate.metric import Scorer
from lmgraph.evaluate.task import Task
from lmgraph.graph.graph import (
    DEFAULT_LM,
    DatasetSpec,
    FlowSpec,
    Graph,
    LmSpec,
    MetricSpec,
    ModuleSpec,
    ObjectiveSpec,
)
from lmgraph.graph.nodes import Apply, GetField, LmCall, NodeId, Operand, Parameter, Ref, Region, ValueId
from lmgraph.graph.types import BOOL, STR, EnumMember, EnumType, Field, RecordType
from lmgraph.optimize.lab import Lab
from lmgraph.optimize.optimizer import OptimizerConfig, OptimizeResult
from lmgraph.optimize.study import Study
from lmgraph.program import artifact
from lmgraph.program.params import params_hash
from lmgraph.program.program import Program, graph_hash
from lmgraph.runtime.engine import Engine, GenerateRequest
from lmgraph.runtime.limits import Budget, Meter
from lmgraph.runtime.service import Runtime
from lmgraph.testing.scripted import ScriptedEngine, last_user_turn

LABELS = ("fruit", "tool", "animal")
WORDS = {
    "fruit": ("apple", "pear", "plum", "cherry", "fig", "grape", "melon", "peach"),
    "tool": ("hammer", "saw", "drill", "file", "wrench", "plane", "chisel", "pliers"),
    "animal": ("cat", "horse", "mouse", "owl", "salmon", "tiger", "wolf", "yak"),
}


def tiny_program(root: Path | None = None) -> tuple[Program, Task]:
    """One module that names the kind of a word, with 16 train and 8 dev rows and an exact-match objective."""
    kind = EnumType("Kind", tuple(EnumMember(label, label) for label in LABELS))
    word, label = Field("word", STR), Field("kind", kind)
    module = ModuleSpec("Classify", (word,), (label,), "Name the kind of thing.", max_tokens=16)
    call = LmCall(
        NodeId("Sort/out"),
        "Classify",
        (Operand("word", Ref(ValueId("Sort/word"))),),
        RecordType("Classify.out", (label,)),
    )
    body = Region(
        (Parameter(ValueId("Sort/word"), word),),
        (call,),
        (Operand("kind", GetField(Ref(ValueId("Sort/out")), "kind")),),
    )
    flow = FlowSpec("Sort", (word,), (label,), body)
    record = RecordType("Word", (word, label))
    gold = Parameter(ValueId("exact/gold"), Field("gold", record))
    pred = Parameter(ValueId("exact/pred"), Field("pred", flow.output_type))
    equal = Apply("==", (GetField(Ref(gold.id), "kind"), GetField(Ref(pred.id), "kind")))
    exact = Region((gold, pred), (), (Operand("", equal),))
    metric = MetricSpec("exact", gold.field, pred.field, "Sort", "out", BOOL, exact)
    objective = ObjectiveSpec("accuracy", "Sort", "words", ("exact",), (1.0,), 0.0, 1.0)
    graph = Graph(
        "tiny",
        enums=(kind,),
        records=(record,),
        lms=(LmSpec(DEFAULT_LM),),
        modules=(module,),
        flows=(flow,),
        datasets=(DatasetSpec("words", record, "jsonl", "words.jsonl"),),
        metrics=(metric,),
        objectives=(objective,),
        entry="Sort",
    )
    program = Program.default(graph, root)
    rows = [
        Example(f"words.jsonl:{index}", {"word": WORDS[name][position], "kind": name})
        for index, (position, name) in enumerate(((p, n) for p in range(8) for n in LABELS), 1)
    ]
    return program, Task("Sort", objective, {"train": rows[:16], "dev": rows[16:]}, Scorer(program, objective))


def tiny_engine() -> ScriptedEngine:
    """Right where a demo or the adapter helps, often wrong elsewhere; at a temperature its answers vary by seed."""
    kinds = {word: kind for kind, words in WORDS.items() for word in words}

    def answer(prompt: str, request: GenerateRequest) -> list[str]:
        word = last_user_turn(prompt).partition("word: ")[2].partition("\n")[0]
        helped = request.adapter is not None or prompt.count("assistant\n") > 1 or len(word) % 2 == 0
        return [kinds.get(word, LABELS[0]) if helped else LABELS[0], *LABELS]

    return ScriptedEngine(answer)


@dataclass(frozen=True, slots=True)
class _Outcome:
    result: OptimizeResult | None
    """None where the budget ended it with BudgetExhausted."""
    calls: int


async def check_optimizer(
    optimizer: type[Any],
    options: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    engine: Callable[[], Engine] = tiny_engine,
) -> None:
    """Hold an optimizer class to the contract.

    ``options`` should make a run short; ``engine`` opens the engine it needs, where a scripted one is not enough.
    ``folder`` is where studies are kept (a temporary one). Raises: AssertionError that names the broken promise.
    """
    _check_class(optimizer)
    config = optimizer.Config(**(options or {}))
    with tempfile.TemporaryDirectory(prefix="lmgraph-check-") as temporary:
        bench = _Bench(optimizer, config, folder or Path(temporary), engine)
        whole = await bench.run("whole")
        _require(whole.result is not None, "it ends without BudgetExhausted where there is no budget")
        assert whole.result is not None
        _check_result(whole.result, bench, Path(temporary) / "artifact")
        again = await bench.run("again")
        _require(_same(whole, again), "equal seeds give equal programs")
        for share in (0, 1, 3):
            limit = whole.calls * share // 4
            cut = await bench.run(f"budget-{share}", budget=Budget(calls=limit))
            _require(cut.calls <= limit, f"no call beyond the budget: {cut.calls} calls of {limit}")
        for share in (1, 2, 3):
            after = whole.calls * share // 4
            await bench.run(f"killed-{share}", cancel_after=after)
            resumed = await bench.run(f"killed-{share}")
            _require(_same(whole, resumed), f"interrupted after {after} calls and resumed, it gives the same program")


class _Bench:
    def __init__(
        self, optimizer: type[Any], config: OptimizerConfig, folder: Path, engine: Callable[[], Engine]
    ) -> None:
        self._optimizer = optimizer
        self._config = config
        self._folder = folder
        self._engine = engine
        self.program, self._task = tiny_program(folder)

    async def run(self, name: str, *, budget: Budget | None = None, cancel_after: int | None = None) -> _Outcome:
        """One run in the study ``name``, which is continued if it is there."""
        engine = self._engine()
        before = self.program.hash
        meter = _CancellingMeter(budget, cancel_after)
        try:
            async with Runtime(everything=engine, meter=meter) as runtime:
                study = Study.open(self._folder / name, "check")
                lab = Lab(runtime=runtime, task=self._task, study=study, stage="1-check", seed=11)
                work = asyncio.ensure_future(self._optimizer(self._config).optimize(self.program, self._task, lab))
                meter.task = work
                result: OptimizeResult | None = None
                try:
                    result = await work
                except BudgetExhausted:
                    _require(budget is not None, "BudgetExhausted is the Lab's to raise")
                except asyncio.CancelledError:
                    _require(cancel_after is not None, "only the caller cancels")
        finally:
            await engine.aclose()
        _require(self.program.hash == before, "the program it was given stays as it was")
        return _Outcome(result, meter.calls)


class _CancellingMeter(Meter):
    """Cancels the optimizer once ``cancel_after`` calls are counted, as Ctrl-C does."""

    def __init__(self, budget: Budget | None, cancel_after: int | None) -> None:
        super().__init__(budget)
        self._cancel_after = cancel_after
        self.task: asyncio.Future[Any] | None = None

    def count(self, tokens: int, usd: float = 0.0) -> None:
        super().count(tokens, usd)
        if self._cancel_after is not None and self.calls >= self._cancel_after and self.task is not None:
            self.task.cancel()


def _check_class(optimizer: type[Any]) -> None:
    _require(isinstance(getattr(optimizer, "name", None), str) and bool(optimizer.name), "it has a name")
    config = getattr(optimizer, "Config", None)
    _require(isinstance(config, type) and issubclass(config, OptimizerConfig), "Config is an OptimizerConfig")
    _require(inspect.iscoroutinefunction(getattr(optimizer, "optimize", None)), "optimize is an async method")


def _check_result(result: OptimizeResult, bench: _Bench, folder: Path) -> None:
    _require(isinstance(result, OptimizeResult), "it returns an OptimizeResult")
    program = result.program
    _require(graph_hash(program.graph) == graph_hash(bench.program.graph), "the graph is never changed")
    artifact.check_fit(program.graph, program.params, "the result")
    _require(all(isinstance(note, str) for note in result.notes), "notes are sentences")
    try:
        json.dumps(result.details)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"An optimizer promises: details are JSON-ready ({error}).") from None
    loaded = artifact.load(artifact.save(program, folder))
    _require(params_hash(loaded.params) == params_hash(program.params), "the result can be saved and loaded")


def _same(one: _Outcome, other: _Outcome) -> bool:
    if one.result is None or other.result is None:
        return False
    return params_hash(one.result.program.params) == params_hash(other.result.program.params)


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(f"An optimizer promises: {promise}.")
