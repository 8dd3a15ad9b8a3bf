"""`lmgraph explain CODE`: what a diagnostic's code means, with an example that earns it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lmgraph.cli import common
from lmgraph.errors import ConfigError


def explain_command(
    code: Annotated[
        str | None, typer.Argument(help="A code, such as E0302, or a lint's name; none lists all of them.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what a diagnostic's code means and how to mend the problem."""
    from lmgraph.source.codes import CODES
    from lmgraph.source.lint_levels import LINTS
    from lmgraph.source.suggest import suggest

    if code is None:
        if as_json:
            common.print_json([asdict(info) for _, info in sorted(CODES.items())])
        else:
            common.print_text("\n".join(f"{name}  {info.title}" for name, info in sorted(CODES.items())))
        return
    info = CODES.get(LINTS.get(code.lower(), code.upper()))
    if info is None:
        near = suggest(code.upper(), CODES) or suggest(code.lower(), LINTS)
        raise ConfigError(
            f"There is no diagnostic code `{code}`.{f' Did you mean {near[0]}?' if near else ''}",
            hint="`lmgraph explain` lists all codes",
        )
    if as_json:
        common.print_json(asdict(info))
        return
    level = [f'A lint; in lmgraph.toml: [lints] {info.name} = "off", "warning" or "error".'] if info.name else []
    parts = [f"{info.code}: {info.title}", info.explanation, *level, "For example:", _indented(info.example)]
    if info.learned is not None:
        parts += ["with parameters that were learned on:", _indented(info.learned)]
    for name, text in info.files:
        if text.strip():
            parts += [f"with {name} beside it:", _indented(text)]
    common.print_text("\n\n".join(parts))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.strip().splitlines())
