"""What may act, what must succeed, and what a run can reach: asked of the graph before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from lmgraph.errors import ConfigError
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import CheckNode, ExternCall, FlowCall, LmCall, LoopNode, Node, Region
from lmgraph.graph.walk import inner_regions, walk


class Effects:
    """Answers about nodes of one graph, flows they call included. What it found out of a flow it remembers."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._acting: dict[str, bool] = {}
        self._guarding: dict[str, bool] = {}

    def acts(self, node: Node) -> bool:
        """Whether it is a call of a tool, or holds one."""
        if isinstance(node, ExternCall):
            return node.kind == "tool.call"
        if isinstance(node, FlowCall):
            if node.flow not in self._acting:
                self._acting[node.flow] = any(map(self.acts, self._graph.flow(node.flow).body.nodes))
            return self._acting[node.flow]
        return any(self.acts(inner) for region in inner_regions(node) for inner in region.nodes)

    def must_succeed(self, node: Node) -> bool:
        """Whether it is an assert or a call of a tool, or holds one: where it fails, its region does."""
        if isinstance(node, CheckNode):
            return node.kind == "assert"
        if isinstance(node, ExternCall):
            return node.kind == "tool.call"
        if isinstance(node, FlowCall):
            if node.flow not in self._guarding:
                self._guarding[node.flow] = any(map(self.must_succeed, self._graph.flow(node.flow).body.nodes))
            return self._guarding[node.flow]
        return any(self.must_succeed(inner) for region in inner_regions(node) for inner in region.nodes)


@dataclass(frozen=True, slots=True)
class Reach:
    """Names of what running a region may call, each once, in source order. Stubbed names are left out."""

    modules: tuple[str, ...]
    externs: tuple[str, ...]


def reach(graph: Graph, region: Region, stubs: Collection[str] = ()) -> Reach:
    """What can be called where the modules, externs and flows named in ``stubs`` are answered by stubs.

    With a module its derived ones are stubbed, and the tools that only they would choose are not called.
    """
    modules: dict[str, None] = {}
    externs: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [region]
    while waiting:
        for node in _called(graph, waiting.pop(0), stubs):
            match node:
                case LmCall(module=name):
                    modules[name] = None
                case ExternCall(extern=name):
                    externs[name] = None
                case FlowCall(flow=name) if name not in seen:
                    seen.add(name)
                    waiting.append(graph.flow(name).body)
                case _:
                    pass
    return Reach(tuple(modules), tuple(externs))


def is_stubbed(graph: Graph, module: str, stubs: Collection[str]) -> bool:
    return module in stubs or graph.module(module).derived_from in stubs


def _called(graph: Graph, region: Region, stubs: Collection[str]) -> Iterator[LmCall | ExternCall | FlowCall]:
    for node in region.nodes:
        match node:
            case LmCall(module=name):
                if not is_stubbed(graph, name, stubs):
                    yield node
            case ExternCall(extern=name) | FlowCall(flow=name):
                if name not in stubs:
                    yield node
            case _:
                unused = _unused_tools(graph, node, stubs) if isinstance(node, LoopNode) else frozenset[str]()
                for inner in inner_regions(node):
                    for call in _called(graph, inner, stubs):
                        if not (isinstance(call, ExternCall) and call.extern in unused):
                            yield call


def _unused_tools(graph: Graph, loop: LoopNode, stubs: Collection[str]) -> frozenset[str]:
    """Tools of a stubbed `react` module whose loop this is: its stubbed step finishes at once."""
    steps = {node.module for node in walk(loop.body) if isinstance(node, LmCall)}
    bases = {graph.module(step).derived_from for step in steps if step not in stubs}
    return frozenset(tool for base in bases if base is not None and base in stubs for tool in graph.module(base).tools)


def refuse_tools(graph: Graph, externs: Iterable[str], what: str) -> None:
    """Raises: ConfigError naming the first tool among ``externs``, which ``what`` may call."""
    for name in externs:
        if graph.extern(name).kind == "tool":
            raise ConfigError(
                f"{what} may call the tool `{name}`, which may act outside the program.",
                hint=f"allow it with --allow-effects, or stub `{name}`",
            )
