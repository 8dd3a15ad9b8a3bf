"""Diagnostics on a terminal and as JSON."""

from __future__ import annotations

import json

from lmgraph.source import Diagnostic, Fix, Label, Source, Span
from lmgraph.source.render import compile_error, in_source_order, render, to_json

TEXT = 'edition 1\n\n\tmodule "漢字" x\n' + "y" * 400 + " here " + "z" * 400 + "\nlast\n"
SOURCE = Source("a.lmg", TEXT)
SOURCES = {"a.lmg": SOURCE}


def at(words: str, message: str = "this") -> Label:
    start = TEXT.index(words)
    return Label(Span("a.lmg", start, start + len(words)), message)


def one(primary: Label, **more: object) -> Diagnostic:
    return Diagnostic("E0101", "a title", primary, **more)  # type: ignore[arg-type]


def test_nothing_to_say() -> None:
    assert render([], SOURCES) == ""


def test_carets_stand_under_wide_characters_and_tabs() -> None:
    lines = render([one(at("x"))], SOURCES).split("\n")
    shown = next(index for index, line in enumerate(lines) if "漢字" in line)
    columns = lines[shown][: lines[shown].rindex("x")].replace("漢字", "____")
    assert lines[shown + 1].index("^") == len(columns)


def test_long_lines_are_cut_around_the_place() -> None:
    text = render([one(at("here"))], SOURCES)
    assert "here" in text
    assert max(len(line) for line in text.split("\n")) < 170
    assert text.count("…") == 2


def test_labels_in_several_files_and_lines() -> None:
    other = Source("b.lmg", "one\ntwo\n")
    diagnostic = one(
        at("last"),
        secondary=(at("edition", "first"), Label(Span("b.lmg", 4, 7), "there"), Label(Span("gone.lmg", 0, 1), "lost")),
        notes=("a note\nof two lines",),
        help="do this",
    )
    text = render([diagnostic], {**SOURCES, "b.lmg": other})
    assert text.index("first") < text.index("^^^^ this") < text.index("::: b.lmg:2:1") < text.index("::: gone.lmg")
    assert "..." in text
    assert "= note: a note\n" in text
    assert text.endswith("= help: do this\n\n1 error\n")


def test_without_help_the_code_is_the_next_step() -> None:
    assert "`lmgraph explain E0101` tells more" in render([one(at("last"))], SOURCES)


def test_fix_shows_the_mended_line() -> None:
    label = at("last")
    text = render([one(label, fix=Fix(label.span, "first", "write `first`"))], SOURCES)
    assert "= fix: write `first`\n" in text
    assert "\n         first\n" in text


def test_counts() -> None:
    error, warning = one(at("last")), one(at("last"), severity="warning")
    assert render([error, error, warning], SOURCES).endswith("2 errors, 1 warning\n")
    assert "warning[E0101]" in render([warning], SOURCES)


def test_colour_is_a_choice() -> None:
    assert "\x1b[" not in render([one(at("last"))], SOURCES)
    coloured = render([one(at("last"))], SOURCES, color=True)
    assert "\x1b[31m" in coloured
    assert coloured.count("\x1b[0m") > 3


def test_control_characters_never_reach_the_terminal() -> None:
    source = Source("a\x1b[31m.lmg", "bad \x1b[31m \x07 \ud800\n")
    diagnostic = Diagnostic("E0110", "t\x1b", Label(Span(source.name, 4, 5), "m\x07"))
    text = render([diagnostic], {source.name: source})
    assert "\x1b" not in text
    assert "\x07" not in text
    text.encode("utf-8")


def test_places_beyond_the_text_are_drawn_at_its_end() -> None:
    assert "a.lmg:6:1" in render([one(Label(Span("a.lmg", 99_999, 100_000), "end"))], SOURCES)
    assert "this" in render([one(Label(Span("a.lmg", 5, len(TEXT)), "this"))], SOURCES)


def test_json_has_lines_columns_and_offsets() -> None:
    label = at("x")
    data = to_json([one(label, fix=Fix(label.span, "y", "write y"), help="h")], SOURCES)
    assert json.loads(json.dumps(data)) == data
    assert data[0]["primary"]["range"]["start"] == {"offset": label.span.start, "line": 3, "column": 14}
    assert data[0]["fix"]["replacement"] == "y"
    assert data[0]["severity"] == "error"
    assert to_json([one(Label(Span("gone.lmg", 3, 4), "m"))], {})[0]["primary"]["range"]["start"] == {"offset": 3}


def test_errors_come_in_source_order() -> None:
    later, sooner = one(at("last")), one(at("edition"))
    assert in_source_order([later, sooner]) == [sooner, later]
    error = compile_error([later, sooner], SOURCES)
    assert error.diagnostics == (sooner, later)
    assert "2 errors" in str(error)
