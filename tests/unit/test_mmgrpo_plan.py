"""Which adapter each module uses: one a declared lm, or one a module, those that a strategy made included."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmgraph
from lmgraph.errors import ConfigError
from lmgraph.evaluate import make_task
from lmgraph.program import AdapterRef, Program
from lmgraph_optimizers.mmgrpo.plan import plan_adapters

PROGRAM = """edition 1

lm weak { model: "small" }
lm guarded { model: "small"  clearance: private }

record Row { text: str  label: str }

fn look(text: str) -> str = py "tools:look"

module Find(text: str) -> (found: str) {
  lm: weak
  strategy: react
  tools: [look]
}

module Name(found: str) -> (label: str) { lm: weak }
module Check(label: str) -> (ok: bool) { lm: guarded }

flow Main(text: str) -> (label: str) {
  f = Find(text)
  n = Name(found=f.found)
  c = Check(label=n.label)
  return (label=if c.ok then n.label else "")
}

dataset rows: Row = jsonl "rows.jsonl"
metric exact(gold: Row, pred: Main.out) -> bool = gold.label == pred.label
objective right { flow: Main  data: rows  metric: exact  optimize: [Find.weights, Name.weights, Check.weights] }
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n' * 5)
    (tmp_path / "tools.py").write_text("def look(text):\n    return text\n")
    (tmp_path / "program.lmg").write_text(PROGRAM)
    return lmgraph.compile_file(tmp_path / "program.lmg")


def trained(program: Program) -> tuple[str, ...]:
    task = make_task(program)
    return tuple(name for name in program.graph.modules_of(task.flow) if task.allows(program, name, "weights"))


def test_what_a_strategy_made_belongs_to_the_declared_module(program: Program) -> None:
    assert set(trained(program)) == {"Find", "Find.step", "Name", "Check"}


def test_shared_is_one_for_each_lm_so_that_clearances_never_mix(program: Program) -> None:
    planned = {one.name: set(one.modules) for one in plan_adapters(program, trained(program), "shared")}
    assert planned == {"shared-weak": {"Find", "Find.step", "Name"}, "shared-guarded": {"Check"}}
    (alone,) = plan_adapters(program, ("Name",), "shared")
    assert (alone.name, alone.lm) == ("shared", "weak")


def test_per_module_is_one_each(program: Program) -> None:
    planned = plan_adapters(program, trained(program), "per_module")
    assert {one.name for one in planned} == {"Find", "Find.step", "Name", "Check"}
    assert all(one.modules == (one.name,) for one in planned)


def test_training_goes_on_from_what_the_modules_have(program: Program, tmp_path: Path) -> None:
    ref = AdapterRef("shared", 30, tmp_path, "small", "0" * 64)
    tuned = program.with_params(program.params.with_adapter(ref, ("Name",)))
    assert [one.before for one in plan_adapters(tuned, ("Name",), "shared")] == [ref]
    assert [one.before for one in plan_adapters(tuned, ("Name", "Find"), "per_module")] == [ref, None]
    with pytest.raises(ConfigError, match="different ones") as caught:
        plan_adapters(tuned, ("Name", "Find"), "shared")
    assert "per_module" in (caught.value.hint or "")
