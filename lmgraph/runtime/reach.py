"""What a run can reach: asked of the graph before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from lmgraph.errors import ConfigError
from lmgraph.graph.graph import Graph
from lmgraph.graph.nodes import ExternCall, FlowCall, LmCall, LoopNode, Region
from lmgraph.graph.walk import inner_regions, walk


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
