"""How much each lint matters to a project: the table `[lints]` of lmgraph.toml, and what it makes of diagnostics.

    [lints]
    unused_value = "error"
    W0012 = "off"

Errors have no levels.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from lmgraph.errors import ConfigError
from lmgraph.source.codes import CODES
from lmgraph.source.diagnostic import Diagnostic
from lmgraph.source.suggest import did_you_mean

Level = Literal["off", "warning", "error"]
Levels: TypeAlias = Mapping[str, Level]
"""By code; a lint that is not there is a warning."""

SETTINGS_FILE = "lmgraph.toml"
LINTS = {info.name: info.code for info in CODES.values() if info.name}
"""Code of each lint by its name."""


def levels_of(program: Path) -> Levels:
    """The levels that lmgraph.toml says beside the program, or else in the current folder.

    Raises: ConfigError where the file cannot be read, or its table says what it cannot say.
    """
    for folder in (program.parent, Path()):
        path = folder / SETTINGS_FILE
        if path.is_file():
            return read_levels(path)
    return {}


def read_levels(path: Path) -> Levels:
    """The table `[lints]` of the file. Raises: ConfigError."""
    try:
        table: Any = tomllib.loads(path.read_text("utf-8")).get("lints", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", hint="mend it, or run from another folder") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: `lints` is not a table.", hint='write [lints] and under it unused_value = "off"')
    found: dict[str, Level] = {}
    for name, level in table.items():
        code = _code(name, path)
        if level not in get_args(Level):
            near = did_you_mean(str(level), get_args(Level))
            raise ConfigError(
                f"{path}: [lints] {name} is {level!r}, which is no level.",
                hint=near or 'write "off", "warning" or "error"',
            )
        if code in found:
            raise ConfigError(
                f"{path}: [lints] has {name} twice: it is {code} {CODES[code].name}.", hint="delete one of the two"
            )
        found[code] = level
    return found


def _code(name: str, path: Path) -> str:
    code = LINTS.get(name, name.upper())
    if code in CODES and CODES[code].name:
        return code
    if code in CODES:
        raise ConfigError(
            f"{path}: [lints] has {name}, which is no lint.",
            hint="errors have no levels, nor has what is told of artifacts; delete the line",
        )
    near = did_you_mean(name, [*LINTS, *LINTS.values()])
    raise ConfigError(
        f"{path}: [lints] has {name}, and there is no such lint.", hint=near or f"the lints are {', '.join(LINTS)}"
    )


def with_levels(diagnostics: Iterable[Diagnostic], levels: Levels) -> tuple[Diagnostic, ...]:
    """The diagnostics that are wanted; lints that matter as much are errors."""
    found: list[Diagnostic] = []
    for one in diagnostics:
        level = levels.get(one.code, one.severity)
        if level == "off":
            continue
        if level != one.severity:
            note = f"{SETTINGS_FILE} says that {CODES[one.code].name} is an error"
            one = replace(one, severity="error", notes=(*one.notes, note))
        found.append(one)
    return tuple(found)
