"""Files of program text from disk: UTF-8 or a clear refusal. Knows nothing of the language."""

from __future__ import annotations

from pathlib import Path

from lmgraph.errors import ConfigError
from lmgraph.source.text import Source

MAX_BYTES = 4_000_000
"""A program is far smaller; more is some other file."""

_SIGNATURES = (
    (b"\x1f\x8b", "gzip data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a compiled program"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)


def read_source(path: Path, name: str | None = None) -> Source:
    """The program text at ``path``; ``name`` is what messages call it (default: the path as given).

    A byte order mark is dropped; line ends stay as they are.

    Raises:
        ConfigError: there is no such file, it cannot be read, is too large, or is not UTF-8 text.
    """
    shown = name if name is not None else str(path)
    try:
        if path.is_dir():
            raise ConfigError(f"{shown} is a folder; expected a program file", hint=_programs_within(path, shown))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{shown}: there is no such file", hint=_programs_beside(path)) from None
    except PermissionError:
        raise ConfigError(
            f"{shown}: no permission to read this file", hint="change its permissions or choose another file"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{shown}: the file cannot be read: {reason}", hint="check the path and the disk it is on"
        ) from None
    return Source(shown, _decoded(data, shown), path)


def _decoded(data: bytes, shown: str) -> str:
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{shown}: the file is larger than {MAX_BYTES:,} bytes, the most a program may have",
            hint="check that this is the program; data belongs in files that the program names",
        )
    kind = next((words for start, words in _SIGNATURES if data.startswith(start)), None)
    if kind is None and b"\0" in data:
        kind = "binary data"
    if kind is not None:
        raise ConfigError(
            f"{shown}: expected a program in UTF-8 text, got {kind}",
            hint="choose the .lmg file, or save the text as UTF-8",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{shown}: expected UTF-8 text, got byte 0x{data[error.start]:02X} on line {line} "
            f"(byte {error.start + 1} of the file)",
            hint="save the file as UTF-8 in your editor",
        ) from None


def _programs_within(folder: Path, shown: str) -> str:
    found = _listing(folder)
    return f"name a file in it, such as {Path(shown) / found[0]}" if found else "name a .lmg file"


def _programs_beside(path: Path) -> str:
    found = _listing(path.parent)
    if not found:
        return "check the path; a program's name ends in .lmg"
    return f"check the path; beside it there is {', '.join(found)}"


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.glob("*.lmg") if entry.is_file())[:3]
    except OSError:
        return []
