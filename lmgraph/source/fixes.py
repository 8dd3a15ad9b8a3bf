"""Applies the edits of fixes to a text. What stands alone on its lines goes with them; comments stay."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lmgraph.source.diagnostic import Fix

_REST_OF_LINE = re.compile(r"[ \t]*(?:\r?\n|\Z)")
_BLANKS = re.compile(r"[ \t]*")


def apply_fixes(text: str, fixes: Iterable[Fix]) -> tuple[str, list[Fix]]:
    """The text after the fixes, and those that were applied: of fixes that touch one another only the first is."""
    applied: list[Fix] = []
    parts: list[str] = []
    done = 0
    for fix in sorted(fixes, key=lambda one: (one.span.start, one.span.end)):
        start, end = _with_its_line(text, fix)
        if start < done:
            continue
        parts += [text[done:start], fix.replacement]
        done = end
        applied.append(fix)
    return "".join([*parts, text[done:]]), applied


def _with_its_line(text: str, fix: Fix) -> tuple[int, int]:
    """What the fix takes away: where it deletes all that stands on its lines, the lines; else the blanks behind it."""
    start, end = fix.span.start, fix.span.end
    if fix.replacement:
        return start, end
    line = text.rfind("\n", 0, start) + 1
    alone = not text[line:start].strip(" \t")
    rest = _REST_OF_LINE.match(text, end)
    if alone and rest is not None:
        return line, rest.end()
    blanks = _BLANKS.match(text, end)
    assert blanks is not None
    if rest is not None:  # it ends its line: the blanks before it go
        return line + len(text[line:start].rstrip(" \t")), end
    return start, blanks.end()
