"""What is said where learned parameters do not fit a program (E08), or fit it no more as well as they did (W08)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmgraph.graph.counts import Count
from lmgraph.graph.graph import LmSpec, ModuleSpec
from lmgraph.program.fingerprints import model_name
from lmgraph.program.interface import behaviour_changes, field_changes


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps parameters from loading (E08), or makes them doubtful (W08)."""

    code: str
    module: str | None
    """The module of the program that it is about; None where there is none."""
    message: str
    notes: tuple[str, ...] = ()
    help: str | None = None
    moved: tuple[str, str] | None = None
    """(old, new) of a `moved` that would mend it."""

    @property
    def is_error(self) -> bool:
        return self.code.startswith("E")


def interface(old: ModuleSpec, new: ModuleSpec) -> Problem:
    changes = tuple(map(str, field_changes(old, new)))
    return Problem(
        "E0802",
        new.name,
        f"the parameters of `{new.name}` were learned for other inputs or outputs",
        changes or ("they were not learned for the program that they came with either",),
        "tune the changed program again, or give the module its fields back",
    )


def orphan(name: str, same: Sequence[str], fresh: Sequence[str]) -> Problem:
    """``same`` are the new modules with its interface, ``fresh`` all of them."""
    message = f"`{name}` has learned parameters, and the program has no such module"
    if len(same) == 1:
        (new,) = same
        return Problem(
            "E0803", new, message, (f"`{new}` is new, with the same inputs and outputs",),
            f"write `moved {name} -> {new}` where it was renamed", (name, new),
        )  # fmt: skip
    if not fresh:
        return Problem("W0802", None, message, ("they are left out",))
    shared = "with the same inputs and outputs" if same else "with other inputs or outputs"
    return Problem(
        "E0803", None, message, (f"new modules, {shared}: {', '.join(f'`{new}`' for new in same or fresh)}",),
        f"write `moved {name} -> NEW` where it is one of them; to drop it, load the artifact before you add them",
    )  # fmt: skip


def taken(name: str, new: str, source: str) -> Problem:
    """``name`` moved to ``new``, which has the parameters of ``source``."""
    return Problem(
        "E0803",
        new,
        f"`{name}` moved to `{new}`, which takes what `{source}` learned",
        (f"`{name}` and `{source}` both have learned parameters in the artifact",),
        f"delete `moved {name} -> {new}` to give up what `{name}` learned",
    )


def count(name: str, value: int, now: Count | None) -> Problem:
    """``now`` is the count as the program has it; None where it is gone."""
    message = f"`{name}` was chosen as {value}, and " + (
        "the program has no such count" if now is None else f"its author says at most {now.most} now"
    )
    return Problem("W0802", None, message, ("it is left out: what the author wrote holds",))


def adapter(module: str, base: str, now: LmSpec) -> Problem:
    return Problem(
        "E0804",
        module,
        f"the adapter of `{module}` was trained on {base}, and the model of its LM `{now.name}` is {now.model}",
        ("an adapter changes the weights of one model, and means nothing to another",),
        f'give `{module}` an LM with `model: "{base}"`, or tune the changed program again',
    )


def clearance(module: str, before: LmSpec, now: LmSpec) -> Problem:
    return Problem(
        "E0805",
        module,
        f"what `{module}` learned may hold private values, and its LM `{now.name}` may see public ones only",
        (f"it was learned for the LM `{before.name}` with `clearance: private`",),
        f"give `{now.name}` `clearance: private`, or tune the changed program again",
    )


def reworded(old: ModuleSpec, new: ModuleSpec) -> Problem:
    return _stale(new.name, "its author changed it after its parameters were learned", behaviour_changes(old, new))


def other_model(module: str, before: LmSpec, now: LmSpec) -> Problem:
    names = [model_name(before), model_name(now)]
    models = () if names[0] == names[1] else (f"then {names[0]}, now {names[1]}",)
    return _stale(module, "its parameters were learned with another model", models)


def _stale(module: str, why: str, notes: Sequence[str]) -> Problem:
    return Problem(
        "W0801", module, f"`{module}` is stale: {why}", tuple(notes),
        "score it with `lmgraph eval`; tune the program again if it got worse",
    )  # fmt: skip
