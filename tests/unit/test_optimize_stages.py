"""`--with`: names in order, groups that are repeated, and what is said of a slip."""

from __future__ import annotations

import pytest

from lmgraph.cli.stages import MOST, parse_stages
from lmgraph.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("demos", ["demos"]),
        (" demos , mmgrpo ", ["demos", "mmgrpo"]),
        ("(a,b)x2", ["a", "b", "a", "b"]),
        ("( a , b ) x2", ["a", "b", "a", "b"]),
        ("(a)", ["a"]),
        ("(a,b)*2,c", ["a", "b", "a", "b", "c"]),
        ("d,(a,(b)x2)x2", ["d", "a", "b", "b", "a", "b", "b"]),
        ("x2,(x)x2", ["x2", "x", "x"]),
    ],
)
def test_stages_are_written_out(text: str, names: list[str]) -> None:
    assert parse_stages(text) == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,", "no name where one is expected at the end"),
        (",a", "no name where one is expected at character 1"),
        ("a,,b", "no name where one is expected at character 3"),
        ("()", "no name where one is expected at character 2"),
        ("", "no name where one is expected at the end"),
        ("(a,b", "a `(` that is never closed at the end"),
        ("a)", "a `)` without a `(` at character 2"),
        ("(a))x2", "a `)` without a `(` at character 4"),
        ("a b", "no comma before the next name at character 3"),
        ("a(b)", "no comma before the next name at character 2"),
        ("(a)x0", "`x0` after a group"),
        ("(a)x", "`x` after a group"),
        ("(a)3", "`3` after a group"),
        ("(a)x2x3", "`x2x3` after a group"),
        ("(" * 9 + "a" + ")" * 9, "too deep"),
        ("(a,b)x33", f"66 stages; at most {MOST}"),
        ("(a)x9999", f"9999 stages; at most {MOST}"),
    ],
)
def test_a_slip_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_stages(text)
    assert words in caught.value.message
    assert "(prompt,mmgrpo)x3" in str(caught.value.hint)
