"""Strategies: how a module's LM is asked. Reads their settings, and derives the modules they call.

`predict` asks once. `cot` asks for reasoning first. `best_of` draws samples and keeps one. `react` lets the model call
tools, one step at a time, before it answers; its steps are calls of a derived module `M.step`. lower_strategies.py
makes the regions.
"""

from __future__ import annotations

from dataclasses import replace

from lmgraph.compiler.blocks import Settings
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import SignatureTypes
from lmgraph.compiler.relations import fits
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.graph.graph import ModuleSpec, Strategy
from lmgraph.graph.types import BOOL, FLOAT, STR, Field, ListType, LiteralType, RecordType, Type, UnionType
from lmgraph.source.diagnostic import Label
from lmgraph.syntax import tree

STRATEGIES: tuple[Strategy, ...] = ("predict", "cot", "react", "best_of")
SETTINGS_OF: dict[str, tuple[str, ...]] = {"react": ("tools", "max_steps"), "best_of": ("samples", "select", "of")}

REASONING = "reasoning"
"""The output that thinking first puts before the others."""

STEPS = "steps"
"""The input of a react module that holds what its tools have given so far."""

FINISH = "finish"
"""The action that ends a react module's steps."""

DEFAULT_STEPS = 6
MOST_STEPS = 1_000
MOST_TOOLS = 32
"""The choice of a tool nests one branch a tool."""

DEFAULT_SAMPLES = 4
MOST_SAMPLES = 1_000
SAMPLING_TEMPERATURE = 0.7
"""Of `best_of` where neither the module nor its lm sets one: at 0 every sample is the same."""


def read_strategy(
    spec: ModuleSpec,
    strategy: str | None,
    settings: Settings,
    declaration: tree.Module | tree.Instance,
    signature: tree.Signature,
    declarations: Declarations,
    reporter: Reporter,
) -> ModuleSpec:
    """The spec with its strategy and the strategy's settings."""
    if strategy is not None and strategy != spec.strategy:
        chosen = next(one for one in STRATEGIES if one == strategy)
        spec = replace(spec, strategy=chosen, reasons=False, tools=(), max_steps=0, samples=1, select=None)
        spec = replace(spec, reasons=True) if chosen == "cot" else spec
    for owner, keys in SETTINGS_OF.items():
        for key in keys:
            if key in settings and spec.strategy != owner and ("strategy" not in settings or strategy is not None):
                reporter.error(
                    "E0203",
                    settings.span(key),
                    f"`{key}` belongs to the strategy `{owner}`; this module has `{spec.strategy}`",
                    help=f"write `strategy: {owner}`, or leave `{key}` out",
                )
    if spec.strategy == "react":
        spec = _react(spec, settings, declaration, declarations, reporter)
    elif spec.strategy == "best_of":
        spec = _best_of(spec, settings, declaration, declarations, reporter)
    span = settings.span("strategy") if "strategy" in settings else declaration.name.span
    chosen_here = Label(span, "the strategy is chosen here")
    reserved = [(REASONING, signature.outputs)] if spec.reasons else []
    reserved += [(STEPS, signature.inputs)] if spec.strategy == "react" else []
    for name, nodes in reserved:
        node = next((one for one in nodes if one.name.text == name), None)
        if node is not None:
            reporter.error(
                "E0202",
                node.name.span,
                f"`{name}` is a field that the strategy `{spec.strategy}` adds itself",
                secondary=[chosen_here],
                help="choose another name for yours",
            )
    return spec


# -- react -----------------------------------------------------------------------------------------------------------


def _react(
    spec: ModuleSpec,
    settings: Settings,
    declaration: tree.Module | tree.Instance,
    declarations: Declarations,
    reporter: Reporter,
) -> ModuleSpec:
    tools: list[str] = []
    value = settings.expression("tools")
    for node in value.items if isinstance(value, tree.ListExpression) else ():
        if not isinstance(node, tree.Reference):
            reporter.error("E0312", node.span, "`tools` must be a list of names, such as `[search]`")
            continue
        found = declarations.names.find(node.name, node.span, tree.Extern)
        if found is None:
            continue
        clash = next((one for one in found.signature.inputs if one.name.text == "tool"), None)
        if clash is not None:
            reporter.error(
                "E0202", clash.name.span, "a tool of a `react` module cannot have an input `tool`: it names the action",
                secondary=[Label(node.span, "used as a tool here")], help="rename the input",
            )  # fmt: skip
        elif found.name.text in tools:
            reporter.error("E0202", node.span, f"`{node.name}` is named twice", help="delete one of the two")
        elif found.name.text == FINISH:
            reporter.error("E0202", node.span, f"`{FINISH}` is the action that ends the steps", help="rename the tool")
        else:
            tools.append(found.name.text)
    if value is not None and (not isinstance(value, tree.ListExpression) or not value.items):
        reporter.error("E0312", value.span, "`tools` must be a list of names, such as `[search]`")
    inherited = isinstance(declaration, tree.Instance) and "strategy" not in settings
    if value is None and not spec.tools and not inherited:
        reporter.error(
            "E0312",
            settings.span("strategy") if "strategy" in settings else declaration.name.span,
            f"module `{spec.name}` has the strategy `react` and names no tools",
            help="add `tools: [search]`, with the names of declared tools, retrievers or fns",
        )
    if value is not None and len(tools) > MOST_TOOLS:
        reporter.error(
            "E0312", value.span, f"a module may have {MOST_TOOLS} tools; this one names {len(tools)}",
            help="give some of them to a module of their own",
        )  # fmt: skip
    steps = settings.integer("max_steps", 1, MOST_STEPS)
    return replace(spec, tools=tuple(tools) or spec.tools, max_steps=steps or spec.max_steps or DEFAULT_STEPS)


def step_type(module: str) -> RecordType:
    """What a react module's answer sees of one step."""
    return RecordType(f"{module}.step_taken", (Field("thought", STR), Field("action", STR), Field("observation", STR)))


def action_types(module: str, tools: tuple[SignatureTypes, ...]) -> tuple[RecordType, ...]:
    """The actions of a react module: one record a tool, told apart by the literal `tool`, and the one that ends."""
    found = [
        RecordType(
            f"{module}.{tool.name}_action",
            (Field("tool", LiteralType((tool.name,))), *(_given(field) for field in tool.inputs)),
        )
        for tool in tools
    ]
    return (*found, RecordType(f"{module}.{FINISH}_action", (Field("tool", LiteralType((FINISH,))),)))


def _given(field: Field) -> Field:
    """An input of a tool as the model has to write it: with no default, so that it is always there."""
    return replace(field, has_default=False, default=None)


def react_modules(spec: ModuleSpec, tools: tuple[SignatureTypes, ...], told: dict[str, str]) -> list[ModuleSpec]:
    """The module that answers from its steps, and the derived one that takes a step. ``told`` describes each tool."""
    steps = Field(STEPS, ListType(step_type(spec.name)), "what was done so far, and what came of it")
    actions = action_types(spec.name, tools)
    action: Type = actions[0] if len(actions) == 1 else UnionType(actions)
    goal = ", ".join(f"`{field.name}`" for field in spec.outputs)
    takes = {tool.name: ", ".join(f"{one.name}: {one.type}" for one in tool.inputs) for tool in tools}
    lines = [f"- {name}({inputs}){told[name]}" for name, inputs in takes.items()]
    instruction = "\n".join(
        [
            *([spec.instruction, ""] if spec.instruction else []),
            f"Take one step at a time until {goal} can be told. Choose one action:",
            *lines,
            f"- {FINISH}: enough is known.",
        ]
    )
    step = replace(
        spec,
        name=f"{spec.name}.step",
        inputs=(*spec.inputs, steps),
        outputs=(Field("thought", STR, "what is missing, in a few words"), Field("action", action)),
        instruction=instruction,
        checks=(),
        tools=(),
        max_steps=0,
        strategy="predict",
        derived_from=spec.name,
    )
    return [replace(spec, inputs=(*spec.inputs, steps)), step]


# -- best_of ---------------------------------------------------------------------------------------------------------


def _best_of(
    spec: ModuleSpec,
    settings: Settings,
    declaration: tree.Module | tree.Instance,
    declarations: Declarations,
    reporter: Reporter,
) -> ModuleSpec:
    samples = settings.integer("samples", 2, MOST_SAMPLES) or (spec.samples if spec.samples > 1 else DEFAULT_SAMPLES)
    inner = settings.word("of", ("predict", "cot"))
    select = settings.name("select")
    chosen = spec.select
    if select is not None and select.name == "vote":
        chosen = "vote"
    elif select is not None:
        found = _selector(select, declarations, reporter)
        chosen = found.name.text if found is not None else None
        if found is not None:
            _check_selector(spec, found, select, declarations, reporter)
    new = "strategy" in settings or "temperature" in settings
    if spec.temperature == 0 and new:
        reporter.error(
            "E0312",
            settings.span("temperature" if "temperature" in settings else "strategy"),
            "at temperature 0 every sample of `best_of` is the same",
            help=f"leave it out for {SAMPLING_TEMPERATURE}, or set it higher",
        )
    checked = any(not check.required for check in spec.checks)
    if "strategy" in settings and "select" not in settings and chosen is None and not checked:
        reporter.warning(
            "W0016",
            settings.span("strategy"),
            f"nothing says which of the {samples} outputs is the best; the first one is kept",
            help="add a `check` to the module, `select: vote`, or `select:` with the name of an fn that gives a score",
        )
    reasons = spec.reasons if inner is None else inner == "cot"
    return replace(spec, samples=samples, select=chosen, reasons=reasons)


def _selector(select: tree.Reference, declarations: Declarations, reporter: Reporter) -> tree.Extern | None:
    names = declarations.names
    if names.get(select.name, select.span) is not None or names.is_silent(select.name, select.span):
        return names.find(select.name, select.span, tree.Extern)
    reporter.unknown(
        "E0201",
        select.span,
        f"no fn is named `{select.name}`",
        select.name,
        ["vote", *names.of_kind(select.span, tree.Extern)],
        otherwise="`select` is `vote`, or the name of a declared fn that gives a score",
    )
    return None


def _check_selector(
    spec: ModuleSpec, found: tree.Extern, place: tree.Reference, declarations: Declarations, reporter: Reporter
) -> None:
    """A selector is an fn that takes inputs and outputs of the module by name, and gives back a score."""
    signature = declarations.signature(found)
    declared = Label(found.name.span, "declared here")
    if signature.kind != "fn":
        reporter.error(
            "E0204", place.span, f"`{place.name}` is a {signature.kind}; `select` needs an `fn`, which has no effects",
            secondary=[declared],
        )  # fmt: skip
    known = {field.name: field for field in (*spec.inputs, *spec.outputs)}
    for one in signature.inputs:
        if one.name not in known and not one.has_default:
            reporter.error(
                "E0302",
                place.span,
                f"`{place.name}` takes `{one.name}`, which `{spec.name}` has neither as an input nor as an output",
                secondary=[declared],
                help=f"it may take {listed(known)}",
            )
        elif one.name in known and not fits(known[one.name].type, one.type):
            reporter.error(
                "E0301",
                place.span,
                f"`{place.name}` takes `{one.name}` as `{one.type}`; in `{spec.name}` it is `{known[one.name].type}`",
                secondary=[declared],
            )
    if not any(fits(signature.result, wanted) for wanted in (FLOAT, BOOL)):
        reporter.error(
            "E0301",
            place.span,
            f"`{place.name}` gives back `{signature.result}`; a score is a number or a bool",
            secondary=[declared],
        )
