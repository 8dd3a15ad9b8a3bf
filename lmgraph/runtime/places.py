"""Where the trace store finds a run again: a hash of all that decides it, for work that goes on where it was killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.program.program import Program
from lmgraph.program.python_files import python_files
from lmgraph.runtime.bind import Bindings
from lmgraph.runtime.run import RunOptions


async def setting_of(bindings: Bindings, program: Program, flow: str, options: RunOptions) -> str:
    """A hash of program and parameters, the Python it names, the flow, the options, and the models.

    Raises: ConfigError where stubs answer, which nobody can tell apart; as `Bindings.engine` for a model.
    """
    if options.stubs:
        raise ConfigError("Runs with stubs cannot be resumed: nobody can tell whether the stubs are the same.")
    graph, place = program.graph, options.identity
    lms = sorted({graph.module(name).lm for name in graph.modules_of(flow)})
    return digest(
        program.hash,
        flow,
        [options.decoding, options.temperature, options.seed],
        [place.study, place.phase, place.step, place.rollout],
        await models(bindings, program, lms),
        list(python_contents((extern.python for extern in graph.externs), program.root)),
    )


async def models(bindings: Bindings, program: Program, lms: Iterable[str]) -> list[list[str]]:
    """[LM, kind of engine, model] of each. Raises: as `Bindings.engine`."""
    engines = [(lm, await bindings.engine(program.graph, lm)) for lm in lms]
    return [[lm, engine.name, engine.model_id] for lm, engine in engines]


def place_of(setting: str, example: str, inputs: Mapping[str, Any]) -> str:
    """The place of one run: another input of the same position is another place."""
    return digest(setting, example, inputs)


def python_contents(references: Iterable[str], root: Path) -> Iterable[list[str]]:
    """[name, hash of the content] of each Python file that a reference leads to."""
    files = sorted({name for reference in references for name in python_files(reference, root)})
    for name in files:
        path = root / name
        if path.is_file():
            yield [name, hashlib.sha256(path.read_bytes()).hexdigest()]


def digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()
