"""Escapes and the layout of instructions."""

from __future__ import annotations

import pytest

from lmgraph.syntax.strings import BadEscape, read_long_string, read_string, write_long_string, write_string


@pytest.mark.parametrize("escape", [r"\q", r"\u{110000}", r"\u{D800}", r"\u{0}", r"\u{}", r"\u41", r"\x41"])
def test_escapes_without_a_meaning(escape: str) -> None:
    found = read_string(f'"ab{escape}"')
    assert [bad.start for bad in found.bad] == [3]


def test_a_bad_escape_says_where_it_stands() -> None:
    assert read_string(r'"a\q"').bad == (BadEscape(2, 4),)
    assert read_long_string('"""\n   a\\q\n"""').bad == (BadEscape(8, 10),)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ('"""One line."""', "One line."),
        ('"""  One line.  """', "One line."),
        ('"""\n  Two\n  lines.\n  """', "Two\nlines."),
        ('"""\n  Two\n    more\n  back\n"""', "Two\n  more\nback"),
        ('"""First\n   second\n   """', "First\nsecond"),
        ('"""\n\n  A\n\n  B\n\n"""', "A\n\nB"),
        ('"""\r\n  A\r\n  B\r\n"""', "A\nB"),
        ('"""\n\tA\n\t\tB\n"""', "A\n\tB"),
        (r'"""say \"""quoted\""" text"""', 'say """quoted""" text'),
        (r'"""\n kept"""', "\n kept"),
        ('""""""', ""),
    ],
)
def test_instructions_are_freed_of_their_layout(token: str, text: str) -> None:
    assert read_long_string(token).text == text


def test_written_forms() -> None:
    assert write_string('a "b"\n\\') == r'"a \"b\"\n\\"'
    assert write_long_string("one") == ['"""one"""']
    assert write_long_string("one\ntwo") == ['"""', "one", "two", '"""']
    assert write_long_string('ends in "') == [r'"""ends in \""""']
