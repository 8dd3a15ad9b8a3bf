"""The passes in the order they run in, each checked behind."""

from __future__ import annotations

from collections.abc import Collection

from lmgraph.errors import ConfigError
from lmgraph.graph.graph import Graph
from lmgraph.graph.verify import verify
from lmgraph.passes.base import Pass, Step, changes
from lmgraph.passes.dead import remove_dead
from lmgraph.passes.filters import push_filters
from lmgraph.passes.fold import fold
from lmgraph.passes.hoist import hoist
from lmgraph.passes.limits import push_limits
from lmgraph.passes.schedule import schedule
from lmgraph.passes.share import share

PASSES = (
    Pass("fold", "what is known before the run is computed once", fold),
    Pass("hoist", "what no round of a loop changes is computed before it", hoist),
    Pass("share", "equal calls of an fn in one run are one call", share),
    Pass("filters", "elements that a later map leaves out are not made", push_filters),
    Pass("limits", "elements that nobody reads are not made", push_limits),
    Pass("dead", "what nothing reads is not computed", remove_dead),
    Pass("schedule", "of what can start at once, the longest chain of calls starts first", schedule),
)


def optimized(graph: Graph, off: Collection[str] = ()) -> Graph:
    """The graph after all passes but those named in ``off``.

    Raises: ConfigError for a name that is none; GraphInvariantError where a pass broke the graph.
    """
    done = steps(graph, off)
    return done[-1].graph if done else graph


def steps(graph: Graph, off: Collection[str] = ()) -> tuple[Step, ...]:
    """As `optimized`, with what each pass did."""
    check_names(off)
    done: list[Step] = []
    for one in PASSES:
        if one.name not in off:
            after = one.apply(graph)
            changed = changes(graph, after)
            if changed:
                verify(after)
                graph = after
            done.append(Step(one, graph, changed))
    return tuple(done)


def check_names(names: Collection[str]) -> None:
    """Raises: ConfigError for a pass that there is not."""
    known = [one.name for one in PASSES]
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"There is no pass `{unknown[0]}`.", hint=f"the passes are: {', '.join(known)}")
