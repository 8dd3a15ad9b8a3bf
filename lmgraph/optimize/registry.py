"""Optimizers by name, from installed distributions. Two that claim one name are an error, never a silent choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from lmgraph.errors import PluginError
from lmgraph.optimize.optimizer import Optimizer, OptimizerConfig
from lmgraph.source.suggest import suggest

GROUP = "lmgraph.optimizers"


@dataclass(frozen=True, slots=True)
class OptimizerEntry:
    name: str
    distribution: str
    value: str
    """`package.module:Class`"""


def list_optimizers() -> list[OptimizerEntry]:
    """Every registered optimizer, by name. Raises: PluginError if two distributions claim one name."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise PluginError(
                f"Two optimizers are named `{point.name}`: {_origin(other)} and {_origin(point)}.",
                hint="uninstall one of the two distributions",
            )
    return [OptimizerEntry(name, _distribution(point), point.value) for name, point in sorted(found.items())]


def optimizer_class(name: str) -> type[Any]:
    """Raises: PluginError for an unknown name, or a plug-in that does not import or lacks part of the contract."""
    entries = {entry.name: entry for entry in list_optimizers()}
    if name not in entries:
        raise PluginError(
            f"There is no optimizer `{name}`.{_meant(name, entries)}",
            hint=f"installed are: {', '.join(entries) or 'none'}; `lmgraph optimize --list` tells more",
        )
    entry = entries[name]
    point = next(point for point in entry_points(group=GROUP, name=name))
    try:
        loaded = point.load()
    except Exception as error:
        raise PluginError(
            f"The optimizer `{name}` ({entry.value}, from {entry.distribution}) does not import:"
            f" {type(error).__name__}: {error}.",
            hint='some optimizers need an extra: pip install "lmgraph[local]"',
        ) from error
    lacking = [part for part in ("name", "Config", "optimize") if not hasattr(loaded, part)]
    if lacking or not isinstance(loaded, type):
        raise PluginError(
            f"`{entry.value}` (from {entry.distribution}) is no optimizer: it lacks {', '.join(lacking) or 'a class'}.",
            hint="see optimizers/README.md for the contract",
        )
    return loaded


def make_optimizer(name: str, options: Mapping[str, Any] | None = None) -> tuple[Optimizer, OptimizerConfig]:
    """The optimizer with its options checked. Raises: PluginError."""
    loaded = optimizer_class(name)
    try:
        config: OptimizerConfig = loaded.Config(**(options or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = ".".join(str(part) for part in first["loc"])
        known = list(loaded.Config.model_fields)
        if first["type"] == "extra_forbidden":
            problem = f"Optimizer `{name}` has no option `{option}`.{_meant(option, known)}"
        else:
            problem = f"Optimizer `{name}`, option `{option}`: {first['msg']}, got {first.get('input')!r}."
        raise PluginError(problem, hint=f"its options are: {', '.join(known)}") from None
    optimizer: Optimizer = loaded(config)
    return optimizer, config


def _meant(name: str, known: Iterable[str]) -> str:
    near = suggest(name, known)
    return f" Did you mean `{near[0]}`?" if near else ""


def _origin(point: EntryPoint) -> str:
    return f"{point.value} (from {_distribution(point)})"


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown distribution"
