"""The catalogue of codes is complete and readable."""

from __future__ import annotations

import re

from lmgraph.source.codes import CODES


def test_codes_are_unique_and_explained() -> None:
    for code, info in CODES.items():
        assert info.code == code
        assert re.fullmatch(r"[EW]\d{4}", code)
        assert info.title
        assert info.title == info.title.rstrip(".")
        assert info.explanation.endswith((".", "`"))
        assert len(info.explanation) > 20
        assert info.example
