"""Which engine serves which LM of a program.

Engines are found through the entry-point group `lmgraph.engines`: a callable (model, **options) -> Engine. Where URLs
are bound, it gets them as the option `urls`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from lmgraph.errors import ConfigError, EngineUnavailable, PluginError
from lmgraph.graph.graph import DEFAULT_LM, Graph
from lmgraph.runtime.addresses import check_clearance, split_place
from lmgraph.runtime.engine import Engine, EngineSpec, RemoteEngine

GROUP = "lmgraph.engines"
DEFAULT_ENGINE = "local"
DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True, slots=True)
class Binding:
    """What a person asked for: None leaves it to the program, and then to the defaults."""

    engine: str | None = None
    model: str | None = None
    urls: tuple[str, ...] = ()
    """Where the engine is, for engines that run elsewhere."""

    @staticmethod
    def parse(text: str) -> Binding:
        """`local:smollm2-135m`, `local`, `sglang:URL,URL`, `openai:MODEL@URL`, or a model alone: `Qwen/Qwen3-1.7B`,
        `./folder`. Raises: ConfigError for an unknown engine or a bad URL."""
        kind, colon, place = text.partition(":")
        if kind in engine_kinds():
            return Binding(kind, *split_place(place))
        if kind in ("http", "https"):
            raise ConfigError(
                f"`{text}` is a URL without an engine.", hint=f"say which: sglang:{text} or openai:MODEL@{text}"
            )
        if colon and "/" not in kind and len(kind) > 1:
            raise _unknown(kind)
        return Binding(None, text)

    @staticmethod
    def parse_engine(text: str) -> Binding:
        """As ``parse``, where an engine must come first; one that is not installed is reported when it is opened."""
        kind, _, place = text.partition(":")
        return Binding(kind, *split_place(place))


class Bindings:
    """Opens each engine once and shares it between the LMs that name the same model at the same place.

    ``lms`` binds by name; ``everything`` applies to LMs it does not name. Ready engines may be given in place of
    bindings. ``options`` are those of each kind of engine.
    """

    def __init__(
        self,
        lms: Mapping[str, Binding | Engine] | None = None,
        everything: Binding | Engine | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._lms = dict(lms or {})
        self._everything = everything
        self._options = dict(options or {})
        self._open: dict[tuple[str, str, tuple[str, ...]], Engine] = {}

    async def engine(self, graph: Graph, lm: str) -> Engine:
        """The engine for one LM of the graph.

        Raises: ConfigError for an unknown engine kind, or a place that a private LM must not be bound to;
        EngineUnavailable where its model, its packages or its server are missing.
        """
        private = any(spec.name == lm and spec.clearance == "private" for spec in graph.lms)
        chosen = self._lms.get(lm, self._everything)
        if chosen is not None and not isinstance(chosen, Binding):
            engine: Engine = chosen
        else:
            kind, model = self.resolve(graph, lm)
            urls = () if chosen is None else chosen.urls
            if private:
                check_clearance(lm, urls, os.environ)
            if (kind, model, urls) not in self._open:
                options = {**self._options.get(kind, {}), **({"urls": urls} if urls else {})}
                self._open[kind, model, urls] = await open_engine(EngineSpec(kind, model, options))
            engine = self._open[kind, model, urls]
        if private and isinstance(engine, RemoteEngine):
            check_clearance(lm, engine.urls, os.environ)
        return engine

    def resolve(self, graph: Graph, lm: str) -> tuple[str, str]:
        """(engine kind, model) for an LM that no ready engine serves; the model is empty where a URL is bound and
        nobody names one: then it is what is served there."""
        chosen = self._lms.get(lm, self._everything)
        asked = chosen if isinstance(chosen, Binding) else Binding()
        declared = graph.lm(lm) if lm != DEFAULT_LM or any(spec.name == lm for spec in graph.lms) else None
        kind = asked.engine or (declared.engine if declared else None) or DEFAULT_ENGINE
        model = asked.model or (declared.model if declared else None) or ("" if asked.urls else DEFAULT_MODEL)
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
    if spec.kind == DEFAULT_ENGINE and "urls" in spec.options:
        raise ConfigError(
            "The local engine runs inside this process and takes no URL.",
            hint=f"for a server: sglang:{spec.options['urls'][0]}",
        )
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
