"""Which engine serves which LM of a program.

Engines are found through the entry-point group `lmgraph.engines`: a callable (model, **options) -> Engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from lmgraph.errors import ConfigError, EngineUnavailable, PluginError
from lmgraph.graph.graph import DEFAULT_LM, Graph
from lmgraph.runtime.engine import Engine, EngineSpec

GROUP = "lmgraph.engines"
DEFAULT_ENGINE = "local"
DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True, slots=True)
class Binding:
    """What a person asked for: None leaves it to the program, and then to the defaults."""

    engine: str | None = None
    model: str | None = None

    @staticmethod
    def parse(text: str) -> Binding:
        """`local:smollm2-135m`, `local`, or a model alone: `Qwen/Qwen3-1.7B`, `./folder`."""
        kind, colon, model = text.partition(":")
        if colon and kind in engine_kinds():
            return Binding(kind, model or None)
        if text in engine_kinds():
            return Binding(text, None)
        if colon and "/" not in kind and len(kind) > 1:
            raise _unknown(kind)
        return Binding(None, text)


class Bindings:
    """Opens each engine once and shares it between the LMs that name the same model.

    ``lms`` binds by name; ``everything`` applies to LMs it does not name. Ready engines may be given in place of
    bindings.
    """

    def __init__(
        self,
        lms: Mapping[str, Binding | Engine] | None = None,
        everything: Binding | Engine | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._lms = dict(lms or {})
        self._everything = everything
        self._options = dict(options or {})
        self._open: dict[tuple[str, str], Engine] = {}

    async def engine(self, graph: Graph, lm: str) -> Engine:
        """The engine for one LM of the graph.

        Raises: ConfigError for an unknown engine kind; EngineUnavailable where its model or its packages are missing.
        """
        chosen = self._lms.get(lm, self._everything)
        if chosen is not None and not isinstance(chosen, Binding):
            return chosen
        kind, model = self.resolve(graph, lm)
        if (kind, model) not in self._open:
            self._open[kind, model] = await open_engine(EngineSpec(kind, model, self._options))
        return self._open[kind, model]

    def resolve(self, graph: Graph, lm: str) -> tuple[str, str]:
        """(engine kind, model) for an LM that no ready engine serves."""
        chosen = self._lms.get(lm, self._everything)
        asked = chosen if isinstance(chosen, Binding) else Binding()
        declared = graph.lm(lm) if lm != DEFAULT_LM or any(spec.name == lm for spec in graph.lms) else None
        kind = asked.engine or (declared.engine if declared else None) or DEFAULT_ENGINE
        model = asked.model or (declared.model if declared else None) or DEFAULT_MODEL
        return kind, model

    def check_names(self, graph: Graph) -> None:
        """Raises: ConfigError if an LM is bound that the program does not have."""
        known = {spec.name for spec in graph.lms} | {module.lm for module in graph.modules}
        if unknown := sorted(set(self._lms) - known):
            raise ConfigError(
                f"The program has no LM `{unknown[0]}` to bind.", hint=f"it has: {', '.join(sorted(known)) or 'none'}"
            )

    async def aclose(self) -> None:
        for engine in self._open.values():
            await engine.aclose()
        self._open.clear()


def engine_kinds() -> list[str]:
    return sorted({point.name for point in entry_points(group=GROUP)})


async def open_engine(spec: EngineSpec) -> Engine:
    """Raises: ConfigError for an unknown kind or one that two distributions claim, EngineUnavailable where it cannot
    start."""
    points = [point for point in entry_points(group=GROUP) if point.name == spec.kind]
    if not points:
        raise _unknown(spec.kind)
    if len({point.value for point in points}) > 1:
        claims = " and ".join(point.value for point in points)
        raise PluginError(f"Two engines are named `{spec.kind}`: {claims}.", hint="uninstall one of them")
    try:
        opener: Callable[..., Engine] = points[0].load()
    except Exception as error:
        raise EngineUnavailable(
            f"The engine `{spec.kind}` ({points[0].value}) does not import: {type(error).__name__}: {error}.",
            hint="install what it needs, or choose another with --engine",
        ) from error
    return await asyncio.to_thread(opener, spec.model, **spec.options)


def _unknown(kind: str) -> ConfigError:
    return ConfigError(
        f"There is no engine `{kind}`; there are: {', '.join(engine_kinds()) or 'none'}.",
        hint="give --engine local to run the model inside this process",
    )
