"""`lmgraph check --fix`: does what safe fixes of lints say, round after round, until nothing is left to do.

A fix is safe where the program means the same without what it deletes, unused calls aside. What still would make the
program worse, or would delete a comment, is left undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmgraph.compiler.compile import Compilation, compile_source
from lmgraph.compiler.kept import Kept
from lmgraph.source.diagnostic import Diagnostic, Fix
from lmgraph.source.fixes import apply_fixes
from lmgraph.source.lint_levels import Levels
from lmgraph.source.text import Source
from lmgraph.syntax.comments import Margin


@dataclass(frozen=True, slots=True)
class Fixed:
    source: Source
    """With its new text."""
    compilation: Compilation
    """Of the new text: what is left."""
    applied: tuple[Diagnostic, ...]
    """What was mended, in order; places are those of the round that mended it."""


def fix_program(source: Source, *, root: Path | None, levels: Levels | None = None) -> Fixed:
    """Mends what can be mended in the program's own file. One with a syntax error stays as it is.

    Each round deletes something, or learns what not to delete. Deleting may leave something else without use: a chain
    of values takes a round each.
    """
    kept = Kept()

    def compiled(one: Source) -> Compilation:
        return compile_source(one, root=root, levels=levels, steps=kept)

    compilation = compiled(source)
    done: list[Diagnostic] = []
    refused: set[Fix] = set()
    while found := [one for one in _mendable(source, compilation) if one.fix not in refused]:
        mended, applied = _mended(source, found)
        after = compiled(mended)
        if _problems(after) > _problems(compilation):
            if len(applied) == 1:
                refused.add(applied[0])
                continue
            # Together they make it worse: the first one alone, the others in later rounds.
            mended, applied = _mended(source, found[:1])
            after = compiled(mended)
            if _problems(after) > _problems(compilation):
                refused.update(applied)
                continue
        done += [one for one in found if one.fix in applied]
        # Places change with the text.
        source, compilation, refused = mended, after, set()
    return Fixed(source, compilation, tuple(done))


def _mendable(source: Source, compilation: Compilation) -> list[Diagnostic]:
    margin = Margin(source.text)
    return [
        one
        for one in compilation.diagnostics
        if one.fix is not None
        and one.fix.safe
        and one.fix.span.file == source.name
        and not margin.holds(one.fix.span.start, one.fix.span.end)
    ]


def _mended(source: Source, found: Sequence[Diagnostic]) -> tuple[Source, list[Fix]]:
    text, applied = apply_fixes(source.text, [one.fix for one in found if one.fix is not None])
    return Source(source.name, text, source.path), applied


def _problems(compilation: Compilation) -> int:
    """Errors besides lints that are as bad as errors."""
    return sum(one.severity == "error" and not one.code.startswith("W") for one in compilation.diagnostics)
