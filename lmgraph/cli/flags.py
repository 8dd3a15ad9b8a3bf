"""Flags that only the program or a plug-in knows: `--question "..."`, `--demos.max_demos 4`.

typer hands on what it does not know, in the order it was written. Every such flag takes a value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmgraph.errors import ConfigError
from lmgraph.graph.types import EnumType, Field, ListType, LiteralType, OptionalType, ScalarType, Type, UnionType
from lmgraph.source.suggest import did_you_mean

FREE_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of a command that takes them."""


@dataclass(frozen=True, slots=True)
class FreeArguments:
    positional: tuple[str, ...]
    flags: tuple[tuple[str, str], ...]
    """(name without dashes, value), repeats included."""


def split_arguments(arguments: Sequence[str]) -> FreeArguments:
    """Raises: ConfigError for a flag without a value."""
    positional: list[str] = []
    flags: list[tuple[str, str]] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--"):
            positional.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise ConfigError(f"The option --{name} has no value.", hint=f"write --{name} VALUE")
            value = following
        flags.append((name, value))
    return FreeArguments(tuple(positional), tuple(flags))


def read_inputs(flags: Sequence[tuple[str, str]], fields: Sequence[Field], flow: str) -> dict[str, Any]:
    """Values of a flow's inputs from flags of their names. Raises: ConfigError."""
    known = {field.name: field for field in fields}
    texts: dict[str, list[str]] = {}
    for name, text in flags:
        found = name if name in known else name.replace("-", "_")
        if found not in known:
            close = did_you_mean(name, known)
            takes = ", ".join(f"--{field.name} ({field.type})" for field in fields) or "no inputs"
            raise ConfigError(
                f"Flow `{flow}` has no input `{name}`, and the command no option --{name}.",
                hint=f"{close} " * bool(close) + f"the flow takes {takes}",
            )
        texts.setdefault(found, []).append(text)
    return {name: _value(known[name], given) for name, given in texts.items()}


def _value(field: Field, texts: Sequence[str]) -> Any:
    if isinstance(field.type, ListType) and _is_text(field.type.element):
        if len(texts) == 1 and texts[0].lstrip().startswith("["):
            return _json(field, texts[0])
        return list(texts)
    if len(texts) > 1:
        raise ConfigError(f"The input --{field.name} is given {len(texts)} times.", hint="give it once")
    return texts[0] if _is_text(field.type) else _json(field, texts[0])


def _is_text(type_: Type) -> bool:
    """Whether a value is written as it stands, without quotes."""
    match type_:
        case ScalarType(name=name):
            return name == "str"
        case EnumType():
            return True
        case LiteralType(values=values):
            return all(isinstance(value, str) for value in values)
        case OptionalType(inner=inner):
            return _is_text(inner)
        case UnionType(options=options):
            return all(_is_text(option) for option in options)
        case _:
            return False


def _json(field: Field, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(
            f"The input --{field.name} is a {field.type}, and {text!r} is no JSON.",
            hint="write it as JSON, in quotes for the shell",
        ) from None
