"""The optimizers that are installed, in words, and their options from the command line."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmgraph.errors import ConfigError, PluginError


@dataclass(frozen=True, slots=True)
class OptionInfo:
    name: str
    type: str
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class OptimizerInfo:
    name: str
    distribution: str
    summary: str
    options: tuple[OptionInfo, ...]
    problem: str | None = None
    """Why it cannot be used, or None."""

    def to_data(self) -> dict[str, Any]:
        """JSON-ready."""
        options = [
            {
                "name": f"{self.name}.{one.name}",
                "type": one.type,
                "default": one.default,
                "description": one.description,
            }
            for one in self.options
        ]
        return {
            "name": self.name,
            "distribution": self.distribution,
            "summary": self.summary,
            "options": options,
            "problem": self.problem,
        }


def installed_optimizers() -> list[OptimizerInfo]:
    """Every registered optimizer. Raises: PluginError if two distributions claim one name."""
    from lmgraph.optimize.registry import list_optimizers, optimizer_class

    found = []
    for entry in list_optimizers():
        try:
            loaded = optimizer_class(entry.name)
        except PluginError as error:
            found.append(OptimizerInfo(entry.name, entry.distribution, "", (), error.message))
            continue
        # The class's own text often names the registry only; its module says what the algorithm is.
        module = inspect.getmodule(loaded)
        text = inspect.getdoc(module) or inspect.getdoc(loaded) or ""
        options = tuple(_option(name, field) for name, field in loaded.Config.model_fields.items())
        found.append(OptimizerInfo(entry.name, entry.distribution, text.split("\n\n")[0].replace("\n", " "), options))
    return found


def describe_optimizers(optimizers: Sequence[OptimizerInfo]) -> str:
    """For people."""
    parts = ["Installed optimizers" if optimizers else "No optimizer is installed."]
    for one in optimizers:
        parts.append(f"\n  {one.name}  ({one.distribution})  {one.summary or one.problem}")
        width = max((len(option.name) for option in one.options), default=0)
        for option in one.options:
            name = f"--{one.name}.{option.name.ljust(width)}"
            parts.append(f"    {name}  {option.type}, default {option.default}  {option.description}".rstrip())
    return "\n".join(parts)


def stage_options(names: Sequence[str], flags: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Options by optimizer, from `--NAME.OPTION VALUE`. Values are checked by the optimizer's own Config.

    Raises: ConfigError for a flag that belongs to no stage.
    """
    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    for flag, text in flags:
        name, dot, option = flag.partition(".")
        if not dot:
            raise ConfigError(
                f"There is no option --{flag}.",
                hint=f"an optimizer's option begins with its name: --{names[0]}.{flag}; see `lmgraph optimize --list`",
            )
        if name not in options:
            raise ConfigError(
                f"--{flag} is an option of `{name}`, which is not among the stages: {', '.join(names)}.",
                hint=f"add it to --with, or leave --{flag} out",
            )
        options[name][option.replace("-", "_")] = _value(text)
    return options


def _value(text: str) -> Any:
    """JSON where it is JSON (numbers, true, null, lists), else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _option(name: str, field: Any) -> OptionInfo:
    annotation = field.annotation
    type_ = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
    default = "none" if field.is_required() else json.dumps(field.get_default(call_default_factory=True), default=str)
    return OptionInfo(name, type_, default, field.description or "")
