"""Writes docs/reference/diagnostics.md anew from the catalogue of codes.

    python docs/internals/diagnostics.py

A test fails where the page says something else than the catalogue and the compiler do.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from lmgraph.compiler.compile import compile_source
from lmgraph.compiler.learned import learned_diagnostics
from lmgraph.program import AdapterRef, Demo, Program
from lmgraph.program.fingerprints import lm_of
from lmgraph.program.rebind import rebind
from lmgraph.program.values import least_value
from lmgraph.source import Source
from lmgraph.source.code_info import CodeInfo
from lmgraph.source.codes import CODES
from lmgraph.source.render import render

PAGE = Path(__file__).parents[1] / "reference" / "diagnostics.md"
NAME = "program.lmg"
SERIES = {
    "E01": "syntax",
    "E02": "names",
    "E03": "types",
    "E04": "flows",
    "E05": "Python and data files",
    "E06": "context and budget",
    "E07": "information flow",
    "E08": "learned parameters",
    "W": "lints",
}

HEAD = """\
# Diagnostics

Every problem that the compiler reports has a code. `lmgraph explain E0201` prints what is here about one of them,
`lmgraph check program.lmg` reports every problem of a program at once, and `lmgraph check --format json` does so for
other programs: code, severity, places in lines, columns and offsets, notes, and the edit that would mend it.
`lmgraph check --fix` makes the edits of lints that are safe ([more](cli.md#check)).

An error (E) keeps a program from compiling, or learned parameters from [loading](../guide/artifacts.md). A lint (W) is
a warning: the program compiles, and something in it is odd.

How much a lint matters to a project is said in `lmgraph.toml`, by code or by name:

```toml
[lints]
unused_value = "error"
W0012 = "off"
```

`"off"` keeps silent about it, `"warning"` is what each lint is by itself, and with `"error"` the program does not
compile. Every command that compiles reads the table beside the program, or else in the current folder. Errors have no
levels.

This page is written by `python docs/internals/diagnostics.py`.

| series | about |
|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [f"| [{series}](#{_anchor(series)}) | {about} |\n" for series, about in SERIES.items()]
    return HEAD + "".join(rows) + "".join(_section(series) for series in SERIES)


def _anchor(series: str) -> str:
    return f"{series} {SERIES[series]}".lower().replace(" ", "-")


def _section(series: str) -> str:
    codes = [info for code, info in CODES.items() if code.startswith(series)]
    return f"\n## {series} {SERIES[series]}\n" + "".join(part for info in codes for part in _code(info))


def _code(info: CodeInfo) -> Iterator[str]:
    explanation = textwrap.fill(info.explanation, 120, break_long_words=False, break_on_hyphens=False)
    yield f"\n### {info.code}: {info.title}\n\n{explanation}\n"
    if info.name:
        yield f"\nIn `lmgraph.toml`: `{info.name}`.\n"
    yield f"\n```lmg\n{info.example.strip()}\n```\n"
    if info.learned is not None:
        yield f"\nwith parameters that were learned on\n\n```lmg\n{info.learned.strip()}\n```\n"
    for name, text in info.files:
        if text.strip():
            yield f"\nand in `{name}`\n\n```{'python' if name.endswith('.py') else 'lmg'}\n{text.strip()}\n```\n"
    rendered = reported(info)
    if rendered:
        yield f"\n```text\n{rendered.strip()}\n```\n"


def reported(info: CodeInfo) -> str:
    """What the compiler says of the example; nothing where it stands for a text that a page cannot hold."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in info.files:
            (root / name).write_text(text, encoding="utf-8")
        compiled = compile_source(Source(NAME, info.example), root=root)
    if info.learned is not None:
        found = learned_diagnostics(rebind(learned(info.learned), compiled.require()), compiled)
        return render(found, compiled.sources)
    if info.code not in [one.code for one in compiled.diagnostics]:
        return ""
    return render(compiled.diagnostics, compiled.sources)


def learned(text: str) -> Program:
    """The program ``text`` as an optimizer may leave it: a demo for each module, an adapter where it names a model."""
    program = Program.default(compile_source(Source(NAME, text), root=None).require())
    params = program.params
    for module in program.graph.modules:
        inputs, outputs = (
            {one.name: least_value(one.type) for one in side} for side in (module.inputs, module.outputs)
        )
        params = params.with_module(module.name, demos=(Demo(inputs, outputs),))
        model = lm_of(program.graph, module).model
        if model is not None:
            params = params.with_adapter(AdapterRef("shared", 1, Path("adapter"), model, "0" * 64), (module.name,))
    return program.with_params(params)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
