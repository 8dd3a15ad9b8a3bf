"""Options of an engine that cannot be right."""

from __future__ import annotations

import math

from lmgraph.errors import ConfigError


def positive(engine: str, options: object, *names: str) -> None:
    """Raises: ConfigError if one of these options is no finite number above 0."""
    for name in names:
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ConfigError(f"the {engine} engine's `{name}` must be a number above 0, got {value!r}.")
