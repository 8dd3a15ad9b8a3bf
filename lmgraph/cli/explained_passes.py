"""What `lmgraph compile --explain` says of passes, prompts and decode constraints."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lmgraph.cli import common
from lmgraph.graph.graph import Graph, ModuleSpec
from lmgraph.passes import PASSES, Changes, late_inputs, steps
from lmgraph.program.params import NodeParams
from lmgraph.runtime.engine import Choices, JsonSchema, Regex
from lmgraph.runtime.parse import OutputForm
from lmgraph.runtime.prompt import system_text

SHOWN = 6
"""Ids of one pass that are named."""


def passes_text(graph: Graph, off: Collection[str]) -> Iterator[str]:
    """What each pass saves."""
    yield "passes"
    done = {step.made_by.name: step.changes for step in steps(graph, off)}
    for one in PASSES:
        told = "off" if one.name not in done else ", ".join(_saved(done[one.name])) or "nothing to do"
        yield f"  {one.name}: {told}"
        if done.get(one.name):
            yield f"    {_named(done[one.name])}"


def _saved(changes: Changes) -> Iterator[str]:
    if changes.removed:
        yield common.count(len(changes.removed), "node") + " fewer"
    if changes.calls:
        yield common.count(len(changes.calls), "call") + " fewer"
    for ids, done in ((changes.moved, "moved"), (changes.rewritten, "rewritten")):
        if ids:
            yield f"{common.count(len(ids), 'node')} {done}"
    if changes.reordered:
        yield "another order in " + common.count(len(changes.reordered), "region")


def _named(changes: Changes) -> str:
    ids = list(
        dict.fromkeys((*changes.removed, *changes.calls, *changes.moved, *changes.rewritten, *changes.reordered))
    )
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def prompts_text(graph: Graph) -> Iterator[str]:
    """Of each module: the static part of its prompt, what it may write, and how decoding is held to its type."""
    if not graph.modules:
        return
    yield "prompts: instruction, fields and demos first, which all calls of a module share; then inputs as declared"
    for module in graph.modules:
        static = len(system_text(module, NodeParams(module.instruction), OutputForm.of(module)))
        written = common.count(module.max_tokens, "token")
        yield f"  {module.name}: a context for {static:,} characters or more, and {written} written; {_held(module)}"
    for late in late_inputs(graph):
        same = " and ".join(late.same)
        verb = "is" if len(late.same) == 1 else "are"
        yield f"  {late.call}: {same} {verb} the same in each call; declared before {late.differs} it is shared"


def _held(module: ModuleSpec) -> str:
    form = OutputForm.of(module)
    match form.constraint:
        case Choices(options=options):
            return f"decoded as one of {common.count(len(options), 'text')}"
        case Regex(pattern=pattern):
            return f"decoded as {pattern}"
        case JsonSchema():
            names = ", ".join(field.name for field in form.fields)
            return f"decoded as JSON with {names}" if form.bare is None else "decoded as a JSON value"
        case None:
            return "decoded freely"
