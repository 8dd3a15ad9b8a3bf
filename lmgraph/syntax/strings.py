"""What the characters between quotes mean, and how to write a text between quotes: both ways, for both forms.

A string of one line and an instruction of several lines share their escapes; an instruction's indentation, the
blanks at the ends of its lines and the blank lines at its own ends are layout, not text. Knows nothing of the tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ESCAPES_IN_WORDS = r"`\\` `\"` `\n` `\t` `\r` `\u{1F600}`"

_BLANKS = " \t"
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|(.))", re.DOTALL)
_MEANINGS = {"\\": "\\", '"': '"', "n": "\n", "t": "\t", "r": "\r"}
_WRITTEN = {meaning: f"\\{letter}" for letter, meaning in _MEANINGS.items()}
_CONTROL = r"\x00-\x08\x0b-\x1f\x7f\ud800-\udfff"
_NEEDS_ESCAPE = re.compile(rf'[\\"\t\n{_CONTROL}]')
_NEEDS_ESCAPE_LONG = re.compile(rf'\\|"(?=""|\Z)|[{_CONTROL}]')


@dataclass(frozen=True, slots=True)
class BadEscape:
    """An escape that has no meaning. Offsets count from the start of the token."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unquoted:
    text: str
    bad: tuple[BadEscape, ...] = ()


def read_string(token: str) -> Unquoted:
    """The text of a one-line string; ``token`` has its quotes."""
    body = token[1:-1]
    return _unescape(body, 1) if "\\" in body else Unquoted(body)


def read_long_string(token: str) -> Unquoted:
    """The text of an instruction between triple quotes, freed of its layout."""
    body = token[3:-3]
    first, *rest = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    margin = min((_indent(line) for line in rest if line.strip(_BLANKS)), default=0)
    lines = [first.strip(_BLANKS), *(line[margin:].rstrip(_BLANKS) for line in rest)]
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    return Unquoted(_unescape("\n".join(lines), 0).text, _unescape(body, 3).bad)


def write_string(text: str) -> str:
    """``text`` as a one-line string, such that `read_string` gives it back."""
    return f'"{_NEEDS_ESCAPE.sub(_written, text)}"'


def write_long_string(text: str) -> list[str]:
    """The lines of an instruction, such that `read_long_string` gives ``text`` back under any indentation.

    One line where the text is one line, else the quotes stand on lines of their own.
    """
    lines = _NEEDS_ESCAPE_LONG.sub(_written, text).split("\n")
    if len(lines) > 1 and not lines[0]:
        lines[:2] = [f"\\n{lines[1]}"]
    if len(lines) > 1 and not lines[-1]:
        lines[-2:] = [f"{lines[-2]}\\n"]
    lines = [line[:-1] + _code_point(line[-1]) if line.endswith((" ", "\t")) else line for line in lines]
    filled = [index for index, line in enumerate(lines) if line]
    if filled and (len(lines) == 1 or all(lines[index][0] in _BLANKS for index in filled)):
        line = lines[filled[0]]
        lines[filled[0]] = _code_point(line[0]) + line[1:] if line[0] in _BLANKS else line
    return [f'"""{lines[0]}"""'] if len(lines) == 1 else ['"""', *lines, '"""']


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(_BLANKS))


def _unescape(body: str, offset: int) -> Unquoted:
    bad: list[BadEscape] = []

    def meaning(match: re.Match[str]) -> str:
        if match[1] is not None:
            number = int(match[1], 16)
            if 0 < number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF:
                return chr(number)
        elif match[2] in _MEANINGS:
            return _MEANINGS[match[2]]
        bad.append(BadEscape(match.start() + offset, match.end() + offset))
        return ""

    return Unquoted(_ESCAPE.sub(meaning, body), tuple(bad))


def _written(match: re.Match[str]) -> str:
    return _WRITTEN.get(match[0]) or _code_point(match[0])


def _code_point(char: str) -> str:
    return f"\\u{{{ord(char):X}}}"
