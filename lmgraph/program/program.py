"""Program = Graph + Params. Both are immutable; a tuned program is another Program with the same graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from lmgraph.errors import ConfigError
from lmgraph.graph.dump import content_hash
from lmgraph.graph.graph import Graph
from lmgraph.program.params import Params, params_hash


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    graph: Graph
    params: Params
    root: Path
    """Folder that the program's files (data, Python references) are relative to."""

    @staticmethod
    def default(graph: Graph, root: Path | None = None) -> Program:
        """The program as its author wrote it."""
        return Program(graph, Params.default(graph), (root or Path()).resolve())

    def with_params(self, params: Params) -> Program:
        return replace(self, params=params)

    @property
    def hash(self) -> str:
        """Of graph and parameters: what traces name a program by."""
        return f"{graph_hash(self.graph)[:16]}+{params_hash(self.params)[:16]}"

    def flow_name(self, flow: str | None = None) -> str:
        """``flow`` checked, or the program's entry. Raises: ConfigError naming the flows there are."""
        names = [spec.name for spec in self.graph.flows]
        if flow is not None:
            if flow not in names:
                raise ConfigError(f"The program has no flow `{flow}`.", hint=f"choose one of: {', '.join(names)}")
            return flow
        if self.graph.entry is None:
            if not names:
                raise ConfigError("The program has no flow and no single module to run.")
            raise ConfigError(
                f"The program has several flows ({', '.join(names)}) and no objective that says which one runs.",
                hint="name one with --flow",
            )
        return self.graph.entry


class _ByIdentity:
    """A graph compared by identity: hashing its whole content on every look-up would cost what the cache saves."""

    __slots__ = ("graph",)

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.graph is self.graph

    def __hash__(self) -> int:
        return id(self.graph)


@lru_cache(maxsize=64)
def _cached_hash(key: _ByIdentity) -> str:
    return content_hash(key.graph)


def graph_hash(graph: Graph) -> str:
    """Content hash, computed once a graph object."""
    return _cached_hash(_ByIdentity(graph))
