"""`lmgraph diff`: what two versions of a program have learned differently, module by module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmgraph.cli import common

if TYPE_CHECKING:  # these would be imported by `lmgraph diff --help`
    from lmgraph.optimize.difference import Difference, ModuleDifference
    from lmgraph.program.params import AdapterRef, Demo

LEARNED_FOR = {
    "interface": "inputs and outputs",
    "behaviour": "what the author says",
    "lm": "model or clearance",
    "graph": "place in the flow",
    "data": "rows",
}
"""What each fingerprint is of."""


def diff_command(
    first: Annotated[Path, typer.Argument(help="An artifact folder, or a .lmg file.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="Another.", metavar="B")],
    as_json: common.JsonFlag = False,
) -> None:
    """Show how the instructions, demos and adapters of two artifacts differ."""
    from lmgraph.optimize.difference import difference

    found = difference(common.load_program(first), common.load_program(second), (str(first), str(second)))
    if as_json:
        common.print_json(found.to_data())
    else:
        common.print_text(_text(found, str(first), str(second)))


def _text(found: Difference, first: str, second: str) -> str:
    if found.is_empty:
        return "no difference"
    lines = [] if found.same_graph else ["the programs differ: other graphs"]
    lines += [f"module {name}: only in {first}" for name in found.only_first]
    lines += [f"module {name}: only in {second}" for name in found.only_second]
    lines += [f"{name}: {_change(pair)}" for name, pair in found.counts.items()]
    for module in found.modules:
        lines += ["", f"module {module.module}", *_module(module)]
    return "\n".join(lines).strip("\n")


def _module(module: ModuleDifference) -> list[str]:
    lines = [f"  {change}" for change in module.fields]
    if module.instruction is not None:
        lines += ["  instruction:", *(f"    {line}" for line in module.instruction.splitlines())]
    for name, (before, after) in module.descriptions.items():
        lines.append(f"  description of {name}: {_quoted(before)} -> {_quoted(after)}")
    if module.demos_added or module.demos_removed:
        lines.append(f"  demos: {len(module.demos_removed)} removed, {len(module.demos_added)} added")
        lines += [f"    - {_demo(demo)}" for demo in module.demos_removed]
        lines += [f"    + {_demo(demo)}" for demo in module.demos_added]
    if module.demos_moved:
        lines.append("  demos: the same in another order")
    for name, pair in module.settings.items():
        lines.append(f"  {name}: {_change(pair)}")
    if module.adapters is not None:
        lines.append("  adapter: " + " -> ".join(_adapter(ref) for ref in module.adapters))
    if module.fingerprints:
        told = [f"{name} ({LEARNED_FOR[name]})" for name in module.fingerprints]
        lines.append(f"  learned for another {', '.join(told)}")
    return lines


def _change(pair: tuple[Any, Any]) -> str:
    return " -> ".join("the author's" if value is None else str(value) for value in pair)


def _quoted(text: str | None) -> str:
    return "the author's" if text is None else json.dumps(text, ensure_ascii=False)


def _demo(demo: Demo) -> str:
    sides = [json.dumps(dict(side), ensure_ascii=False) for side in (demo.inputs, demo.outputs)]
    return f"{' -> '.join(sides)}  ({demo.origin}{f', {demo.example}' if demo.example else ''})"


def _adapter(ref: AdapterRef | None) -> str:
    return "none" if ref is None else f"{ref.key} on {ref.base_model} (sha256 {ref.sha256[:12]})"
