"""Enums: inline members, or one label a line of a file. Knows nothing of other declarations."""

from __future__ import annotations

import re
import unicodedata

from lmgraph.compiler.files import ProgramFiles
from lmgraph.compiler.reporter import Reporter, listed
from lmgraph.graph.types import EnumMember, EnumType
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Source, Span
from lmgraph.syntax import tree

RESERVED = frozenset(
    ["true", "false", "null", "if", "then", "else", "and", "or", "not", "in", "for", "where", "private", "catch"]
)
"""Words that cannot be written after a dot, so that a slug gets an underscore."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_enum(declaration: tree.Enum, files: ProgramFiles, reporter: Reporter) -> EnumType | None:
    """The enum's type, or None where its members are not known; problems are reported."""
    if declaration.source is not None:
        return _from_file(declaration, declaration.source, files, reporter)
    members: list[EnumMember] = []
    names: dict[str, Span] = {}
    labels: dict[str, Span] = {}
    for node in declaration.members:
        name = node.name.text
        label = name if node.label is None else node.label
        if name in names:
            _twice(reporter, node.name.span, f"`{declaration.name.text}` has two members `{name}`", names[name])
        elif not label.strip():
            reporter.error("E0503", node.span, f"the label of `{name}` is empty", help="a model has to write the label")
        elif label in labels:
            _twice(reporter, node.span, f"two members have the label {_quoted(label)}", labels[label])
        else:
            members.append(EnumMember(name, label, node.description))
        names.setdefault(name, node.name.span)
        labels.setdefault(label, node.span)
    return EnumType(declaration.name.text, tuple(members)) if members else None


def slug(label: str) -> str:
    """The label as a name: other characters than ASCII letters and digits become `_`; empty where none is left."""
    if _IDENTIFIER.fullmatch(label):
        plain = label
    else:
        folded = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode("ascii")
        plain = re.sub(r"[^A-Za-z0-9]+", "_", folded).strip("_")
    if plain in RESERVED:
        return f"{plain}_"
    return f"_{plain}" if plain[:1].isdigit() else plain


def _from_file(
    declaration: tree.Enum, source: tree.FileSource, files: ProgramFiles, reporter: Reporter
) -> EnumType | None:
    if source.format.text != "lines":
        reporter.unknown(
            "E0203",
            source.format.span,
            f"an enum is not read from `{source.format.text}`",
            source.format.text,
            ["lines"],
            otherwise='write `lines "labels.txt"`: a text file with one label a line',
        )
        return None
    text = files.text(source.path)
    if text is None:
        return None
    members: list[EnumMember] = []
    places: dict[str, Span] = {}
    names: set[str] = set()
    for number, span in _lines(text):
        label = text.text[span.start : span.end]
        if label in places:
            reporter.error(
                "E0503",
                span,
                f"the label {_quoted(label)} stands a second time",
                secondary=[Label(places[label], "first here"), Label(source.path.span, "the file is read here")],
                help="delete one of the two lines",
            )
            continue
        if not all(char.isprintable() for char in label):
            reporter.error(
                "E0503",
                span,
                "this label holds a control character",
                secondary=[Label(source.path.span, "the file is read here")],
            )
        places[label] = span
        members.append(EnumMember(_free(slug(label) or f"label_{number}", names), label))
    if not members:
        path = source.path
        reporter.error("E0503", path.span, f"`{path.value}` holds no label", help="write one label a line")
        return None
    return EnumType(declaration.name.text, tuple(members))


def _lines(text: Source) -> list[tuple[int, Span]]:
    """Number and place of each line that is not blank, without the spaces around its text."""
    found: list[tuple[int, Span]] = []
    start = 0
    for number, line in enumerate(text.text.split("\n"), start=1):
        if line.strip():
            first = start + len(line) - len(line.lstrip())
            found.append((number, Span(text.name, first, first + len(line.strip()))))
        start += len(line) + 1
    return found


def _free(name: str, taken: set[str]) -> str:
    """``name``, or with the first free number behind it: `c++` and `c#` become `c` and `c_2`."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def _twice(reporter: Reporter, span: Span, message: str, first: Span) -> None:
    reporter.error("E0202", span, message, secondary=[Label(first, "first here")], help="rename or delete one of them")


def _quoted(label: str) -> str:
    return f'"{label}"' if len(label) <= 40 else f'"{label[:37]}..."'


def unknown_member(enum: EnumType, name: str, span: Span, reporter: Reporter, declared: Span | None) -> None:
    """Reports a member that the enum does not have."""
    names = [member.name for member in enum.members]
    by_label = next((member.name for member in enum.members if member.label == name), None)
    shown = listed(names) if len(names) <= 6 else f"{', '.join(f'`{one}`' for one in names[:6])}, …"
    reporter.unknown(
        "E0307",
        span,
        f"`{enum.name}` has no member `{name}`",
        by_label or name,
        names,
        secondary=[Label(declared, f"`{enum.name}` is declared here")] if declared else (),
        otherwise=f"its members are {shown}",
    )
