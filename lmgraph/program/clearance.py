"""Adapters and clearances: weights hold what they were trained on, so they are as private as the LM they served."""

from __future__ import annotations

from lmgraph.graph.graph import Graph
from lmgraph.program.fingerprints import lm_of
from lmgraph.program.params import Params


def mixed_adapters(graph: Graph, params: Params) -> list[str]:
    """A sentence for each adapter of a module whose LM sees private values that serves one whose LM must not, too."""
    users: dict[str, dict[str, str]] = {}
    for module in graph.modules:
        known = params.modules.get(module.name)
        if known is not None and known.adapter is not None:
            users.setdefault(known.adapter, {}).setdefault(lm_of(graph, module).clearance, module.name)
    return [
        f"`{one['private']}`, whose LM `{lm_of(graph, graph.module(one['private'])).name}` sees private values, and"
        f" `{one['public']}`, whose LM `{lm_of(graph, graph.module(one['public'])).name}` must not, share the adapter"
        f" {adapter}"
        for adapter, one in sorted(users.items())
        if len(one) > 1
    ]
