"""Models and modules: the settings of `lm` and `module` declarations, and the specs they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lmgraph.compiler.blocks import Settings
from lmgraph.compiler.checker import require_text
from lmgraph.compiler.constraints import Conditions
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.strategies import STRATEGIES, read_strategy
from lmgraph.graph.graph import DEFAULT_LM, LmSpec, ModuleSpec, OutputCheck
from lmgraph.syntax import tree

LM_SETTINGS = ("model", "engine", "temperature", "clearance")
MODULE_SETTINGS = (
    "lm", "strategy", "max_tokens", "temperature", "retries", "optimize",
    "tools", "max_steps", "samples", "select", "of",
)  # fmt: skip

MOST_TOKENS = 1_000_000
MOST_RETRIES = 10
HOTTEST = 2.0


def read_lm(declaration: tree.Lm, reporter: Reporter) -> LmSpec:
    settings = Settings(f"lm `{declaration.name.text}`", declaration.block.entries, LM_SETTINGS, reporter)
    engine = settings.expression("engine")
    return LmSpec(
        name=declaration.name.text,
        model=settings.text("model"),
        engine=engine.name if isinstance(engine, tree.Reference) else settings.text("engine"),
        temperature=settings.number("temperature", 0, HOTTEST),
        clearance="private" if settings.word("clearance", ("public", "private")) == "private" else "public",
    )


class Modules:
    """The spec of each module, read once; an instance starts from the spec of what it was made from."""

    def __init__(self, declarations: Declarations, conditions: Conditions, reporter: Reporter) -> None:
        self._declarations = declarations
        self._conditions = conditions
        self._reporter = reporter
        self._specs: dict[str, ModuleSpec] = {}

    def read(self, declaration: tree.Module | tree.Instance) -> ModuleSpec | None:
        """The module's spec; None for an instance whose base was reported."""
        if self._declarations.base_of(declaration) is None:
            return None
        waiting = [declaration]
        while isinstance(last := waiting[-1], tree.Instance) and last.name.text not in self._specs:
            waiting.append(self._made_from(last))
        for one in reversed(waiting):
            if one.name.text not in self._specs:
                read = self._module(one) if isinstance(one, tree.Module) else self._instance(one)
                self._specs[one.name.text] = read
        return self._specs[declaration.name.text]

    def _made_from(self, declaration: tree.Instance) -> tree.Module | tree.Instance:
        base = self._declarations.names.find_module(declaration.base.text, declaration.base.span)
        assert base is not None, "the chain of bases ends in a module"
        return base

    def _module(self, declaration: tree.Module) -> ModuleSpec:
        signature = self._declarations.signature(declaration)
        spec = ModuleSpec(
            name=declaration.name.text,
            inputs=signature.inputs,
            outputs=signature.outputs,
            instruction=declaration.doc or "",
            checks=self._checks(declaration),
        )
        return self._configured(spec, declaration, declaration.entries, declaration.signature)

    def _instance(self, declaration: tree.Instance) -> ModuleSpec:
        origin = self._specs[self._made_from(declaration).name.text]
        entries = declaration.block.entries if declaration.block else ()
        module = self._declarations.base_of(declaration)
        assert module is not None
        return self._configured(replace(origin, name=declaration.name.text), declaration, entries, module.signature)

    def _configured(
        self,
        spec: ModuleSpec,
        declaration: tree.Module | tree.Instance,
        entries: Sequence[tree.Entry],
        signature: tree.Signature,
    ) -> ModuleSpec:
        """The spec with what the block says; what it does not say stays."""
        settings = Settings(f"module `{spec.name}`", entries, MODULE_SETTINGS, self._reporter)
        lm = settings.name("lm")
        if lm is not None:
            found = self._declarations.names.find(lm.name, lm.span, tree.Lm)
            spec = replace(spec, lm=found.name.text if found is not None else DEFAULT_LM)
        numbers: dict[str, Any] = {
            "max_tokens": settings.integer("max_tokens", 1, MOST_TOKENS),
            "retries": settings.integer("retries", 0, MOST_RETRIES),
            "temperature": settings.number("temperature", 0, HOTTEST),
            "optimize": settings.flag("optimize"),
        }
        spec = replace(spec, **{name: value for name, value in numbers.items() if value is not None})
        strategy = settings.word("strategy", STRATEGIES)
        return read_strategy(spec, strategy, settings, declaration, signature, self._declarations, self._reporter)

    def _checks(self, declaration: tree.Module) -> tuple[OutputCheck, ...]:
        signature = self._declarations.signature(declaration)
        nodes = (*declaration.signature.inputs, *declaration.signature.outputs)
        places = {node.name.text: node.name for node in nodes}
        names = {field.name: (field, places[field.name]) for field in (*signature.inputs, *signature.outputs)}
        found: list[OutputCheck] = []
        for node in declaration.checks:
            word = "assert" if isinstance(node, tree.Assert) else "check"
            require_text(node.message, node.span, f"the message of this `{word}`", self._reporter)
            condition = self._conditions.output_condition(node.condition, names)
            if condition is not None:
                found.append(OutputCheck(condition, node.message, isinstance(node, tree.Assert)))
        return tuple(found)
