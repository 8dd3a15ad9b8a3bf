"""Context lengths: the least that a call of a module needs, known as soon as its model is."""

from __future__ import annotations

from lmgraph.errors import ContextOverflow
from lmgraph.graph.graph import ModuleSpec
from lmgraph.program.params import NodeParams
from lmgraph.runtime.engine import Engine
from lmgraph.runtime.prompt import PromptRenderer


def check_context(module: ModuleSpec, lm: str, engine: Engine, renderer: PromptRenderer) -> None:
    """Refuses a module no call of which can fit its model's context, whatever it is given.

    What was learned does not count: an optimizer may try too many demos or too long a text, and that only scores badly.
    Raises: ContextOverflow (E0601).
    """
    if renderer.static_tokens + module.max_tokens <= engine.context_length:
        return
    as_declared = PromptRenderer(module, NodeParams(module.instruction), engine.tokenizer)
    static, written = min(renderer.static_tokens, as_declared.static_tokens), module.max_tokens
    if static + written > engine.context_length:
        raise ContextOverflow(
            f"Module `{module.name}` needs at least {static + written:,} tokens of context: {static:,} of instruction"
            f" and fields, and max_tokens = {written:,}. {engine.model_id}, which serves LM `{lm}`,"
            f" has {engine.context_length:,} [E0601].",
            hint="lower its max_tokens, shorten its instruction, or bind its LM to another model",
        )
