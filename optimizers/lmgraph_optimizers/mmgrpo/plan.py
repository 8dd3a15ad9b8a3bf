"""Which adapter each trained module uses: known before the first call, from the graph alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lmgraph.errors import ConfigError
from lmgraph.program import AdapterRef, Program

SHARED = "shared"


@dataclass(frozen=True, slots=True)
class PlannedAdapter:
    name: str
    lm: str
    modules: tuple[str, ...]
    before: AdapterRef | None
    """What the modules use at the start: the training goes on from there."""


def plan_adapters(
    program: Program, modules: Sequence[str], adapters: Literal["shared", "per_module"]
) -> list[PlannedAdapter]:
    """shared: one for each declared lm, so that no adapter is ever trained on calls of two clearances. per_module: one
    for each module; those that a strategy made of it (`M.step`) have their own.

    Raises: ConfigError where modules that are to share one have different ones.
    """
    lms = sorted({program.graph.module(name).lm for name in modules})
    planned = []
    if adapters == "per_module":
        for name in modules:
            planned.append(PlannedAdapter(name, program.graph.module(name).lm, (name,), _before(program, [name])))
        return planned
    for lm in lms:
        mine = tuple(name for name in modules if program.graph.module(name).lm == lm)
        name = SHARED if len(lms) == 1 else f"{SHARED}-{lm}"
        planned.append(PlannedAdapter(name, lm, mine, _before(program, mine)))
    return planned


def _before(program: Program, modules: Sequence[str]) -> AdapterRef | None:
    keys = {program.params.modules[name].adapter for name in modules}
    if len(keys) > 1:
        raise ConfigError(
            f"The modules {', '.join(modules)} are to share an adapter and have different ones.",
            hint="--mmgrpo.adapters per_module, or start from a program without adapters",
        )
    key = keys.pop()
    return None if key is None else program.params.adapters[key]
