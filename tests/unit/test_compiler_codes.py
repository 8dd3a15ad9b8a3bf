"""Every code that the compiler can report is shown by a golden test, and the catalogue is fit to print."""

from __future__ import annotations

import re
from pathlib import Path

from lmgraph.source.codes import CODES

GOLDEN = Path(__file__).parent.parent / "golden"
PACKAGE = Path(__file__).parents[2] / "lmgraph"
COMPILER = PACKAGE / "compiler"
LEARNED = PACKAGE / "program" / "refusals.py"
"""What is reported where learned parameters are put onto a program."""
SERIES = ("E02", "E03", "E04", "E05", "E07", "E08", "W")


def ours(codes: object) -> set[str]:
    assert isinstance(codes, set | dict)
    return {code for code in codes if code.startswith(SERIES)}


def test_every_code_has_a_golden() -> None:
    shown = {code for file in GOLDEN.glob("*.md") for code in re.findall(r"\[([EW]\d{4})\]:", file.read_text("utf-8"))}
    assert ours(CODES) - shown == set()


def test_every_code_that_is_reported_is_in_the_catalogue() -> None:
    texts = [file.read_text("utf-8") for file in (*COMPILER.rglob("*.py"), LEARNED)]
    reported = {code for text in texts for code in re.findall(r'"([EW]\d{4})"', text)}
    assert reported - {"E0108"} == ours(CODES)  # of the syntax, and of files that import one another too deeply


def test_titles_are_lower_case_and_explanations_are_sentences() -> None:
    for info in CODES.values():
        assert info.title == info.title.strip()
        assert not info.title.endswith(".")
        assert info.explanation.endswith(".") or info.explanation.endswith(".`"), info.code
