"""Models and modules: the settings of `lm` and `module` declarations, and the specs they become."""

from __future__ import annotations

from dataclasses import replace

from lmgraph.compiler.blocks import Settings
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.reporter import Reporter
from lmgraph.graph.graph import DEFAULT_LM, LmSpec, ModuleSpec, Strategy
from lmgraph.source.diagnostic import Label
from lmgraph.syntax import tree

LM_SETTINGS = ("model", "engine", "temperature", "clearance")
MODULE_SETTINGS = ("lm", "strategy", "max_tokens", "temperature", "retries", "optimize")
STRATEGIES: dict[str, Strategy] = {"predict": "predict", "cot": "cot"}
LATER_STRATEGIES = ("react", "best_of")
LATER_SETTINGS = ("tools", "max_steps", "samples", "select")
"""Settings of strategies that are not compiled yet."""

REASONING = "reasoning"
"""The output that the strategy `cot` puts first."""

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


def read_module(declaration: tree.Module, declarations: Declarations, reporter: Reporter) -> ModuleSpec:
    name = declaration.name.text
    signature = declarations.signature(declaration)
    later = _uses_later_strategy(declaration)
    known = MODULE_SETTINGS + LATER_SETTINGS if later else MODULE_SETTINGS
    settings = Settings(f"module `{name}`", declaration.entries, known, reporter)
    lm = settings.name("lm")
    if lm is not None:
        declarations.names.find(lm.name, lm.span, tree.Lm)
    strategy = STRATEGIES.get(settings.word("strategy", tuple(STRATEGIES), later=LATER_STRATEGIES) or "predict")
    taken = next((node for node in declaration.signature.outputs if node.name.text == REASONING), None)
    if strategy == "cot" and taken is not None:
        reporter.error(
            "E0202",
            taken.name.span,
            f"`{REASONING}` is the output that the strategy `cot` adds itself",
            secondary=[Label(settings.span("strategy"), "the strategy is chosen here")],
            help="leave the output out, or choose another name",
        )
    max_tokens = settings.integer("max_tokens", 1, MOST_TOKENS)
    optimize = settings.flag("optimize")
    spec = ModuleSpec(
        name=name,
        inputs=signature.inputs,
        outputs=signature.outputs,
        instruction=declaration.doc or "",
        strategy=strategy or "predict",
        lm=lm.name if lm else DEFAULT_LM,
        temperature=settings.number("temperature", 0, HOTTEST),
        retries=settings.integer("retries", 0, MOST_RETRIES) or 0,
        optimize=True if optimize is None else optimize,
    )
    return spec if max_tokens is None else replace(spec, max_tokens=max_tokens)


def _uses_later_strategy(declaration: tree.Module) -> bool:
    return any(
        entry.key.text == "strategy"
        and isinstance(entry.value, tree.Reference)
        and entry.value.name in LATER_STRATEGIES
        for entry in declaration.entries
    )
