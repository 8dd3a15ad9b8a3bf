"""Declarations as text, one line each, and one for each check of a module."""

from __future__ import annotations

import json
from collections.abc import Iterator

from lmgraph.graph.expression_text import short_text
from lmgraph.graph.graph import DatasetSpec, ExternSpec, LmSpec, ModuleSpec, ObjectiveSpec
from lmgraph.graph.types import Field, RecordType


def lm_text(lm: LmSpec) -> str:
    settings = [("model", lm.model), ("engine", lm.engine), ("temperature", lm.temperature)]
    told = [f"{key} {value}" for key, value in settings if value is not None]
    told += ["clearance private"] if lm.clearance == "private" else []
    return f"lm {lm.name}: {', '.join(told) or 'bound at run time'}"


def extern_text(extern: ExternSpec) -> str:
    result = extern.result
    named = isinstance(result, RecordType) and result.name == f"{extern.name}.out"
    given = f"({fields_text(result.fields)})" if isinstance(result, RecordType) and named else str(result)
    given = f"private {given}" if extern.label == "private" else given
    parts = [f"py {extern.python}"]
    parts += ["clearance private"] if extern.clearance == "private" else []
    parts += ["answers remembered"] if extern.cache else []
    parts += [f"{extern.timeout:g} seconds"] if extern.timeout is not None else []
    parts += [f"reads {', '.join(extern.files)}"] if extern.files else []
    parts += [f"at most {short_text(extern.returns_at_most)}"] if extern.returns_at_most is not None else []
    return f"{extern.kind} {extern.name}({fields_text(extern.inputs)}) -> {given}: {', '.join(parts)}"


def module_lines(module: ModuleSpec) -> Iterator[str]:
    yield f"module {module.name}({fields_text(module.inputs)}) -> ({fields_text(module.outputs)}): {_settings(module)}"
    for check in module.checks:
        word = "assert" if check.required else "check"
        yield f"  {word} {short_text(check.condition)} else {quoted(check.message)}"


def _settings(module: ModuleSpec) -> str:
    parts: list[str] = [module.strategy]
    parts += ["reasons first"] if module.reasons and module.strategy != "cot" else []
    if module.strategy == "best_of":
        parts += [f"{module.samples} samples", f"selected by {module.select or 'checks'}"]
    parts += [f"tools {' '.join(module.tools)}"] if module.tools else []
    parts += [f"at most {module.max_steps} steps"] if module.max_steps else []
    parts += [f"lm {module.lm}", f"max_tokens {module.max_tokens}"]
    parts += [f"temperature {module.temperature:g}"] if module.temperature is not None else []
    parts += [f"retries {module.retries}"] if module.retries else []
    parts += [] if module.optimize else ["not optimized"]
    parts += [f"derived from {module.derived_from}"] if module.derived_from is not None else []
    return ", ".join(parts)


def fields_text(fields: tuple[Field, ...]) -> str:
    return ", ".join(_field(one) for one in fields)


def _field(field: Field) -> str:
    label = "private " if field.label == "private" else ""
    default = f" = {quoted(field.default)}" if field.has_default else ""
    held = f" where {field.constraint.text}" if field.constraint is not None else ""
    return f"{field.name}: {label}{field.type}{default}{held}"


def quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def dataset_text(dataset: DatasetSpec) -> str:
    splits = ", ".join(
        f"{split.name} {next(one for one in (split.share, split.count, split.path) if one is not None)}"
        for split in dataset.splits
    )
    told = f" split {splits}, seed {dataset.seed}" if splits else ""
    return f"dataset {dataset.name}: {dataset.record} = {dataset.format} {json.dumps(dataset.path)}{told}"


def objective_text(objective: ObjectiveSpec) -> str:
    terms = [f"{weight:g} {name}" for name, weight in zip(objective.metrics, objective.weights, strict=True)]
    named = [*(f"{module}.{knob}" for module, knob in objective.knobs), *objective.counts]
    knobs = ", ".join(named) or "everything that may be"
    judge = f"; judge {objective.judge}" if objective.judge is not None else ""
    return (
        f"objective {objective.name}: {' + '.join(terms)} of {objective.flow} on {objective.data}, "
        f"from {objective.low:g} to {objective.high:g}; optimizes {knobs}{judge}"
    )
